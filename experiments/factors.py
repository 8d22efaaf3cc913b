r"""What each choice of the default is worth: one setting at a time is changed, on development splits.

    python experiments/factors.py run --root DATA      # appends to experiments/results/factors.jsonl
    python experiments/factors.py table                # prints the table of that file as Markdown

Every cell is one `fit` with the settings of `mowst train` and one of them replaced; differences are paired by data set,
GNN and split, in points of the test metric.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli
from methods import append_missing, markdown, read
from scipy import stats

from mowst import TrainConfig, fit, load_task, seed_everything
from mowst.nn.build import ModelConfig, build_model
from mowst.presets import preset
from mowst.study.cell import split_of

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
    cells = [(d, s, f, k) for k in range(seeds) for d in data for s in strong for f in factor]
    append_missing(out, cells, lambda d, s, f, k: run_cell(d, s, f, k, root))


def run_cell(data: str, strong: str, factor: str, seed: int, root: str | None) -> dict[str, Any]:
    r"""Trains one model and returns its line."""
    split = split_of(data, seed)
    task, settings = load_task(data, root=root, split=split), preset(data) | {"strong": strong} | FACTORS[factor]
    config, train = (
        {f.name: settings[f.name] for f in fields(kind) if f.name in settings} for kind in (ModelConfig, TrainConfig)
    )
    seed_everything(seed)
    sizes = {"in_channels": task.num_features, "out_channels": task.num_classes, "num_nodes": task.num_nodes}
    result = fit(build_model(ModelConfig(**config), **sizes), task, **train)
    line = {"data": data, "strong": strong, "method": factor, "seed": seed, "split": split, "metric": task.metric}
    line |= {
        key: getattr(result, key) for key in ("test", "route", "chosen", "start", "alone", "weak_share", "seconds")
    }
    return line | {"settings": settings}


def table(out: Path = RESULTS) -> None:
    r"""Prints the mean difference of each factor to the default, over data sets, and its 95 % interval, in points; then
    the means by data set.

    Args:
        out: file of the lines.
    """
    frame = pd.DataFrame(read(out)).pivot_table(index=["data", "strong", "seed"], columns="method", values="test")
    gains = 100 * frame.drop(columns="default").sub(frame["default"], axis=0)
    by_data = gains.groupby(["data", "strong"], sort=False).mean()
    rows = []
    for factor in (name for name in FACTORS if name in gains):
        means = by_data[factor].dropna()
        half = stats.t.ppf(0.975, len(means) - 1) * stats.sem(means) if len(means) > 1 else np.nan
        row = {"changed": factor, "test - default": f"{means.mean():+.2f}"}
        row["95 % interval over data sets"] = f"{means.mean() - half:+.2f} to {means.mean() + half:+.2f}"
        rows.append(row | {data: f"{mean:+.2f}" for (data, _), mean in by_data[factor].items()})
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    auto_cli([run, table])
