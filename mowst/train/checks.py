r"""What training checks before it begins, and what a resumed run must have in common with it."""

import logging
import zlib
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from mowst.nn.evaluating import evaluating
from mowst.nn.mowst import EXPERTS, PARTS, Mowst
from mowst.nn.saving import describe
from mowst.nn.signature import make_graph, takes_edges
from mowst.nn.wrappers import unwrap
from mowst.task import GraphTask
from mowst.train.config import TrainConfig
from mowst.train.distributed import count_processes
from mowst.train.gate_fit import check_validation_nodes
from mowst.train.inputs import TaskInputs
from mowst.train.methods import Method
from mowst.train.methods.method import can_learn

logger = logging.getLogger(__name__)


def check_types(model: Any, task: Any, config: Any) -> None:
    r"""Raises a :obj:`TypeError` if an argument of :func:`~mowst.train.fit` is of another type."""
    if not (isinstance(model, Mowst) and isinstance(task, GraphTask)):
        given = f"{type(model).__name__} and {type(task).__name__}"
        raise TypeError(
            f"fit trains a Mowst on a GraphTask, or on a PyG Data object with masks, got {given}"
        )
    if not isinstance(config, TrainConfig):
        raise TypeError(
            f"config must be a TrainConfig, such as TrainConfig(lr=0.01), got {config!r}"
        )


@torch.no_grad()
def check_model(model: Mowst, inputs: TaskInputs, method: Method, config: TrainConfig) -> None:
    r"""Runs each expert once on what training may see, which also initializes lazy modules.

    Raises:
        ValueError: If an expert does not fit the task, or both experts share a parameter.
        FloatingPointError: If its logits are not finite.
    """
    task = inputs.task
    if method.has_gate and config.gate_fit == "validation":
        check_validation_nodes(task, config.gate_folds)
    _check_shared(model)
    # A method that has nothing to train raises here, before anything is written.
    method.next_stage(model, task.visible, config, [])
    for name in method.experts:
        if not can_learn(getattr(model, name)):
            logger.warning(
                "the %s expert has no learnable parameters: its stages are skipped", name
            )
    if model.multilabel != task.multilabel:
        kind = "several labels" if task.multilabel else "one class"
        raise ValueError(
            f"the nodes of '{task.name}' have {kind} each: build the model with "
            f"multilabel={task.multilabel}"
        )
    with evaluating(model):
        for name in EXPERTS:
            expert = getattr(model, name)
            # An expert that is not trained is saved with the others, so it must not stay lazy.
            if name not in method.experts and not any(map(is_lazy, expert.parameters())):
                continue
            _check_inductive(name, expert, task, config)
            logits = _run_once(model, name, inputs.visible)
            if logits.size(1) != task.num_classes:
                raise ValueError(
                    f"the {name} expert returns {logits.size(1)} classes, the task '{task.name}' "
                    f"has {task.num_classes}: build it with out_channels={task.num_classes}"
                )
            count = int((~logits.isfinite()).sum())
            if count > 0:
                raise FloatingPointError(
                    f"{count} logits of the {name} expert are not finite before training"
                )
            if method.has_gate and name == "weak":
                model.confidence(logits, inputs.visible.x.x)


def _check_shared(model: Mowst) -> None:
    names = {id(value): name for name, value in model.weak.named_parameters()}
    for name, value in model.strong.named_parameters():
        if value.requires_grad and id(value) in names:
            raise ValueError(
                f"the experts share a parameter (weak.{names[id(value)]} is strong.{name}), but "
                "one learns while the other is frozen: give each its own, such as "
                "copy.deepcopy(model.weak)"
            )


def _run_once(model: Mowst, name: str, inputs: TaskInputs) -> torch.Tensor:
    try:
        return model.logits(name, inputs.x, inputs.graph)
    except Exception as error:
        x = inputs.x.x
        error.add_note(
            f"by the {name} expert {getattr(model, name)!r} on x of {list(x.shape)}, {x.dtype}"
        )
        raise


def _check_inductive(
    name: str, expert: torch.nn.Module, task: GraphTask, config: TrainConfig
) -> None:
    expert = unwrap(expert)
    if getattr(expert, "inductive", True):
        return
    kind = type(expert).__name__
    if task.inductive:
        raise ValueError(
            f"the {name} expert {kind} has values for each node, and '{task.name}' is inductive: "
            "its test nodes are unseen in training; choose another expert, or inductive=False"
        )
    if config.batches != "full" and takes_edges(expert):
        raise ValueError(
            f"the {name} expert {kind} has values for each node and predicts all nodes at once, "
            f"not batches={config.batches!r}: choose another expert, or batches='full'"
        )


def describe_inputs(model: Mowst, task: GraphTask, config: TrainConfig) -> dict[str, Any]:
    r"""Returns what a resumed run must have in common with the one that began."""
    data, weights = task.data, task.class_weights
    described = {
        "data": task.name,
        "metric": str(task.metric),
        "inductive": task.inductive,
        "class weights": None if weights is None else weights.tolist(),
        "nodes": task.num_nodes,
        "edges": data.num_edges,
        "features": task.num_features,
        "checksum of labels and splits": _checksum(
            data.y, *(task.masks[split] for split in sorted(task.masks))
        ),
        "checksum of the graph": _checksum(
            data.x, data.edge_index, data.edge_weight, *make_graph(model, data).tensors.values()
        ),
        "what may be mixed": list(model.mixes),
        "detach_dispersion": model.detach_dispersion,
    }
    for name in PARTS:
        described[name] = describe(getattr(model, name))
    if config.batches != "full":
        described["batches per step"] = config.batches_per_step or count_processes()
    return described


def _checksum(*tensors: Any) -> int:
    found = 0
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
            found = zlib.crc32(values.numpy().data, found)
    return found


def list_shapes(state: dict[str, Any]) -> dict[str, list[int]]:
    r"""Returns the shapes of the tensors in a state dict."""
    return {
        name: list(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)
    }
