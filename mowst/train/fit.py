r"""Training in one call."""

import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from os import PathLike
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from mowst.nn.cascade import Cascade
from mowst.nn.contract import takes_edges
from mowst.nn.evaluating import evaluating
from mowst.nn.saving import describe
from mowst.task import GraphTask
from mowst.train.alternation import Training
from mowst.train.answers import expert_logits
from mowst.train.batches import check_sampler
from mowst.train.callbacks import Callback
from mowst.train.config import MIXTURES, TrainConfig, check_method, make_config
from mowst.train.distributed import agreed, check_processes, from_first, in_any, is_first, num_processes, share_state
from mowst.train.memory import check_precision, recomputing
from mowst.train.run_folder import RunFolder, refuse_differences
from mowst.train.scores import FitResult, score_expert, score_model
from mowst.train.stacking import check_validation_nodes


def fit(
    model: Cascade,
    task: GraphTask,
    method: str = "mowst",
    *,
    device: torch.device | str | None = None,
    run_dir: RunFolder | str | PathLike[str] | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    callbacks: Sequence[Callback] = (),
    reset: bool = False,
    **settings: Any,
) -> FitResult:
    r"""Trains a model on a task and leaves the selected state in it, in evaluation mode.

    .. code-block:: text

        mowst        pretraining, then rounds of
                       a weak turn:   the weak expert and the gate learn on L, the strong expert is frozen
                       a strong turn: the strong expert learns on L, the weak expert and the gate are frozen
        mowst-star   pretraining, then all parts learn on L* together (or in such turns: in_turns=True)
        weak         the weak expert alone, on cross-entropy
        strong       the strong expert alone, on cross-entropy

    A cascade of K experts has one turn for each in a round, with its confidence; the name of an expert trains it alone.

    with the losses :func:`~mowst.loss.mowst_loss` :math:`L` and :func:`~mowst.loss.mowst_star_loss`
    :math:`L^{\star}` of the `"Mixture of Weak & Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_ paper.
    A turn keeps its best epoch (by :obj:`select`), or, if it reached nothing better than what was there, leaves
    experts, gate and optimiser as they were. After pretraining and after each turn :func:`~mowst.train.stack` fits the
    confidences to the validation nodes and chooses who answers, experts alone included; the turn is kept if the
    cross-validated loss falls by more than one standard error of the paired difference. With :obj:`gate_fit="train"`
    the weak turns train the confidence, as in the paper, and :obj:`select` also chooses at the end among the turns'
    states and the pretrained experts alone.

    Called by several processes of one :mod:`torch.distributed` group, in each with the same arguments, it trains one
    model: every process computes its share of the batches of each step, the first one writes, and all return the same.

    Of an inductive task, training and all choices see :attr:`~mowst.task.GraphTask.visible` alone.

    Training starts from the model's current parameters: call :func:`mowst.seed_everything` before building the
    model to repeat a run to the bit.

    Args:
        model (Mowst or Cascade): the model.
        task (GraphTask): the graph, splits and metric.
        method (str, optional): :obj:`"mowst"`, :obj:`"mowst-star"`, or the name of an expert: :obj:`"weak"`,
            :obj:`"strong"`. (default: :obj:`"mowst"`)
        device (str, optional): where to train; :obj:`None` takes the device that the model is on.
            (default: :obj:`None`)
        run_dir (str, optional): a folder to write settings, history, scores and model to. (default: :obj:`None`)
        resume (bool, optional): if set to :obj:`True`, goes on with the run that was killed or stopped in
            :obj:`run_dir`, to the results that it would have had, to the bit (on a CPU, with as many threads). It wants
            the same model, built anew, and the same task, method and settings. (default: :obj:`False`)
        checkpoint_seconds (float, optional): the time between two checkpoints of a run with a folder, beside the one at
            the beginning of each turn. (default: :obj:`60.0`)
        callbacks (list, optional): called with the record of every evaluated epoch, such as
            :class:`~mowst.train.callbacks.ProgressBar`. (default: :obj:`()`)
        reset (bool, optional): if set to :obj:`True`, resets the model's parameters first. (default: :obj:`False`)
        **settings (optional): fields of :class:`~mowst.train.config.TrainConfig`.

    Raises:
        TypeError: if the model is no Cascade or the task no GraphTask.
        ValueError: if the method or a setting is unknown or impossible, or the model does not fit the task (nor does an
            expert with weights for each node an inductive one); if a run that is resumed was begun otherwise.
        InterruptedError: if the run folder was asked to stop the run; a checkpoint was written.
        ImportError: if neighbours shall be sampled and PyG's sampler is not installed.
        BlockingIOError: if another process trains in the same folder.
        ConnectionError: if another process of the group ended; the run goes on from its last checkpoint.
        FloatingPointError: if a number becomes infinite or NaN; names the epoch, the turn and the first such tensor.
            The best state so far is then in the model.
    """
    if not (isinstance(model, Cascade) and isinstance(task, GraphTask)):
        given = f"{type(model).__name__} and {type(task).__name__}"
        raise TypeError(f"fit trains a Mowst or Cascade on a GraphTask (GraphTask.from_data makes one), got {given}")
    config = make_config(**settings)
    method = check_method(method, config, model.expert_names)
    if isinstance(run_dir, str | PathLike):
        run_dir = RunFolder(run_dir, {"method": method, **asdict(config)})
    if device is None:
        device = next((p.device for p in model.parameters()), task.data.x.device)
    model.to(device)
    task = task if task.data.x.device == torch.device(device) else task.to(device)
    check_processes(config.batches, config.batches_per_step)
    check_sampler(config)
    check_precision(config.precision, task.data.x.device)
    _check_fit(model, task, _learning(model, method), config)
    with _held(run_dir):
        made_on = _fingerprint(model, task) if run_dir else {}
        if config.batches != "full":
            made_on["batches per step"] = config.batches_per_step or num_processes()
        state = _begin(run_dir, resume, model, made_on)
        if reset:
            model.reset_parameters()
        share_state(model)
        torch.set_rng_state(agreed(torch.get_rng_state()))

        history = state["history"] if state else []
        start = time.perf_counter() - (state["seconds"] if state else 0.0)
        training = Training(model, task, method, config, state and state["training"])
        learning = [getattr(model, name) for name in _learning(model, method)]
        with recomputing(learning, config.checkpoint_activations), closing(iter(training)) as records:
            for record in records:
                history.append(record)
                for callback in (*callbacks, *([run_dir.append] if run_dir and is_first() else [])):
                    callback(record)
                if run_dir:
                    made = {"history": history, "seconds": time.perf_counter() - start, "task": made_on}
                    _save_if_due(run_dir, record, checkpoint_seconds, training, made)
        model.eval()
        result = FitResult(
            method=method,
            **_scores(model, task, method),
            alone=training.alone,
            start=training.start,
            choices=training.stacked.losses if training.stacked else {},
            chosen=training.stacked and training.stacked.chosen,
            history=history,
            seconds=time.perf_counter() - start,
        )
        if run_dir and is_first():
            run_dir.finish(model, result)
    return result


def _learning(model: Cascade, method: str) -> tuple[str, ...]:
    return model.expert_names if method in MIXTURES else (method,)


def _begin(run_dir: RunFolder | None, resume: bool, model: Cascade, made_on: dict[str, Any]) -> dict[str, Any] | None:
    # The state to go on from, of a run that is resumed and had saved one.
    if run_dir and resume:
        state = from_first(run_dir.resume)
        _check_state(state, model, made_on)
        return state
    if resume:
        raise ValueError("resume=True goes on with the run in a folder: give run_dir")
    if run_dir:
        from_first(run_dir.start)
    return None


def _save_if_due(
    run_dir: RunFolder, record: dict[str, Any], every: float, training: Training, made: dict[str, Any]
) -> None:
    run_dir.stopping = in_any(run_dir.stopping)
    if is_first() and run_dir.is_due(record, every):
        run_dir.save_checkpoint(record, made | {"training": training.state()})
    if run_dir.stopping:
        raise InterruptedError(f"the run was stopped; resume it from '{run_dir.path}'")


@contextmanager
def _held(run_dir: RunFolder | None) -> Iterator[None]:
    # The folder is this process's until training ends, however it ends.
    try:
        yield
    except ConnectionError as error:
        rest = f"resume the run, in as many processes, from '{run_dir.path}'" if run_dir else "the run is lost"
        raise ConnectionError(f"{error}; {rest}") from error
    finally:
        if run_dir:
            run_dir.release()


def _scores(model: Cascade, task: GraphTask, method: str) -> dict[str, Any]:
    if method in MIXTURES:
        return score_model(model, task)
    scores = score_expert(model, task, method)
    expected = scores["test"] if task.metric != "f1" else None
    shares = {name: float(name == method) for name in model.expert_names}
    share = shares[model.expert_names[0]]
    return {
        "route": method,
        **scores,
        "expected": expected,
        "weak_share": share,
        "shares": shares,
        "scores": {method: scores},
    }


def _fingerprint(model: Cascade, task: GraphTask) -> dict[str, Any]:
    data, weights = task.data, task.class_weights
    return {
        "data": task.name,
        "metric": task.metric,
        "inductive": task.inductive,
        "class weights": None if weights is None else weights.tolist(),
        "nodes": task.num_nodes,
        "edges": data.num_edges,
        "features": task.num_features,
        "checksum of labels and splits": _checksum(data.y, *(task.masks[split] for split in sorted(task.masks))),
        "checksum of the graph": _checksum(data.x, data.edge_index, data.edge_weight),
        "what may be mixed": list(model.mixes),
        "detach_dispersion": model.detach_dispersion,
        **{name: describe(getattr(model, name)) for name in model.parts},
    }


def _checksum(*tensors: torch.Tensor | None) -> int:
    found = 0
    for tensor in tensors:
        if tensor is not None:
            found = zlib.crc32(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data, found)
    return found


def _check_state(state: dict[str, Any] | None, model: Cascade, made_on: dict[str, Any]) -> None:
    if state is None:
        return
    refuse_differences(state["task"], made_on, "the run")
    then, now = (
        {name: list(value.shape) for name, value in weights.items() if isinstance(value, torch.Tensor)}
        for weights in (state["training"]["model"], model.state_dict())
    )
    refuse_differences(then, now, "the model of the run")


@torch.no_grad()
def _check_fit(model: Cascade, task: GraphTask, experts: Sequence[str], config: TrainConfig) -> None:
    if len(experts) > 1 and config.gate_fit == "validation":
        check_validation_nodes(task, config.gate_folds)
    # One forward before any optimiser exists: it also materialises lazy modules.
    with evaluating(model):
        for k, name in enumerate(model.expert_names):
            expert = getattr(model, name)
            # One that does not learn is saved with the others, so it must not stay lazy.
            if name not in experts and not any(map(is_lazy, expert.parameters())):
                continue
            if task.inductive and not getattr(expert, "inductive", True):
                raise ValueError(
                    f"the {name} expert {type(expert).__name__} has weights for each node, and '{task.name}' is "
                    "inductive: its test nodes are unseen in training; choose another expert, or inductive=False"
                )
            if config.batches != "full" and takes_edges(expert) and not getattr(expert, "inductive", True):
                raise ValueError(
                    f"the {name} expert {type(expert).__name__} has weights for each node and answers for all nodes at "
                    f"once, not for batches={config.batches!r}: choose another expert, or batches='full'"
                )
            try:
                logits = expert_logits(model, k, task.visible)
            except Exception as error:
                x = task.visible.data.x
                error.add_note(f"by the {name} expert {expert!r} on x of {list(x.shape)}, {x.dtype}")
                raise
            if logits.size(1) != task.num_classes:
                raise ValueError(
                    f"the {name} expert returns {logits.size(1)} classes, the task '{task.name}' has "
                    f"{task.num_classes}: build it with out_channels={task.num_classes}"
                )
            if count := int((~logits.isfinite()).sum()):
                raise FloatingPointError(f"{count} logits of the {name} expert are not finite before any training")
            if len(experts) > 1 and k < len(model.gate_names):
                model.gate(k, logits, task.visible.data.x)
