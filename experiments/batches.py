r"""Mini-batches against the full batch: data sets x ways to batch x seeds, one JSON line per run.

    python experiments/batches.py run --root DATA    # appends to experiments/results/batches.jsonl
    python experiments/batches.py table              # prints the table of that file as Markdown

Finished runs are skipped. Every way takes the same number of steps at most, and evaluates as often.
A run holds the GNN alone and the mixture with it.
"""

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from common import (
    RESULTS,
    append_missing,
    make_line,
    make_spec,
    markdown,
    select_scores,
    spread,
)
from jsonargparse import auto_cli

from mowst.study.lines import read_lines

OUT = RESULTS / "batches.jsonl"
WAYS: dict[str, dict[str, Any]] = {
    "full": {"epochs": 400, "eval_every": 4, "patience": 40, "rounds": 1},
    "random-2": {
        **{"epochs": 200, "eval_every": 2, "patience": 40, "rounds": 1},
        **{"batches": "random", "num_parts": 2},
    },
}


def run(
    data: tuple[str, ...] = ("computers", "cs"),
    seeds: int = 5,
    first_seed: int = 0,
    root: str | None = None,
    out: Path = OUT,
) -> None:
    r"""Runs what the file does not hold yet.

    Args:
        data: names of data sets.
        seeds: one more than the last seed.
        first_seed: the first seed.
        root: folder of the data sets.
        out: file to append to.
    """

    def make(data: str, strong: str, way: str, seed: int) -> dict[str, Any]:
        return make_line(make_spec(data, strong, "mowst", seed, WAYS[way]), root, method=way)

    runs = list(product(data, ["gcn"], WAYS, range(first_seed, seeds)))
    append_missing(out, runs, make)


def table(out: Path = OUT) -> None:
    r"""Prints mean and unbiased standard deviation of the test scores in %.

    Args:
        out: file to read.
    """
    rows = []
    groups = pd.DataFrame(read_lines(out)).groupby(["data", "strong", "method"], sort=False)
    for (data, strong, way), runs in groups:
        rows.append(
            {
                "data (runs)": f"{data} ({runs.seed.nunique()})",
                "GNN": strong,
                "batches": way,
                "MLP alone": spread(100 * select_scores(runs.alone, "weak")),
                "GNN alone": spread(100 * select_scores(runs.alone, "strong")),
                "mowst": spread(100 * runs.test),
                "s per run": f"{runs.seconds.mean():.0f}",
            }
        )
    print(markdown(rows))


if __name__ == "__main__":
    auto_cli([run, table])
