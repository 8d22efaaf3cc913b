r"""One trial of a sweep: what it may see, what it trains, and its value."""

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import dataclass, fields
from typing import Any

import optuna
import torch
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from torch_geometric import seed_everything

from mowst.nn.build import build_model
from mowst.nn.cascade import Cascade
from mowst.study.cell import TASK_SETTINGS, Cell, expand
from mowst.study.run import load_cell_task
from mowst.study.space import Space, find_space, flat, holding, nested
from mowst.study.storage import claim
from mowst.task import GraphTask, VisibleTask
from mowst.train.alternation import Training
from mowst.train.config import MIXTURES
from mowst.train.turn import score_of

REPORT_EVERY = 20
STEPS_OF_A_RUN = 100_000
ACTIVE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
DIVERGED = (FloatingPointError, torch.OutOfMemoryError, MemoryError)


class Surplus(Exception):
    r"""A trial that began when as many as are wanted had begun before it."""


@dataclass(frozen=True)
class Search:
    r"""What a study searches. Sweeps that share a study agree in every field.

    Args:
        data, strong, method, space, seeds, splits: see :func:`~mowst.study.sweep.sweep`.
        settings: what holds in every trial where the space asks for nothing.
        fixed: the names of those that hold also where the space would ask.
    """

    data: str
    strong: str
    method: str
    space: str
    seeds: int
    splits: list[int | str] | None
    settings: dict[str, Any]
    fixed: list[str]

    @property
    def asks(self) -> Space:
        r"""The space, asking for nothing that is fixed."""
        values = flat(self.settings)
        return holding(find_space(self.space), {name: values[name] for name in self.fixed})

    def row(self, params: Mapping[str, Any]) -> dict[str, Any]:
        r"""What a trial with these parameters is, as a row of a study."""
        chosen = {"data": self.data, "strong": self.strong, "method": self.method}
        return chosen | nested(flat(self.settings) | dict(params))

    def cells(self, params: Mapping[str, Any]) -> list[Cell]:
        r"""The runs of a trial with these parameters."""
        splits = {} if self.splits is None else {"splits": self.splits}
        return expand([self.row(params) | {"seeds": self.seeds} | splits])


class Objective:
    r"""Trains the runs of a trial and returns the mean of their validation scores.

    Args:
        search (Search): the search.
        trials (int): how many trials the study shall have in the end.
        trial_seconds (float, optional): the time limit of a trial. (default: :obj:`None`)
        root (str, optional): the folder of the data sets. (default: :obj:`None`)
        device (str, optional): where to train. (default: :obj:`None`)
    """

    def __init__(
        self,
        search: Search,
        trials: int,
        trial_seconds: float | None = None,
        root: str | None = None,
        device: str | None = None,
    ) -> None:
        self.search = search
        self.trials = trials
        self.trial_seconds = trial_seconds
        self.root = root
        self.device = device or "cpu"
        self._tasks: dict[str, GraphTask] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tasks": {}}  # a worker loads for itself

    def check(self) -> None:
        r"""Loads a task and builds a model of the settings, so that what is wrong is said before any trial."""
        cell = self.search.cells({})[0]
        self._model(cell, self._task(cell))

    def __call__(self, trial: optuna.Trial) -> float:
        claim(trial)
        # Numbers never change and rise in the order of creation, so of any trials + 1 active ones the last is told.
        others = trial.study.get_trials(deepcopy=False, states=ACTIVE)
        if sum(other.number < trial.number for other in others) >= self.trials:
            raise Surplus(f"{self.trials} trials have begun")
        # By its number, a trial draws the same in any process, and no two draw alike.
        trial.study.sampler = TPESampler(seed=trial.number)
        self.search.asks(trial, self.search.method, self.search.strong)
        deadline = time.monotonic() + (math.inf if self.trial_seconds is None else self.trial_seconds)
        values: list[float] = []
        try:
            for cell in self.search.cells(trial.params):
                values.append(self._train(cell, trial, values, deadline))
        except DIVERGED as error:
            raise _stopped(trial, str(error) or type(error).__name__) from error
        trial.set_user_attr("values", values)
        return statistics.fmean(values)

    def _train(self, cell: Cell, trial: optuna.Trial, values: Sequence[float], deadline: float) -> float:
        task = self._task(cell)
        seed_everything(cell.seed)
        model = self._model(cell, task)
        training, best, evaluations = Training(model, task, cell.method, cell.train_config), -math.inf, 0
        with closing(iter(training)) as records:
            for record in records:
                if time.monotonic() > deadline:
                    raise _stopped(trial, f"it took more than {self.trial_seconds:g} s")
                if "fold" in record["turn"]:
                    continue  # the scores of experts that are thrown away
                best = max(best, score_of(record, cell.train_config)[0])
                # Before the strong expert begins, trials differ in which experts they pretrain.
                if evaluations or cell.method not in MIXTURES or record["turn"] != "weak alone":
                    evaluations += 1
                    if evaluations % REPORT_EVERY == 0:
                        step = len(values) * STEPS_OF_A_RUN + evaluations // REPORT_EVERY
                        _report(trial, statistics.fmean([*values, best]), step)
        if not math.isfinite(training.best[0]):
            raise FloatingPointError("no state has a finite validation score")
        return training.best[0]

    def _model(self, cell: Cell, task: GraphTask) -> Cascade:
        sizes = {"in_channels": task.num_features, "out_channels": task.num_classes, "num_nodes": task.num_nodes}
        return build_model(cell.model_config, **sizes).to(self.device)

    def _task(self, cell: Cell) -> GraphTask:
        key = json.dumps([cell.split, {name: cell.all_settings[name] for name in TASK_SETTINGS}])
        if key not in self._tasks:
            self._tasks[key] = without_test(load_cell_task(cell, self.root)).to(self.device)
        return self._tasks[key]


def without_test(task: GraphTask) -> GraphTask:
    r"""A task without a test split, and without labels other than those of its train and val nodes."""
    task = task.visible
    data, masks = copy(task.data), {key: task.masks[key] for key in VisibleTask.splits}
    data.y = data.y.where(masks["train"] | masks["val"], -1)
    kept = {f.name: getattr(task, f.name) for f in fields(GraphTask) if f.name not in ("data", "masks", "inductive")}
    return VisibleTask(data, masks=masks, **kept)


def _report(trial: optuna.Trial, value: float, step: int) -> None:
    trial.report(value, step)
    if trial.should_prune():
        raise optuna.TrialPruned(f"below the median of the others at step {step}")


def _stopped(trial: optuna.Trial, why: str) -> optuna.TrialPruned:
    trial.set_user_attr("stopped", why)
    return optuna.TrialPruned(why)
