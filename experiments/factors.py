r"""What each choice of the default is worth: one setting at a time is changed, on development splits.

    python experiments/factors.py run --root DATA      # appends to experiments/results/factors.jsonl
    python experiments/factors.py table                # prints the table of that file as Markdown

Every cell is one `fit` with the settings of `mowst train` and one choice replaced (where another setting goes with it,
it stands in `FACTORS`); differences are paired by data set, GNN and split, in points of the test metric.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from methods import append_missing, markdown, run_cell, show
from scipy import stats

from mowst.presets import preset
from mowst.study.lines import read_lines

RESULTS = Path(__file__).parent / "results" / "factors.jsonl"
DATA = ("digits", "cora", "citeseer", "chameleon-filtered", "wisconsin", "actor", "amherst41", "csbm")
FACTORS: dict[str, dict[str, Any]] = {
    "default": {},
    "no turns": {"rounds": 0},
    "select=loss": {"select": "loss"},
    "select=metric": {"select": "metric"},
    "mix=prob": {"mix": "prob"},
    "mix=logit": {"mix": "logit"},
    "confidence=learned": {"confidence": "learned", "gate_folds": 2},
    "confidence=power": {"confidence": "power"},
    "gate_fit=train": {"gate_fit": "train", "mix": "prob"},
    "gate_fit=train, learned": {"gate_fit": "train", "mix": "prob", "confidence": "learned"},
    "pretrain=none": {"pretrain": "none"},
    "pretrain=strong": {"pretrain": "strong"},
}


def run(
    data: tuple[str, ...] = DATA,
    strong: tuple[str, ...] = ("gcn",),
    factor: tuple[str, ...] = tuple(FACTORS),
    seeds: int = 5,
    root: str | None = None,
    out: Path = RESULTS,
    threads: int = 1,
) -> None:
    r"""Runs the cells that the file does not hold yet.

    Args:
        data: names of data sets.
        strong: names of strong experts.
        factor: names of what is changed.
        seeds: number of seeds and splits, from 0.
        root: folder of the data sets.
        out: file to append to.
        threads: number of CPU threads.
    """
    torch.set_num_threads(threads)

    def run_one(data: str, strong: str, factor: str, seed: int) -> dict[str, Any]:
        return run_cell(data, strong, "mowst", seed, root, preset(data) | FACTORS[factor]) | {"method": factor}

    cells = [(d, s, f, k) for k in range(seeds) for d in data for s in strong for f in factor]
    append_missing(out, cells, run_one)


def table(out: Path = RESULTS, into: Path | None = None) -> None:
    r"""Prints the mean difference of each factor to the default, over data sets, and its 95 % interval, in points; then
    the means by data set.

    Args:
        out: file of the lines.
        into: a Markdown file that gets the table between its markers "factors" and "end".
    """
    frame = pd.DataFrame(read_lines(out)).pivot_table(index=["data", "strong", "seed"], columns="method", values="test")
    gains = 100 * frame.drop(columns="default").sub(frame["default"], axis=0)
    by_data = gains.groupby(["data", "strong"], sort=False).mean()
    rows = []
    for factor in (name for name in FACTORS if name in gains):
        means = by_data[factor].dropna()
        half = stats.t.ppf(0.975, len(means) - 1) * stats.sem(means) if len(means) > 1 else np.nan
        row = {"changed": factor, "test - default": f"{means.mean():+.2f}"}
        row["95 % interval over data sets"] = f"{means.mean() - half:+.2f} to {means.mean() + half:+.2f}"
        rows.append(row | {data: f"{mean:+.2f}" for (data, _), mean in by_data[factor].items()})
    show(markdown(pd.DataFrame(rows)), into, "factors")


if __name__ == "__main__":
    auto_cli([run, table])
