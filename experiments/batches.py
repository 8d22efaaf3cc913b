r"""Mini-batches against the full batch: data sets x ways to batch x seeds, one JSON line per run; finished runs are
skipped.

    python experiments/batches.py run --root DATA          # appends to experiments/results/batches.jsonl
    python experiments/batches.py table                    # prints the table of that file as Markdown

Every way takes as many steps at most, and evaluates as often: with num_parts parts, epochs are divided by it. Patience
is the same number of epochs. A run holds the GNN alone and the mixture with it.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from methods import append_missing, markdown, run_cell, spread

from mowst.presets import preset
from mowst.study.lines import read_lines

RESULTS = Path(__file__).parent / "results" / "batches.jsonl"
EPOCHS, EVAL_EVERY, PATIENCE = 400, 4, 40


def run(
    data: tuple[str, ...] = ("computers", "cs"),
    strong: tuple[str, ...] = ("gcn",),
    parts: tuple[int, ...] = (1, 2),
    seeds: int = 5,
    first_seed: int = 0,
    root: str | None = None,
    out: Path = RESULTS,
    settings: dict[str, Any] | None = None,
    threads: int = 1,
) -> None:
    r"""Runs the cells that the file does not hold yet.

    Args:
        data: names of data sets.
        strong: names of strong experts.
        parts: numbers of parts of a random partition; 1 is the full batch.
        seeds: number of runs of each cell, counted from seed 0.
        first_seed: the seed to begin with.
        root: folder of the data sets.
        out: file to append to.
        settings: model or training settings in place of the preset ones.
        threads: number of CPU threads.
    """
    torch.set_num_threads(threads)

    def run_one(data: str, strong: str, way: str, seed: int) -> dict[str, Any]:
        count = int(way.removeprefix("random-").replace("full", "1"))
        lengths = {"epochs": EPOCHS // count, "eval_every": max(EVAL_EVERY // count, 1), "patience": PATIENCE}
        row = preset(data, strong=strong) | lengths
        row |= {"rounds": 1} | ({"batches": "random", "num_parts": count} if count > 1 else {})
        return run_cell(data, strong, "mowst", seed, root, row | (settings or {})) | {"method": way}

    ways = ["full" if count == 1 else f"random-{count}" for count in parts]
    cells = [(d, s, w, k) for k in range(first_seed, seeds) for d in data for s in strong for w in ways]
    append_missing(out, cells, run_one)


def table(out: Path = RESULTS) -> None:
    r"""Prints mean and unbiased standard deviation of the test scores in %.

    Args:
        out: file to read.
    """
    rows = []
    for (data, strong, way), runs in pd.DataFrame(read_lines(out)).groupby(["data", "strong", "method"], sort=False):
        rows.append(
            {
                "data (runs)": f"{data} ({runs.seed.nunique()})",
                "GNN": strong,
                "batches": way,
                "MLP alone": spread(100 * runs.alone.map(lambda scores: scores["weak"]["test"])),
                "GNN alone": spread(100 * runs.alone.map(lambda scores: scores["strong"]["test"])),
                "mowst": spread(100 * runs.test),
                "s per run": f"{runs.seconds.mean():.0f}",
            }
        )
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    auto_cli([run, table])
