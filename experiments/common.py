r"""What several experiments share: runs that are skipped once finished, and tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mowst import FitResult, GraphTask, Mowst, fit, seed_everything
from mowst.nn.build import ModelConfig, build_model
from mowst.presets import load_preset
from mowst.study.lines import append_line, read_lines
from mowst.study.run import load_run_task
from mowst.study.run_spec import RunSpec, find_split
from mowst.study.values import SETTINGS
from mowst.train import environment

RESULTS = Path(__file__).parent / "results"
KEYS = ["data", "strong", "method", "seed"]
SCORES = (
    *("route", "chosen", "train", "val", "test", "expected", "deferred_share", "seconds"),
    *("alone", "start", "scores"),
)


def make_spec(
    data: str,
    strong: str,
    method: str,
    seed: int,
    settings: dict[str, Any] | None = None,
    name: str = "default",
) -> RunSpec:
    r"""Describes a run with the settings of a preset. Run k takes seed k, and split k if there are
    several splits.

    Args:
        data: name of the data set.
        strong: name of the strong expert.
        method: name of the method.
        seed: the seed.
        settings: model, training or task settings that replace those of the preset.
        name: name of the preset.
    """
    row = load_preset(data, name, strong)
    chosen = {key: value for key, value in row.items() if key in SETTINGS}
    chosen |= settings or {}
    split = find_split(data, seed)
    return RunSpec(data=data, strong=strong, method=method, seed=seed, split=split, settings=chosen)


def load_task_of(spec: RunSpec, root: str | None) -> GraphTask:
    r"""Loads the task of a run."""
    return load_run_task(spec.data, spec.split, spec.settings, root)


def build_for(task: GraphTask, config: ModelConfig) -> Mowst:
    r"""Builds a freshly initialised model of the task's sizes."""
    return build_model(
        config,
        in_channels=task.num_features,
        out_channels=task.num_classes,
        num_nodes=task.num_nodes,
    )


def train_run(spec: RunSpec, root: str | None) -> tuple[GraphTask, Mowst, FitResult]:
    r"""Loads the task of a run, builds its model and trains it."""
    task = load_task_of(spec, root)
    seed_everything(spec.seed)
    model = build_for(task, spec.model_config)
    return task, model, fit(model, task, method=spec.method, config=spec.train_config)


def describe_run(spec: RunSpec, task: GraphTask, method: str | None = None) -> dict[str, Any]:
    r"""Returns the beginning of a result line, with another name in place of the method's if one is
    given.
    """
    return {
        "data": spec.data,
        "strong": spec.strong,
        "method": method or spec.method,
        "seed": spec.seed,
        "split": spec.split,
        "preprocessing": task.preprocessing,
        "metric": task.metric,
    }


def make_line(spec: RunSpec, root: str | None, method: str | None = None) -> dict[str, Any]:
    r"""Trains the model of a run and returns its result line."""
    task, _, result = train_run(spec, root)
    line = describe_run(spec, task, method)
    line |= {key: getattr(result, key) for key in SCORES}
    line["evaluations"] = len(result.history)
    line["settings"] = spec.all_settings
    return line


def append_missing(
    out: Path,
    runs: Sequence[tuple],
    make: Callable[..., dict[str, Any]],
    keys: Sequence[str] = tuple(KEYS),
) -> None:
    r"""Runs what a result file does not hold yet, on one thread, and appends each line as soon as
    its run ends.

    Args:
        out: file to append to.
        runs: the values of :obj:`keys`, one tuple for each run.
        make: makes the line of a run.
        keys: the entries by which runs differ.
    """
    torch.set_num_threads(1)
    made_by = environment()  # before the first run: a later commit is not the loaded code
    out.parent.mkdir(parents=True, exist_ok=True)
    for run in runs:
        known = {tuple(line[key] for key in keys) for line in read_lines(out)}
        if run not in known:
            append_line(out, make(*run) | {"environment": made_by})
            print(*run, flush=True)


def read_sorted(out: Path) -> pd.DataFrame:
    r"""Reads lines, sorted by GNN and then by data set, in the order of their first appearance."""
    lines = pd.DataFrame(read_lines(out))
    return lines.sort_values(["strong", "data"], key=lambda column: pd.factorize(column)[0])


def select_scores(column: pd.Series, expert: str) -> pd.Series:
    r"""Selects the test scores of an expert in a column such as :obj:`alone`."""
    return column.map(lambda scores: scores[expert]["test"])


def spread(values: pd.Series, signed: bool = False) -> str:
    r"""Formats the mean and, for two values or more, the unbiased standard deviation; empty without
    values.
    """
    if values.empty:
        return ""
    mean = f"{values.mean():+.2f}" if signed else f"{values.mean():.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} +- {values.std(ddof=1):.2f}"


def count_names(names: pd.Series) -> str:
    r"""Formats each name with the number of its runs."""
    return ", ".join(f"{name} ({count})" for name, count in names.value_counts().items())


def markdown(rows: Sequence[dict[str, Any]] | pd.DataFrame) -> str:
    r"""Formats rows as a Markdown table."""
    frame = pd.DataFrame(rows)
    lines = [list(frame.columns), ["---"] * frame.shape[1], *frame.fillna("").values.tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def show(text: str, into: Path | None = None, mark: str = "") -> None:
    r"""Prints a table. If a Markdown file is given, the table also replaces what stands there
    between the line `<!-- mark -->` and the next `<!-- end -->`.
    """
    print(text)
    if into is None:
        return
    before, found, after = into.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")
    if not found:
        raise ValueError(f"{into} has no line '<!-- {mark} -->', which the table would follow")
    end = after[after.index("<!-- end -->") :]
    into.write_text(f"{before}{found}{text}\n{end}", encoding="utf-8")
