r"""The epochs of a stage."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mowst.nn.mowst import Mowst
from mowst.sparse.dropout import Dropout
from mowst.task import GraphTask
from mowst.train.batches import Batches
from mowst.train.calibration import calibrated_nll
from mowst.train.callbacks import Callback, call_all
from mowst.train.config import TrainConfig
from mowst.train.distributed import (
    count_processes,
    share_buffers,
    sum_gradients,
    take_from_first,
    take_own_part,
)
from mowst.train.finite import find_not_finite
from mowst.train.forward import Prediction, StageForward
from mowst.train.inputs import TaskInputs
from mowst.train.optimizers import ScheduledOptimizer
from mowst.train.stage import WORST, Score, Stage
from mowst.train.state import Snapshot, training_only


@dataclass
class Progress:
    r"""Where a stage is between two epochs.

    Args:
        start: The score to exceed.
        bar: The better of :obj:`start` and the best score of the stage.
        kept: The states of the parts that learn, and of their optimiser, to return to.
        epoch: The number of finished epochs.
        best: The best score of the stage.
        best_epoch: Its epoch.
        seconds: The duration so far.
    """

    start: Score
    bar: Score
    kept: list[Any]
    epoch: int = 0
    best: Score = WORST
    best_epoch: int = 0
    seconds: float = 0.0


class EpochLoop:
    r"""Trains the parts of a stage until the validation score stops improving, and returns them and
    their optimiser to the best epoch, or to the start if no epoch is better.

    Args:
        model (Mowst): The model.
        task (GraphTask): The task that training may see.
        inputs (TaskInputs): Its inputs.
        config (TrainConfig): The settings.
        stage (Stage): The stage.
        optimizer (ScheduledOptimizer): The optimiser of the parts that learn, and its schedule.
    """

    def __init__(
        self,
        model: Mowst,
        task: GraphTask,
        inputs: TaskInputs,
        config: TrainConfig,
        stage: Stage,
        optimizer: ScheduledOptimizer,
    ) -> None:
        self.model = model
        self.task = task
        self.inputs = inputs
        self.config = config
        self.stage = stage
        self.scheduled = optimizer
        self.optimizer = optimizer.optimizer
        self.parts = [getattr(model, name) for name in stage.learns]
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.settings = config.merge_overrides(stage.part, stage.pretraining)

    def begin(self, start: Score) -> Progress:
        r"""Returns the progress before the first epoch."""
        return Progress(start, bar=start, kept=Snapshot(*self.parts, self.scheduled).states)

    def run(self, progress: Progress, callbacks: Sequence[Callback]) -> None:
        r"""Runs the epochs that are left.

        Args:
            progress (Progress): Where the stage is; updated at each record.
            callbacks (list): Called with the record of each evaluated epoch.

        Raises:
            FloatingPointError: If a number is not finite. The error names the epoch, the stage and
                the first such tensor.
            StopTraining: If a callback raised it.
        """
        stage, config, epochs = self.stage, self.config, self.settings.epochs
        kept = Snapshot(*self.parts, self.scheduled, states=progress.kept)
        started = time.perf_counter() - progress.seconds
        with ExitStack() as contexts:
            contexts.enter_context(training_only(self.model, stage.learns))
            for name in stage.learns:
                dropout = config.merge_overrides(name, stage.pretraining).dropout
                contexts.enter_context(set_dropout(getattr(self.model, name), dropout))
            forward = StageForward(self.model, self.task, stage, self.inputs, config.precision)
            batches = None
            if config.batches != "full":
                batches = Batches(self.task, config, self.inputs, forward.reads_graph)
            try:
                while progress.epoch < epochs and not self._is_out_of_patience(progress):
                    progress.epoch += 1
                    loss = self._train_epoch(forward, batches)
                    if progress.epoch % config.eval_every and progress.epoch < epochs:
                        self.scheduled.end_epoch()
                        continue
                    record = self._evaluate_epoch(forward, progress)
                    self.scheduled.end_epoch(record[choose_loss(config)], record["val"])
                    if record["best"]:
                        kept = Snapshot(*kept.owners)
                        progress.kept = kept.states
                    progress.seconds = time.perf_counter() - started
                    record.update(loss=loss, seconds=progress.seconds)
                    call_all(callbacks, record)
            except FloatingPointError as error:
                raise FloatingPointError(self._explain(forward, progress, error)) from error
            finally:
                kept.restore()

    def _is_out_of_patience(self, progress: Progress) -> bool:
        patience = self.settings.patience
        if patience is None or progress.epoch % self.config.eval_every:
            return False
        return progress.epoch - progress.best_epoch >= patience

    def _train_epoch(self, forward: StageForward, batches: Batches | None) -> float:
        # Returns the mean loss of the steps.
        steps: list[list[Callable[[], Tensor]]] = [[forward.compute_loss]]
        if batches is not None:
            drawn = batches.draw_steps(self.config.batches_per_step or count_processes())
            steps = []
            for step in drawn:
                own = take_own_part(step)
                steps.append(batches.make_losses(forward.compute_loss, own, len(drawn)))
        total = 0.0
        for losses in steps:
            self.optimizer.zero_grad(set_to_none=True)
            value = 0.0
            for compute_loss in losses:
                loss = compute_loss()
                value += float(loss.detach())
                if loss.requires_grad:
                    loss.backward()
                elif math.isfinite(value):
                    learns = " and ".join(self.stage.learns)
                    raise ValueError(f"nothing to train: the loss does not depend on {learns}")
            value = sum_gradients(self.parameters, value)
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss became {value}")
            self.optimizer.step()
            total += value
        return total / len(steps)

    def _evaluate_epoch(self, forward: StageForward, progress: Progress) -> dict[str, Any]:
        share_buffers(*self.parts)
        found = take_from_first(validate(forward.predict(), self.task))
        score = score_record(found, self.config, self.task)
        best = score > progress.bar
        if best:
            progress.bar = score
        if score > progress.best:
            progress.best, progress.best_epoch = score, progress.epoch
        stage = self.stage
        place = {"stage": stage.name, "round": stage.round, "part": stage.part}
        return {**place, "epoch": progress.epoch, **found, "best": best}

    def _explain(self, forward: StageForward, progress: Progress, error: Exception) -> str:
        learns = self.stage.learns
        first = find_not_finite(self.model, learns, self.optimizer, forward.outputs)
        return (
            f"{error} in epoch {progress.epoch} of the stage '{self.stage.name}'; first not "
            f"finite: {first or 'the loss itself'}; the best state so far is in the model; a lower "
            "lr may help"
        )


def validate(prediction: Prediction, task: GraphTask) -> dict[str, float]:
    r"""Returns loss, calibrated loss, metric and mean confidence of a prediction on the validation
    nodes.

    Raises:
        FloatingPointError: If the loss is not finite, which a metric would not show.
    """
    y, weight = task.labels("val"), task.class_weights
    found = {
        "val_loss": task.nll(prediction.prob, "val"),
        "val_calibrated": calibrated_nll(prediction.prob, y, weight),
        "val": task.score(prediction.prob, "val"),
        "confidence": prediction.confidence.mean(),
    }
    # Stacked, so that the host waits for a GPU once.
    values = torch.stack([value.float() for value in found.values()]).tolist()
    record = dict(zip(found, values, strict=True))
    if not math.isfinite(record["val_loss"]):
        raise FloatingPointError(f"the validation loss became {record['val_loss']}")
    return record


def score_record(record: Mapping[str, float], config: TrainConfig, task: GraphTask) -> Score:
    r"""Returns the score of a record that selects among states. Higher is better, and the second
    entry breaks ties.
    """
    metric = record["val"] if task.higher_is_better else -record["val"]
    if config.select == "metric":
        return metric, -record["val_calibrated"]
    return -record[choose_loss(config)], metric


def choose_loss(config: TrainConfig) -> str:
    r"""Returns the validation loss of a record that selects among states or breaks ties."""
    return "val_loss" if config.select == "loss" else "val_calibrated"


@contextmanager
def set_dropout(part: torch.nn.Module, p: float | None) -> Iterator[None]:
    r"""A context in which all dropout modules of a part have the probability :obj:`p`, unless it
    is :obj:`None`.

    Raises:
        ValueError: If the part has no dropout module.
    """
    kinds = (torch.nn.Dropout, Dropout)
    modules = [module for module in part.modules() if isinstance(module, kinds)]
    if p is not None and not modules:
        name = type(part).__name__
        raise ValueError(f"dropout={p} has no effect on {name}, which has no dropout module")
    before = [module.p for module in modules]
    try:
        for module in modules:
            module.p = module.p if p is None else p
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.p = value
