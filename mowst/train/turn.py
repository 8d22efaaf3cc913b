r"""One turn of training: some parts of the model learn, the others are constants."""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mowst.nn.contract import call_expert, takes_edges
from mowst.nn.mowst import Mowst
from mowst.task import GraphTask
from mowst.train.config import TrainConfig
from mowst.train.state import Snapshot, parameters_of, training_only

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Score = tuple[float, float]
WORST: Score = (-math.inf, -math.inf)


class Answer(NamedTuple):
    r"""What the model answers on the nodes of a split: class probabilities :math:`(n, C)`, confidence :math:`(n)`."""

    prob: Tensor
    confidence: Tensor


class Objective:
    r"""What a turn minimises on the training nodes, and what the model meanwhile answers on the validation nodes.

    A part that is not trained is a constant of the turn: its logits (or confidences) are computed once, in
    evaluation mode. An expert that reads no edges, and the confidence, run on the nodes of the split alone. Under the
    route :obj:`"weak"` or :obj:`"strong"` the loss is that expert's plain cross-entropy, and nothing else is run.

    Args:
        model (Mowst): the model.
        task (GraphTask): the graph, labels and splits.
        trained (list): the parts that learn, of :obj:`"weak"`, :obj:`"strong"` and :obj:`"confidence"`.
        loss (callable): :obj:`loss(weak, strong, confidence, y)` of the training nodes' logits.
    """

    def __init__(self, model: Mowst, task: GraphTask, trained: Sequence[str], loss: Loss) -> None:
        self.model = model
        self.task = task
        self.trained = tuple(trained)
        self._loss = loss
        self._constants: dict[str, dict[str, Tensor]] = {"train": {}, "val": {}}
        if model.route == "mixture":
            with torch.no_grad():
                self._keep_constants()

    def loss(self) -> Tensor:
        r"""The training loss, from one forward in training mode of the parts that learn."""
        for name in self.trained:
            getattr(self.model, name).train()
        y = self.task.labels("train")
        if self.model.route != "mixture":
            return cross_entropy(self._logits(self.model.route, "train"), y)
        return self._loss(*self._outputs("train"), y)

    @torch.no_grad()
    def answer(self) -> Answer:
        r"""The answer on the validation nodes, from one forward in evaluation mode of the parts that learn."""
        for name in self.trained:
            getattr(self.model, name).eval()
        if self.model.route != "mixture":
            prob = self._logits(self.model.route, "val").softmax(dim=-1)
            return Answer(prob, self.model.routed(prob[:, 0]))
        weak, strong, confidence = self._outputs("val")
        return Answer(self.model.mixture(weak, strong, confidence), confidence)

    def _keep_constants(self) -> None:
        data = self.task.data
        constants = {
            name: call_expert(getattr(self.model, name), data.x, data.edge_index, data.edge_weight)
            for name in ("weak", "strong")
            if name not in self.trained
        }
        if not {"weak", "confidence"} & set(self.trained):
            constants["confidence"] = self.model.gate(constants["weak"], data.x)
        for split, kept in self._constants.items():
            kept.update({name: value[self.task.index(split)] for name, value in constants.items()})

    def _outputs(self, split: str) -> tuple[Tensor, Tensor, Tensor]:
        weak, strong = self._logits("weak", split), self._logits("strong", split)
        if "confidence" in self._constants[split]:
            return weak, strong, self._constants[split]["confidence"]
        return weak, strong, self.model.gate(weak, self.task.features(split))

    def _logits(self, name: str, split: str) -> Tensor:
        if name in self._constants[split]:
            return self._constants[split][name]
        expert, data = getattr(self.model, name), self.task.data
        if not takes_edges(expert):
            return call_expert(expert, self.task.features(split))
        return call_expert(expert, data.x, data.edge_index, data.edge_weight, nodes=self.task.index(split))


class Turn:
    r"""Trains some parts of a model until the validation score stops improving, and keeps the best state.

    Args:
        name (str): the name in the history.
        model (Mowst): the model.
        trained (list): the parts that learn, of :obj:`"weak"`, :obj:`"strong"` and :obj:`"confidence"`.
        loss (callable): see :class:`Objective`.
        config (TrainConfig): the settings.

    Raises:
        ValueError: if the parts have no learnable parameters.
    """

    def __init__(self, name: str, model: Mowst, trained: Sequence[str], loss: Loss, config: TrainConfig) -> None:
        self.name = name
        self.model = model
        self.trained = tuple(trained)
        self.loss = loss
        self.config = config
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        self.optimizer = kind(parameters_of(model, trained), lr=config.lr, weight_decay=config.weight_decay)

    def run(self, task: GraphTask, bar: Score = WORST, round: int = 0) -> Generator[dict, None, Score]:
        r"""Trains, yields the record of each evaluated epoch, and returns the better of :obj:`bar` and the best score.

        The parts that learn and the optimiser end in the state of the best epoch if that beats :obj:`bar`, and else
        where they started; so they do when training is interrupted.
        """
        config, reached, reached_at = self.config, WORST, 0
        owners = [getattr(self.model, name) for name in self.trained] + [self.optimizer]
        kept, start = Snapshot(*owners), time.perf_counter()
        with training_only(self.model, self.trained):
            objective = Objective(self.model, task, self.trained, self.loss)
            try:
                for epoch in range(1, config.epochs + 1):
                    loss = self._step(objective, epoch)
                    if epoch % config.eval_every and epoch < config.epochs:
                        continue
                    record: dict[str, Any] = {"round": round, "turn": self.name, "epoch": epoch, "loss": loss}
                    record |= validate(objective.answer(), task)
                    score = score_of(record, config)
                    best = score > bar
                    if best:
                        bar, kept = score, Snapshot(*owners)
                    if score > reached:
                        reached, reached_at = score, epoch
                    yield record | {"best": best, "seconds": time.perf_counter() - start}
                    if config.patience is not None and epoch - reached_at >= config.patience:
                        break
            finally:
                kept.restore()
        return bar

    def _step(self, objective: Objective, epoch: int) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = objective.loss()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss became {value} in epoch {epoch} of the {self.name} turn; the best state so far is in the "
                "model; a lower lr may help"
            )
        loss.backward()
        self.optimizer.step()
        return value


def validate(answer: Answer, task: GraphTask) -> dict[str, float]:
    r"""Loss, metric and mean confidence of an answer on the validation nodes."""
    values = (task.nll(answer.prob, "val"), task.score(answer.prob, "val"), answer.confidence.mean())
    # Stacked, so that a GPU is waited for once.
    return dict(zip(("val_loss", "val", "confidence"), torch.stack(values).tolist(), strict=True))


def score_of(record: Mapping[str, float], config: TrainConfig) -> Score:
    r"""The score that selects among states, higher is better; the second entry breaks ties."""
    loss, metric = -record["val_loss"], record["val"]
    return (metric, loss) if config.select == "metric" else (loss, metric)
