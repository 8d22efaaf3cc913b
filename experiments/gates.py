r"""Every gate over the same two experts, one JSON line per gate, data set and seed.

    python experiments/gates.py run --root DATA      # appends to experiments/results/gates.jsonl
    python experiments/gates.py table                # prints the table of that file as Markdown

Finished runs are skipped. Run k takes split k and seed k: an MLP and a GCN are trained alone once,
and each gate starts from exactly them (mowst, without pretraining). "step" is hard routing at
D >= 1/2, "learned+x" reads the features and the dispersion, "logits" and "features" are the
unbiased ablations.
"""

import copy
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from common import (
    RESULTS,
    append_missing,
    build_for,
    load_task_of,
    make_spec,
    markdown,
    select_scores,
    spread,
)
from jsonargparse import auto_cli
from pairs import compute_outputs

from mowst import GraphTask, Mowst, fit, seed_everything
from mowst.study.lines import read_lines

OUT = RESULTS / "gates.jsonl"
KEYS = ("data", "seed", "gate")
GATES: dict[str, dict[str, Any]] = {
    "power": {"gate": "power"},
    "step": {"gate": "step"},
    "monotone": {"gate": "monotone"},
    "learned": {"gate": "learned"},
    "learned+x": {"gate": "learned", "gate_features": True},
    "hypernetwork": {"gate": "hypernetwork"},
    "logits": {"gate": "logits"},
    "features": {"gate": "features"},
}
TRAINING = {"gate_fit": "train", "pretrain": "none"}
SCORES = ("method", "route", "train", "val", "test", "expected", "deferred_share", "scores")


def run(
    data: tuple[str, ...] = ("amherst41", "minesweeper"),
    seeds: int = 5,
    root: str | None = None,
    out: Path = OUT,
) -> None:
    r"""Runs what the file does not hold yet.

    Args:
        data: names of data sets.
        seeds: number of runs of each gate, counted from seed 0.
        root: folder of the data sets.
        out: file to append to.
    """

    def make(data: str, seed: int, gate: str) -> dict[str, Any]:
        return make_line(data, seed, gate, root)

    append_missing(out, list(product(data, range(seeds), GATES)), make, keys=KEYS)


@lru_cache(maxsize=1)
def train_pair(data: str, seed: int, root: str | None) -> tuple[GraphTask, Mowst, dict[str, Any]]:
    r"""Trains both experts alone, and returns their scores too."""
    spec = make_spec(data, "gcn", "mowst", seed)
    task = load_task_of(spec, root)
    seed_everything(seed)
    pair, alone = build_for(task, spec.model_config), {}
    for expert in ("weak", "strong"):
        result = fit(pair, task, method=expert, config=spec.train_config)
        alone[expert] = result.scores[expert]
    return task, pair, alone


def make_line(data: str, seed: int, gate: str, root: str | None) -> dict[str, Any]:
    r"""Trains a mixture with a gate from the two experts and returns its line."""
    task, pair, alone = train_pair(data, seed, root)
    spec = make_spec(data, "gcn", "mowst", seed, GATES[gate] | TRAINING)
    seed_everything(seed)
    model = build_for(task, spec.model_config)
    model.weak, model.strong = copy.deepcopy(pair.weak), copy.deepcopy(pair.strong)
    result = fit(model, task, method="mowst", config=spec.train_config)
    return {
        "data": data,
        "seed": seed,
        "gate": gate,
        "alone": alone,
        "parameters": sum(parameter.numel() for parameter in model.gate.parameters()),
        "confidence": measure_confidence(model, task),
        **{key: getattr(result, key) for key in SCORES},
        "seconds": result.seconds,
        "settings": spec.all_settings,
    }


def measure_confidence(model: Mowst, task: GraphTask) -> dict[str, float]:
    r"""Measures the mean confidence on training and test nodes, apart for nodes that the weak
    expert predicts correctly and wrongly.
    """
    out, means = compute_outputs(model, task), {}
    right = out.weak.argmax(dim=-1) == task.data.y
    for split in ("train", "test"):
        for name, nodes in (("right", right), ("wrong", ~right)):
            mean = out.confidence[task.masks[split] & nodes].mean()
            means[f"{split}, {name}"] = float(mean)
    return means


def table(out: Path = OUT) -> None:
    r"""Prints mean and unbiased standard deviation over the runs, and paired differences to the GCN
    alone.

    Args:
        out: file to read.
    """
    rows = []
    for (data, gate), runs in pd.DataFrame(read_lines(out)).groupby(["data", "gate"], sort=False):
        gain = runs.test - select_scores(runs.alone, "strong")
        row = {
            "data (runs)": f"{data} ({len(runs)})",
            "gate": gate,
            "parameters": runs.parameters.iloc[0],
            "test": spread(100 * runs.test),
            "minus its GCN alone": spread(100 * gain, signed=True),
            "deferred": f"{100 * runs.deferred_share.mean():.0f} %",
        }
        for name, value in pd.DataFrame(list(runs.confidence)).mean().items():
            row[f"C {name}"] = f"{value:.2f}"
        rows.append(row)
    print(markdown(rows))


if __name__ == "__main__":
    auto_cli([run, table])
