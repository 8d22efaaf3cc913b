r"""One line for each run of a study and each trial of a sweep, with a counter and the time left."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

SPLITS = {"val": "validation", "test": "test"}


@dataclass
class RunPrinter:
    r"""Prints the line of each run that a study trained.

    Args:
        total (int): The number of runs of the study.
    """

    total: int
    started: datetime = field(default_factory=datetime.now)
    trained: int = 0

    def __call__(self, line: Mapping[str, Any], left: int) -> None:
        self.trained += 1
        text = f"{line['name']}, seed {line['seed']}, split {line['split']}: {describe_run(line)}"
        ended = self.total - left
        print_progress(text, ended, self.total, self.trained, self.started)


@dataclass
class TrialPrinter:
    r"""A callback of Optuna that prints each trial of a sweep, in any of its processes.

    Args:
        total (int): The number of trials of the sweep.
    """

    total: int
    started: datetime = field(default_factory=datetime.now)

    def __call__(self, study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        ended = []
        for other in study.get_trials(deepcopy=False):
            if other.state.name in ("COMPLETE", "PRUNED"):
                ended.append(other.datetime_complete or self.started)
        if trial.state.name in ("COMPLETE", "PRUNED"):
            text = f"trial {trial.number}: {describe_trial(study, trial)}"
            done = sum(time >= self.started for time in ended)
            print_progress(text, len(ended), self.total, done, self.started)


def describe_run(line: Mapping[str, Any]) -> str:
    r"""Returns the scores of a line, or its error."""
    if line["status"] == "failed":
        return f"failed, {line['error']}"
    scores = []
    for split, name in SPLITS.items():
        if line[split] is not None:
            scores.append(f"{name} {100 * line[split]:.2f} %")
    return f"{line['metric']}, {', '.join(scores)}"


def describe_trial(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> str:
    r"""Returns the values of a trial with their names, and why it was pruned."""
    texts = []
    for name, value in zip(name_values(study), trial.values or (), strict=False):
        texts.append(f"{name} {value:.4f}")
    if trial.state.name == "PRUNED":
        texts.append(f"pruned ({trial.user_attrs.get('stopped', 'its score was too low')})")
    return ", ".join(texts)


def name_values(study: "optuna.Study") -> list[str]:
    r"""Returns the names of the values of a sweep."""
    names = study.metric_names or ["score"]
    return [f"validation {name}".replace("_", " ") for name in names]


def print_progress(text: str, ended: int, total: int, done: int, started: datetime) -> None:
    r"""Prints a line with the number of ended runs and the time left.

    Args:
        text (str): The line.
        ended (int): The number of ended runs.
        total (int): The number of all runs.
        done (int): The number of those that ended since the start.
        started (datetime): The start.
    """
    left = ""
    if ended < total and done > 0:
        each = (datetime.now() - started) / done
        seconds = round((total - ended) * each.total_seconds())
        left = f"; {timedelta(seconds=seconds)} left"
    print(f"[{ended}/{total}] {text}{left}", flush=True)
