r"""One trial of a sweep: its runs, their training, and its value."""

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch_geometric import seed_everything

from mowst.study.run import build_run_model, load_run_task
from mowst.study.run_spec import RunSpec, expand
from mowst.study.samplers import make_sampler
from mowst.study.space import Space, find_space, fix_values, flatten_settings, nest_settings
from mowst.study.storage import claim_trial
from mowst.study.values import TASK_DEFAULTS
from mowst.task import GraphTask
from mowst.train.epochs import score_record
from mowst.train.evaluate import score_model
from mowst.train.memory import recompute_layers
from mowst.train.methods import find_method
from mowst.train.trainer import Trainer

if TYPE_CHECKING:
    import optuna

REPORT_EVERY = 20
STEPS_OF_A_RUN = 100_000
DIVERGED = (FloatingPointError, torch.OutOfMemoryError, MemoryError)


class SurplusTrial(Exception):
    r"""Raised by a trial that began after as many others as the study needs."""


@dataclass(frozen=True)
class Search:
    r"""What a study searches, see :func:`~mowst.study.sweep.sweep`. Sweeps that share a study agree
    in all fields. The settings hold unless the space searches them; those in :obj:`fixed` hold even
    then.
    """

    data: str
    strong: str
    method: str
    space: str
    seeds: int
    splits: list[int | str] | None
    settings: dict[str, Any]
    fixed: list[str]
    second_objective: str | None = None

    @classmethod
    def of_study(cls, study: "optuna.Study") -> "Search | None":
        r"""Returns what a study searches, or :obj:`None` if no sweep of this version made it."""
        known = {entry.name for entry in fields(cls)}
        found = study.user_attrs.get("search")
        if not isinstance(found, dict) or not known - {"second_objective"} <= found.keys() <= known:
            return None
        return cls(**found)

    def make_space(self) -> Space:
        r"""Returns the space without the fixed settings."""
        values = flatten_settings(self.settings)
        return fix_values(find_space(self.space), {name: values[name] for name in self.fixed})

    def make_row(self, params: Mapping[str, Any]) -> dict[str, Any]:
        r"""Returns a trial with these parameters as a row of a study."""
        settings = nest_settings({**flatten_settings(self.settings), **params})
        return {"data": self.data, "strong": self.strong, "method": self.method, **settings}

    def list_specs(self, params: Mapping[str, Any]) -> list[RunSpec]:
        r"""Returns the runs of a trial with these parameters."""
        row = {**self.make_row(params), "seeds": self.seeds}
        if self.splits is not None:
            row["splits"] = self.splits
        return expand([row])


@dataclass
class Objective:
    r"""Trains the runs of a trial and returns the means of their values on the validation nodes,
    see :func:`~mowst.study.sweep.sweep`.
    """

    search: Search
    trials: int
    trial_seconds: float | None = None
    sampler: str = "tpe"
    root: str | None = None
    device: str | None = None
    _tasks: dict[str, GraphTask] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tasks": {}}  # a worker loads its own tasks

    def check(self) -> str:
        r"""Loads a task and builds a model, which raises errors before the first trial, and returns
        the metric of the task.
        """
        spec = self.search.list_specs({})[0]
        task = self._load_task(spec)
        build_run_model(spec, task)
        return str(task.metric)

    def __call__(self, trial: "optuna.Trial") -> list[float]:
        claim_trial(trial)
        # Numbers never change and follow the order of creation, so if there are too many active
        # trials, the last ones end.
        active = [other for other in trial.study.get_trials(deepcopy=False) if is_active(other)]
        if sum(other.number < trial.number for other in active) >= self.trials:
            raise SurplusTrial(f"{self.trials} trials have begun")
        # With its number as seed, a trial draws the same in any process, and no two draw alike.
        trial.study.sampler = make_sampler(self.sampler, seed=trial.number)
        self.search.make_space()(trial, self.search.method, self.search.strong)
        started = time.monotonic()
        runs: list[list[float]] = []
        try:
            for spec in self.search.list_specs(trial.params):
                scores = [values[0] for values in runs]
                task = self._load_task(spec)
                pruner = _Pruner(trial, spec, task, scores, started, self.trial_seconds)
                runs.append(self.train_run(spec, pruner))
        except DIVERGED as error:
            raise _stop_trial(trial, str(error) or type(error).__name__) from error
        trial.set_user_attr("values", runs)
        return [statistics.fmean(values) for values in zip(*runs, strict=True)]

    def train_run(self, spec: RunSpec, *callbacks: Any) -> list[float]:
        r"""Trains one run and returns its best validation score, or with a second objective, the
        metric and the deferred share.
        """
        task = self._load_task(spec)
        seed_everything(spec.seed)
        model = build_run_model(spec, task).to(self.device or "cpu")
        method = find_method(spec.method)
        trainer = Trainer(model, task, method, spec.train_config)
        experts = [getattr(model, name) for name in method.experts]
        with recompute_layers(experts, spec.train_config.checkpoint_activations):
            trainer.train(callbacks)
        score = trainer.best[0]
        if not math.isfinite(score):
            raise FloatingPointError("no state has a finite validation score")
        if self.search.second_objective is None:
            return [score]
        found = score_model(model, task)  # of the validation nodes: the task has no test split
        metric = found["val"] if task.higher_is_better else -found["val"]
        return [metric, found[self.search.second_objective]]

    def _load_task(self, spec: RunSpec) -> GraphTask:
        settings = {name: spec.all_settings[name] for name in TASK_DEFAULTS}
        key = json.dumps([spec.split, settings])
        if key not in self._tasks:
            task = load_run_task(spec.data, spec.split, spec.settings, self.root)
            self._tasks[key] = hide_test_nodes(task).to(self.device or "cpu")
        return self._tasks[key]


@dataclass
class _Pruner:
    # A callback of training that reports the score of a run to Optuna and ends a trial early.
    trial: "optuna.Trial"
    spec: RunSpec
    task: GraphTask
    scores: Sequence[float]
    started: float
    seconds: float | None
    best: float = -math.inf
    evaluations: int = 0

    def __call__(self, record: dict[str, Any]) -> None:
        import optuna

        if self.seconds is not None and time.monotonic() - self.started > self.seconds:
            raise _stop_trial(self.trial, f"it took more than {self.seconds:g} s")
        self.best = max(self.best, score_record(record, self.spec.train_config, self.task)[0])
        # Evaluations are counted from the first of the strong expert, since trials differ in
        # whether they pretrain the weak one.
        is_weak = record["round"] == 0 and record["part"] == "weak"
        if self.spec.has_gate and is_weak and self.evaluations == 0:
            return
        self.evaluations += 1
        if self.evaluations % REPORT_EVERY != 0 or len(self.trial.study.directions) > 1:
            return
        step = len(self.scores) * STEPS_OF_A_RUN + self.evaluations // REPORT_EVERY
        self.trial.report(statistics.fmean([*self.scores, self.best]), step)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"its score was too low at step {step}")


def is_active(trial: Any) -> bool:
    r"""Whether a trial counts: it is not failed."""
    return trial.state.name != "FAIL"


def hide_test_nodes(task: GraphTask) -> GraphTask:
    r"""Returns a task without a test split, and without labels of other nodes than those of its
    train and val nodes.
    """
    task = task.visible
    masks = {split: task.masks[split] for split in ("train", "val")}
    data = copy(task.data)
    data.y = data.y.clone()
    data.y[~(masks["train"] | masks["val"])] = -1
    return replace(task, data=data, masks=masks, inductive=False)


def _stop_trial(trial: "optuna.Trial", why: str) -> Exception:
    import optuna

    trial.set_user_attr("stopped", why)
    return optuna.TrialPruned(why)
