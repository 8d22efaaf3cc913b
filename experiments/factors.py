r"""What each choice of the default is worth: one setting is changed, on development splits.

    python experiments/factors.py run --root DATA    # appends to experiments/results/factors.jsonl
    python experiments/factors.py table              # prints the table of that file as Markdown

Every run is one `fit` with the settings of `mowst train` and one choice replaced. Where another
setting goes with it, it stands in `FACTORS`. Differences are paired by data set, GNN and split, in
points of the test metric.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import RESULTS, append_missing, make_line, make_spec, markdown, show
from jsonargparse import auto_cli
from scipy import stats

from mowst.study.lines import read_lines

OUT = RESULTS / "factors.jsonl"
DATA = (
    *("digits", "cora", "citeseer", "chameleon-filtered"),
    *("wisconsin", "actor", "amherst41", "csbm"),
)
FACTORS: dict[str, dict[str, Any]] = {
    "default": {},
    "no rounds": {"rounds": 0},
    "select=loss": {"select": "loss"},
    "select=metric": {"select": "metric"},
    "mix=prob": {"mix": "prob"},
    "mix=logit": {"mix": "logit"},
    "gate=learned": {"gate": "learned", "gate_folds": 2},
    "gate=power": {"gate": "power"},
    "gate_fit=train": {"gate_fit": "train", "mix": "prob"},
    "gate_fit=train, learned": {"gate_fit": "train", "mix": "prob", "gate": "learned"},
    "pretrain=none": {"pretrain": "none"},
    "pretrain=strong": {"pretrain": "strong"},
}


def run(
    data: tuple[str, ...] = DATA, seeds: int = 5, root: str | None = None, out: Path = OUT
) -> None:
    r"""Runs what the file does not hold yet.

    Args:
        data: names of data sets.
        seeds: number of seeds and splits, from 0.
        root: folder of the data sets.
        out: file to append to.
    """

    def make(data: str, strong: str, factor: str, seed: int) -> dict[str, Any]:
        spec = make_spec(data, strong, "mowst", seed, FACTORS[factor])
        return make_line(spec, root, method=factor)

    append_missing(out, list(product(data, ["gcn"], FACTORS, range(seeds))), make)


def table(out: Path = OUT, into: Path | None = None) -> None:
    r"""Prints the mean difference of each factor to the default, over data sets, and its 95 %
    interval, in points; then the means by data set.

    Args:
        out: file of the lines.
        into: a Markdown file that gets the table between its markers "factors" and "end".
    """
    lines = pd.DataFrame(read_lines(out))
    frame = lines.pivot_table(index=["data", "strong", "seed"], columns="method", values="test")
    gains = 100 * frame.drop(columns="default").sub(frame["default"], axis=0)
    by_data = gains.groupby(["data", "strong"], sort=False).mean()
    rows = []
    for factor in FACTORS:
        if factor not in gains:
            continue
        means = by_data[factor].dropna()
        half = np.nan
        if len(means) > 1:
            half = stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)
        interval = f"{means.mean() - half:+.2f} to {means.mean() + half:+.2f}"
        row = {
            "changed": factor,
            "test - default": f"{means.mean():+.2f}",
            "95 % interval over data sets": interval,
        }
        for (data, _), mean in by_data[factor].items():
            row[data] = f"{mean:+.2f}"
        rows.append(row)
    show(markdown(rows), into, "factors")


if __name__ == "__main__":
    auto_cli([run, table])
