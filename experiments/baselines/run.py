r"""Baselines that are not a single GNN, on data sets x strong experts x seeds; finished runs are skipped.

    python experiments/baselines/run.py run --root DATA    # appends to experiments/results/baselines.jsonl
    python experiments/baselines/run.py table              # prints that file beside methods.jsonl as Markdown

Splits, seeds and settings are those of `experiments/methods.py`. AdaGCN has no strong expert: where two of them have
the same settings, its runs are the same too, and `--baseline '[adagcn]' --strong '[gcn]'` is enough.
"""

import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli

# As a script this file finds only its own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))

import methods
from baselines.adagcn import fit_adagcn
from baselines.ensemble import fit_ensemble
from baselines.graphmoe import fit_graphmoe
from baselines.logit_average import fit_logit_average

from mowst import load_task, seed_everything
from mowst.nn.build import ModelConfig
from mowst.presets import preset as row_of
from mowst.study.cell import split_of
from mowst.study.lines import read_lines
from mowst.task import SPLITS
from mowst.train import METHODS
from mowst.train.config import make_config

RESULTS = Path(__file__).parents[1] / "results" / "baselines.jsonl"
BASELINES = {
    "adagcn": fit_adagcn,
    "graphmoe": fit_graphmoe,
    "ensemble": fit_ensemble,
    "logit-average": fit_logit_average,
}


def run(
    data: tuple[str, ...] = ("digits", "cora", "amherst41", "minesweeper", "computers"),
    strong: tuple[str, ...] = ("gcn", "sage"),
    baseline: tuple[str, ...] = tuple(BASELINES),
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
        baseline: names of baselines.
        seeds: number of runs of each cell, counted from seed 0.
        first_seed: the seed to begin with.
        root: folder of the data sets.
        out: file to append to.
        preset: name of the preset file.
        settings: model or training settings in place of the preset ones.
        threads: number of CPU threads.
    """
    if unknown := sorted(set(baseline) - set(BASELINES)):
        raise ValueError(f"unknown baselines {unknown}, choose from {list(BASELINES)}")
    torch.set_num_threads(threads)
    cells = [(d, s, b, k) for k in range(first_seed, seeds) for d in data for s in strong for b in baseline]
    methods.append_missing(
        out, cells, lambda d, s, b, k: run_cell(d, s, b, k, root, row_of(d, preset, s) | (settings or {}))
    )


def run_cell(
    data: str, strong: str, baseline: str, seed: int, root: str | None, settings: dict[str, Any]
) -> dict[str, Any]:
    r"""Trains one baseline and returns its line.

    Raises:
        ValueError: if a setting is unknown.
    """
    split = split_of(data, seed)
    task = load_task(data, root=root, split=split, transforms=settings.get("transforms", ()))
    parts = {field.name for field in fields(ModelConfig)}
    config = ModelConfig(**{key: value for key, value in (settings | {"strong": strong}).items() if key in parts})
    train = make_config(**{key: value for key, value in settings.items() if key not in parts | {"transforms"}})
    seed_everything(seed)
    start = time.perf_counter()
    prob, details = BASELINES[baseline](task, config, train)
    seconds = time.perf_counter() - start
    return {
        **dict(zip(methods.CELL, (data, strong, baseline, seed), strict=True)),
        "split": task.split,
        "preprocessing": task.preprocessing,
        "metric": task.metric,
        **{split: task.evaluate(prob, split) for split in SPLITS},
        "seconds": seconds,
        "details": details,
        "settings": asdict(config) | asdict(train),
    }


def table(out: Path = RESULTS, compare: Path = methods.RESULTS, seeds: int | None = None) -> None:
    r"""Prints mean and unbiased standard deviation of the test scores in %, beside the methods' on the same seeds.

    Args:
        out: file to read.
        compare: the file of `experiments/methods.py`.
        seeds: number of runs of each cell to use, counted from seed 0; all by default.
    """
    lines = [*read_lines(out), *read_lines(compare)]
    runs = pd.DataFrame([row for row in lines if seeds is None or row["seed"] < seeds])
    rows = []
    for (data, strong), group in runs[runs.method.isin(BASELINES)].groupby(["data", "strong"], sort=False):
        same = runs[(runs.data == data) & (runs.strong == strong) & runs.seed.isin(group.seed)]
        row = {"data (runs)": f"{data} ({group.seed.nunique()})", "GNN": strong}
        for method in (*reversed(METHODS), *BASELINES):
            row[method] = methods.spread(100 * same[same.method == method].test)
        rows.append(row)
    print(methods.markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    auto_cli([run, table])
