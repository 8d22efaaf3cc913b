r"""One turn of training: some parts of the model learn, the others are constants."""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mowst.nn.contract import call_expert
from mowst.nn.mowst import Mowst
from mowst.task import GraphTask
from mowst.train.config import TrainConfig
from mowst.train.state import Snapshot, parameters_of, training_only

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Score = tuple[float, float]
WORST: Score = (-math.inf, -math.inf)


class Answer(NamedTuple):
    r"""What the model answers on all nodes: class probabilities :math:`(N, C)` and confidence :math:`(N)`."""

    prob: Tensor
    confidence: Tensor


class Objective:
    r"""What a turn minimises, and what the model answers meanwhile.

    A part that is not trained is a constant of the turn: its logits (or confidences) are computed once, in
    evaluation mode. Under the route :obj:`"weak"` or :obj:`"strong"` the loss is that expert's plain cross-entropy,
    and the other expert is never run.

    Args:
        model (Mowst): the model.
        task (GraphTask): the graph, labels and training nodes.
        trained (list): the parts that learn, of :obj:`"weak"`, :obj:`"strong"` and :obj:`"confidence"`.
        loss (callable): :obj:`loss(weak, strong, confidence, y)` of the training nodes' logits.
    """

    def __init__(self, model: Mowst, task: GraphTask, trained: Sequence[str], loss: Loss) -> None:
        self.model = model
        self.task = task
        self.trained = tuple(trained)
        self._loss = loss
        self._weak = self._strong = self._confidence = None
        with torch.no_grad():
            if model.route == "mixture" and "weak" not in self.trained:
                self._weak = self._logits("weak")
                if "confidence" not in self.trained:
                    self._confidence = model.gate(self._weak, task.data.x)
            if model.route == "mixture" and "strong" not in self.trained:
                self._strong = self._logits("strong")

    def loss(self) -> Tensor:
        r"""The training loss, from one forward in training mode of the parts that learn."""
        for name in self.trained:
            getattr(self.model, name).train()
        rows, y = self.task.index("train"), self.task.labels("train")
        if self.model.route != "mixture":
            return cross_entropy(self._logits(self.model.route)[rows], y)
        weak, strong, confidence = self._outputs()
        return self._loss(weak[rows], strong[rows], confidence[rows], y)

    @torch.no_grad()
    def answer(self) -> Answer:
        r"""The model's answer, from one forward in evaluation mode of the parts that learn."""
        for name in self.trained:
            getattr(self.model, name).eval()
        if self.model.route != "mixture":
            prob = self._logits(self.model.route).softmax(dim=-1)
            return Answer(prob, self.model.routed(prob[:, 0]))
        weak, strong, confidence = self._outputs()
        return Answer(self.model.mixture(weak, strong, confidence), confidence)

    def _outputs(self) -> tuple[Tensor, Tensor, Tensor]:
        weak = self._logits("weak") if self._weak is None else self._weak
        strong = self._logits("strong") if self._strong is None else self._strong
        confidence = self.model.gate(weak, self.task.data.x) if self._confidence is None else self._confidence
        return weak, strong, confidence

    def _logits(self, name: str) -> Tensor:
        data = self.task.data
        return call_expert(getattr(self.model, name), data.x, data.edge_index, data.edge_weight)


class Turn:
    r"""Trains some parts of a model until the validation score stops improving, and keeps the best state.

    Args:
        name (str): the name in the history.
        objective: see :class:`Objective`.
        config (TrainConfig): the settings.
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
                    if score > bar:
                        bar, kept = score, Snapshot(*owners)
                    if score > reached:
                        reached, reached_at = score, epoch
                    yield record | {"best": score == bar, "seconds": time.perf_counter() - start}
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
    r"""Validation loss and metric of an answer, and its mean confidence over all nodes."""
    return {
        "val_loss": float(task.nll(answer.prob, "val")),
        "val": task.evaluate(answer.prob, "val"),
        "confidence": float(answer.confidence.mean()),
    }


def score_of(record: Mapping[str, float], config: TrainConfig) -> Score:
    r"""The score that selects among states, higher is better; the second entry breaks ties."""
    loss, metric = -record["val_loss"], record["val"]
    return (metric, loss) if config.select == "metric" else (loss, metric)
