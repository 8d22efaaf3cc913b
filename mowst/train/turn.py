r"""One turn of training: some parts of the model learn, the others are constants."""

import math
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mowst.nn.cascade import Cascade
from mowst.task import GraphTask
from mowst.train.batches import Batches
from mowst.train.calibration import calibrated_nll
from mowst.train.config import TrainConfig
from mowst.train.distributed import agreed, num_processes, own_part, share_buffers, sum_gradients
from mowst.train.finite import first_not_finite
from mowst.train.objective import Answer, Loss, Objective
from mowst.train.state import Snapshot, parameters_of, training_only

Score = tuple[float, float]
WORST: Score = (-math.inf, -math.inf)


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
            value += float(loss.detach())
            if loss.requires_grad:
                loss.backward()
            elif math.isfinite(value):
                raise ValueError(f"nothing to train: the loss depends on no parameter of {' and '.join(self.trained)}")
        value = sum_gradients(self._parameters, value)
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value}")
        self.optimizer.step()
        return value


def validate(answer: Answer, task: GraphTask) -> dict[str, float]:
    r"""Loss, calibrated loss, metric and mean confidence of an answer on the validation nodes.

    Raises:
        FloatingPointError: if the loss is not finite: a metric would not show it.
    """
    found = {
        "val_loss": task.nll(answer.prob, "val"),
        "val_calibrated": calibrated_nll(answer.prob, task.labels("val"), task.class_weights),
        "val": task.score(answer.prob, "val"),
        "confidence": answer.confidence.mean(),
    }
    # Stacked, so that a GPU is waited for once.
    record = dict(zip(found, torch.stack([value.float() for value in found.values()]).tolist(), strict=True))
    if not math.isfinite(record["val_loss"]):
        raise FloatingPointError(f"the validation loss became {record['val_loss']}")
    return record


def score_of(record: Mapping[str, float], config: TrainConfig) -> Score:
    r"""The score that selects among states, higher is better; the second entry breaks ties."""
    loss, metric = -record["val_loss" if config.select == "loss" else "val_calibrated"], record["val"]
    return (metric, loss) if config.select == "metric" else (loss, metric)
