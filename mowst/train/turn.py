r"""One turn of training: some parts of the model learn, the others are constants."""

import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mowst.nn.cascade import Cascade
from mowst.nn.contract import takes_edges
from mowst.task import GraphTask
from mowst.train.answers import expert_logits
from mowst.train.batches import Batch, Batches
from mowst.train.config import TrainConfig
from mowst.train.distributed import agreed, num_processes, own_part, share_buffers, sum_gradients
from mowst.train.memory import autocast
from mowst.train.finite import first_not_finite
from mowst.train.state import Snapshot, parameters_of, training_only

Loss = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], Tensor]
Score = tuple[float, float]
WORST: Score = (-math.inf, -math.inf)


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


@dataclass
class Progress:
    r"""Where a turn is between two epochs.

    Args:
        bar: the best score so far, of this turn or from before it.
        kept: the states to end in.
        epoch: the epochs that are over.
        reached: the best score of this turn.
        reached_at: its epoch.
        seconds: the time that passed.
    """

    bar: Score
    kept: list[Any]
    epoch: int = 0
    reached: Score = WORST
    reached_at: int = 0
    seconds: float = 0.0


class Turn:
    r"""Trains some parts of a model until the validation score stops improving, and keeps the best state.

    Args:
        name (str): the name in the history.
        model (Cascade): the model.
        trained (list): the names of the parts that learn.
        loss (callable): see :class:`Objective`.
        config (TrainConfig): the settings.

    Attributes:
        progress (Progress, optional): where it is, while it runs.
        bar (tuple): the better of the bar and the best score of the last run, also of one that broke off.

    Raises:
        ValueError: if the parts have no learnable parameters.
    """

    def __init__(self, name: str, model: Cascade, trained: Sequence[str], loss: Loss, config: TrainConfig) -> None:
        self.name = name
        self.model = model
        self.trained = tuple(trained)
        self.loss = loss
        self.config = config
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        self._parameters = parameters_of(model, trained)
        self.optimizer = kind(self._parameters, lr=config.lr, weight_decay=config.weight_decay)
        self.progress: Progress | None = None
        self.bar = WORST

    def run(
        self, task: GraphTask, bar: Score = WORST, round: int = 0, logits: Sequence[Tensor] | None = None
    ) -> Generator[dict, None, Score]:
        r"""Trains, yields the record of each evaluated epoch, and returns the better of :obj:`bar` and the best score.

        The parts that learn and the optimiser end in the state of the best epoch if that beats :obj:`bar`, and else
        where they started; so they do when training is interrupted. For `logits` see :class:`Objective`. A turn whose
        :attr:`progress` was set goes on from there.

        Raises:
            FloatingPointError: if a number is not finite; names the epoch, the turn and the first such tensor.
        """
        config = self.config
        kept = Snapshot(*[getattr(self.model, name) for name in self.trained], self.optimizer)
        now = self.progress = self.progress or Progress(bar, kept.states)
        kept.states, start = now.kept, time.perf_counter() - now.seconds
        with training_only(self.model, self.trained):
            objective = Objective(self.model, task, self.trained, self.loss, logits, config.precision)
            batches = None if config.batches == "full" else Batches(task, config, objective.reads_graph)
            try:
                while now.epoch < config.epochs and not self._is_out_of_patience(now):
                    now.epoch += 1
                    loss = self._epoch(objective, batches)
                    if not self._is_evaluated(now.epoch):
                        continue
                    record: dict[str, Any] = {"round": round, "turn": self.name, "epoch": now.epoch, "loss": loss}
                    share_buffers(*[getattr(self.model, name) for name in self.trained])
                    record |= agreed(validate(objective.answer(), task))
                    score = score_of(record, config)
                    best = score > now.bar
                    if best:
                        kept = Snapshot(*kept.owners)
                        now.bar, now.kept = score, kept.states
                    if score > now.reached:
                        now.reached, now.reached_at = score, now.epoch
                    now.seconds = time.perf_counter() - start
                    yield record | {"best": best, "seconds": now.seconds}
            except FloatingPointError as error:
                first = first_not_finite(self.model, self.trained, self.optimizer, objective.outputs)
                raise FloatingPointError(
                    f"{error} in epoch {now.epoch} of the {self.name} turn{f' of round {round}' if round else ''}; "
                    f"first not finite: {first or 'the loss itself'}; the best state so far is in the model; "
                    "a lower lr may help"
                ) from error
            finally:
                kept.restore()
                self.progress, self.bar = None, now.bar
        return now.bar

    def _is_evaluated(self, epoch: int) -> bool:
        return epoch % self.config.eval_every == 0 or epoch == self.config.epochs

    def _is_out_of_patience(self, now: Progress) -> bool:
        patience = self.config.patience
        return patience is not None and self._is_evaluated(now.epoch) and now.epoch - now.reached_at >= patience

    def _epoch(self, objective: Objective, batches: Batches | None) -> float:
        if batches is None:
            return self._step(map(objective.loss, [None]))
        steps = batches.steps(self.config.batches_per_step or num_processes())
        losses = (batches.losses(objective.loss, own_part(step), scale=len(steps)) for step in steps)
        return sum(map(self._step, losses)) / len(steps)

    def _step(self, losses: Iterable[Tensor]) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for loss in losses:
            if not loss.requires_grad:
                raise ValueError(f"nothing to train: the loss depends on no parameter of {' and '.join(self.trained)}")
            value += float(loss.detach())
            loss.backward()
        value = sum_gradients(self._parameters, value)
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value}")
        self.optimizer.step()
        return value


def validate(answer: Answer, task: GraphTask) -> dict[str, float]:
    r"""Loss, metric and mean confidence of an answer on the validation nodes.

    Raises:
        FloatingPointError: if the loss is not finite: a metric would not show it.
    """
    values = (task.nll(answer.prob, "val"), task.score(answer.prob, "val"), answer.confidence.mean())
    # Stacked, so that a GPU is waited for once.
    record = dict(zip(("val_loss", "val", "confidence"), torch.stack(values).tolist(), strict=True))
    if not math.isfinite(record["val_loss"]):
        raise FloatingPointError(f"the validation loss became {record['val_loss']}")
    return record


def score_of(record: Mapping[str, float], config: TrainConfig) -> Score:
    r"""The score that selects among states, higher is better; the second entry breaks ties."""
    loss, metric = -record["val_loss"], record["val"]
    return (metric, loss) if config.select == "metric" else (loss, metric)
