r"""What a turn minimises, and what the model meanwhile answers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mowst.nn.cascade import Cascade
from mowst.nn.contract import takes_edges
from mowst.task import GraphTask
from mowst.train.answers import expert_logits
from mowst.train.batches import Batch
from mowst.train.memory import autocast

Loss = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], Tensor]


class Answer(NamedTuple):
    r"""What the model answers on the nodes of a split: class probabilities :math:`(n, C)`, confidence :math:`(n)`."""

    prob: Tensor
    confidence: Tensor


class Objective:
    r"""What a turn minimises on the training nodes, and what the model meanwhile answers on the validation nodes.

    A part that is not trained is a constant of the turn: its logits (or confidences) are computed once, in
    evaluation mode. An expert that reads no edges, and the confidences, run on the nodes of the split alone. Under
    the route of one expert the loss is that expert's cross-entropy, and nothing else is run.

    Args:
        model (Cascade): the model.
        task (GraphTask): the graph, labels and splits, as :attr:`~mowst.task.GraphTask.visible` to training.
        trained (list): the names of the parts that learn.
        loss (callable): :obj:`loss(logits, confidences, y)` of the training nodes, weak to strong.
        logits (list[Tensor], optional): what the experts, none of which learns, shall answer on the training nodes in
            place of their own answer. (default: :obj:`None`)
        precision (str, optional): of the experts that learn, in their forward for the loss: :obj:`"32"`, or
            :obj:`"bf16"` by autocast. Losses, confidences and answers are in single precision.
            (default: :obj:`"32"`)

    Attributes:
        outputs (dict[str, Tensor]): by name, the logits of the last forward.
    """

    def __init__(
        self,
        model: Cascade,
        task: GraphTask,
        trained: Sequence[str],
        loss: Loss,
        logits: Sequence[Tensor] | None = None,
        precision: str = "32",
    ) -> None:
        self.model = model
        self.task = task
        self.trained = tuple(trained)
        self.outputs: dict[str, Tensor] = {}
        self._loss = loss
        self._precision = precision
        self._constants: dict[str, dict[str, Tensor]] = {"train": {}, "val": {}}
        if model.route == "mixture":
            with torch.no_grad():
                self._keep_constants(logits)

    @property
    def reads_graph(self) -> bool:
        r"""Whether an expert that reads edges runs for the loss."""
        names = self.model.expert_names if self.model.route == "mixture" else (self.model.route,)
        running = (name for name in names if name not in self._constants["train"])
        return any(takes_edges(getattr(self.model, name)) for name in running)

    def loss(self, batch: Batch | None = None) -> Tensor:
        r"""The training loss, from one forward in training mode of the parts that learn, on all training nodes; or the
        share of it that is the nodes' of a batch.
        """
        for name in self.trained:
            getattr(self.model, name).train()
        y = _of(self.task.labels("train"), batch)
        if self.model.route != "mixture":
            loss = cross_entropy(self._logits(self._routed, "train", batch), y, weight=self.task.class_weights)
        else:
            loss = self._loss(*self._outputs("train", batch), y)
        return loss if batch is None else batch.share * loss

    @torch.no_grad()
    def answer(self) -> Answer:
        r"""The answer on the validation nodes, from one forward in evaluation mode of the parts that learn."""
        for name in self.trained:
            getattr(self.model, name).eval()
        if self.model.route != "mixture":
            prob = self._logits(self._routed, "val").softmax(dim=-1)
            return Answer(prob, torch.full_like(prob[:, 0], float(self._routed == 0)))
        logits, confidences = self._outputs("val")
        return Answer(self.model.mixture(logits, confidences), confidences[0])

    @property
    def _routed(self) -> int:
        return self.model.expert_names.index(self.model.route)

    def _keep_constants(self, train_logits: Sequence[Tensor] | None) -> None:
        model, constants = self.model, {}
        for k, name in enumerate(model.expert_names):
            if name in self.trained:
                continue
            constants[name] = expert_logits(model, k, self.task)
            if k < len(model.gate_names) and model.gate_names[k] not in self.trained:
                constants[model.gate_names[k]] = model.gate(k, constants[name], self.task.data.x)
        for split, kept in self._constants.items():
            kept.update({name: value[self.task.index(split)] for name, value in constants.items()})
        if train_logits is not None:
            self._constants["train"].update(zip(model.expert_names, train_logits, strict=True))

    def _outputs(self, split: str, batch: Batch | None = None) -> tuple[list[Tensor], list[Tensor]]:
        logits = [self._logits(k, split, batch) for k in range(len(self.model.expert_names))]
        constants = self._constants[split]
        return logits, [
            _of(constants[name], batch) if name in constants else self.model.gate(k, logits[k], self._x(split, batch))
            for k, name in enumerate(self.model.gate_names)
        ]

    def _logits(self, k: int, split: str, batch: Batch | None = None) -> Tensor:
        logits = self._constant_or_new(k, split, batch)
        self.outputs[f"the logits of the {self.model.expert_names[k]} expert"] = logits.detach()
        return logits

    def _constant_or_new(self, k: int, split: str, batch: Batch | None) -> Tensor:
        name = self.model.expert_names[k]
        if name in self._constants[split]:
            return _of(self._constants[split][name], batch)
        if split == "train":
            with autocast(self._precision, self.task.data.x.device):
                logits = self._learning(k, batch)
            return logits if self._precision == "32" else logits.float()
        if not takes_edges(getattr(self.model, name)):
            return self.model.logits(k, self.task.features(split))
        return expert_logits(self.model, k, self.task, self.task.index(split))

    def _learning(self, k: int, batch: Batch | None) -> Tensor:
        if not takes_edges(getattr(self.model, self.model.expert_names[k])):
            return self.model.logits(k, self._x("train", batch))
        if batch is None:
            data, nodes = self.task.data, self.task.index("train")
            return self.model.logits(k, data.x, data.edge_index, data.edge_weight, nodes=nodes)
        data = batch.graph
        return self.model.logits(k, data.x, data.edge_index, data.edge_weight)[batch.at]

    def _x(self, split: str, batch: Batch | None) -> Tensor:
        return self.task.features(split) if batch is None else batch.x


def _of(values: Tensor, batch: Batch | None) -> Tensor:
    return values if batch is None else values[batch.rows]
