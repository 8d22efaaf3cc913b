r"""The four methods on data sets x strong experts x seeds, one JSON line per run; finished runs are skipped.

    python experiments/methods.py run --root DATA          # appends to experiments/results/methods.jsonl
    python experiments/methods.py table                    # prints the table of that file as Markdown

Run k takes split k where a data set has several, and seed k. Settings are those of `mowst train`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli

from mowst import TrainConfig, fit, load_task, seed_everything
from mowst.nn.build import ModelConfig, build_model
from mowst.presets import preset as row_of
from mowst.study.cell import split_of
from mowst.study.lines import append_line, read_lines
from mowst.train import METHODS, environment

RESULTS = Path(__file__).parent / "results" / "methods.jsonl"
CELL = ["data", "strong", "method", "seed"]


def run(
    data: tuple[str, ...] = ("digits", "cora", "amherst41", "minesweeper", "computers"),
    strong: tuple[str, ...] = ("gcn", "sage"),
    method: tuple[str, ...] = METHODS,
    seeds: int = 3,
    first_seed: int = 0,
    root: str | None = None,
    out: Path = RESULTS,
    preset: str = "default",
    settings: dict[str, Any] | None = None,
    threads: int = 1,
) -> None:
    r"""Runs the cells that the file does not hold yet.

    Args:
        data: names of data sets.
        strong: names of strong experts.
        method: names of methods.
        seeds: number of runs of each cell, counted from seed 0.
        first_seed: the seed to begin with.
        root: folder of the data sets.
        out: file to append to.
        preset: name of the preset file.
        settings: model or training settings in place of the preset ones.
        threads: number of CPU threads.
    """
    torch.set_num_threads(threads)
    cells = [(d, s, m, k) for k in range(first_seed, seeds) for d in data for s in strong for m in method]
    append_missing(out, cells, lambda d, s, m, k: run_cell(d, s, m, k, root, row_of(d, preset, s) | (settings or {})))


def append_missing(out: Path, cells: Sequence[tuple], run_one: Callable[..., dict[str, Any]]) -> None:
    r"""Runs the cells that a result file does not hold yet, and appends each line as it comes.

    Args:
        out: file to append to.
        cells: values of the keys :obj:`CELL`.
        run_one: makes the line of a cell.
    """
    made_by = environment()  # before the first run: a later commit is not the code that this process loaded
    out.parent.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        if cell not in {tuple(row[key] for key in CELL) for row in read_lines(out)}:
            append_line(out, run_one(*cell) | {"environment": made_by})
            print(*cell, flush=True)


def run_cell(
    data: str, strong: str, method: str, seed: int, root: str | None, settings: dict[str, Any]
) -> dict[str, Any]:
    r"""Trains one model and returns its line."""
    split = split_of(data, seed)
    task = load_task(data, root=root, split=split, transforms=settings.get("transforms", ()))
    settings = settings | {"strong": strong}
    config = ModelConfig(**{k: v for k, v in settings.items() if k in ModelConfig.__dataclass_fields__})
    train = TrainConfig(**{k: v for k, v in settings.items() if k in TrainConfig.__dataclass_fields__})
    seed_everything(seed)
    model = build_model(config, in_channels=task.num_features, out_channels=task.num_classes, num_nodes=task.num_nodes)
    result = asdict(fit(model, task, method=method, **asdict(train)))
    evaluations = len(result.pop("history"))
    start = dict(zip(CELL, (data, strong, method, seed), strict=True))
    kept = ("route", "chosen", "train", "val", "test", "expected", "weak_share", "seconds", "alone", "start", "scores")
    return start | {
        "split": task.split,
        "preprocessing": task.preprocessing,
        "metric": task.metric,
        **{key: result[key] for key in kept},
        "evaluations": evaluations,
        "settings": asdict(config) | asdict(train),
    }


def table(out: Path = RESULTS, seeds: int | None = None) -> None:
    r"""Prints mean and unbiased standard deviation of the test scores in %, and paired differences.

    Args:
        out: file to read.
        seeds: number of runs of each cell to use, counted from seed 0; all by default.
    """
    frame = pd.DataFrame([row for row in read_lines(out) if seeds is None or row["seed"] < seeds])
    rows = []
    for (data, strong), runs in frame.groupby(["data", "strong"], sort=False):
        row = {"data (runs)": f"{data} ({runs.seed.nunique()})", "GNN": strong}
        cells = {method: runs[runs.method == method] for method in reversed(METHODS)}
        for method, cell in cells.items():
            row[method] = spread(100 * cell.test)
        for method in ("mowst", "mowst-star"):
            alone = cells[method].alone.map(lambda scores: scores["strong"]["test"])
            row[f"{method} - its GNN alone"] = spread(100 * (cells[method].test - alone), signed=True)
        row["weak share"] = f"{100 * runs[runs.method == 'mowst'].weak_share.mean():.0f} %"
        row["s per run"] = f"{runs[runs.method == 'mowst'].seconds.mean():.0f}"
        rows.append(row)
    print(markdown(pd.DataFrame(rows)))


def compare(method: str, base: str, out: Path = RESULTS) -> None:
    r"""Prints the test scores of two methods in % and their paired differences, over the seeds that have both.

    Args:
        method: name of the one.
        base: name of the other.
        out: file to read.
    """
    frame = 100 * pd.DataFrame(read_lines(out)).pivot(index=CELL[:2] + CELL[3:], columns="method", values="test")
    rows = []
    for (data, strong), runs in frame[[method, base]].dropna().groupby(level=[0, 1], sort=False):
        gain = runs[method] - runs[base]
        row = {"data (runs)": f"{data} ({len(runs)})", "GNN": strong, **{name: spread(runs[name]) for name in runs}}
        row[f"{method} - {base}"] = spread(gain, signed=True)
        rows.append(row | {name: f"{getattr(gain, name)():+.2f}" for name in ("min", "median", "max")})
    print(markdown(pd.DataFrame(rows)))


def read_cells(out: Path) -> pd.DataFrame:
    r"""The lines of a file, sorted by GNN and then by data set, in the order in which these first appear."""
    lines = pd.DataFrame(read_lines(out))
    return lines.sort_values(["strong", "data"], key=lambda column: pd.factorize(column)[0])


def spread(values: pd.Series, signed: bool = False) -> str:
    r"""Mean and, of two values or more, unbiased standard deviation; empty without values."""
    mean = f"{values.mean():{'+' if signed else ''}.2f}"
    return "" if values.empty else mean if len(values) == 1 else f"{mean} +- {values.std(ddof=1):.2f}"


def markdown(frame: pd.DataFrame) -> str:
    r"""A frame as a Markdown table."""
    lines = [list(frame.columns), ["---"] * frame.shape[1], *frame.fillna("").values.tolist()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def show(text: str, into: Path | None, name: str) -> None:
    r"""Prints a table and, if there is a Markdown file, puts it there between the lines `<!-- name -->` and the next
    `<!-- end -->`.
    """
    print(text)
    if into is not None:
        before, mark, after = into.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
        if not mark:
            raise ValueError(f"{into} has no line '<!-- {name} -->', which the table would follow")
        into.write_text(f"{before}{mark}{text}\n{after[after.index('<!-- end -->') :]}", encoding="utf-8")


if __name__ == "__main__":
    auto_cli([run, table, compare])
