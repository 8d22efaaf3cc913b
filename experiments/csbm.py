r"""Does the gate find the nodes whose features tell the class? The default settings on the
generated `csbm`.

python experiments/csbm.py        # about a minute; appends to experiments/results/csbm.jsonl
"""

from itertools import product
from typing import Any

from common import RESULTS, append_missing, make_spec, train_run
from pairs import compute_outputs

OUT = RESULTS / "csbm.jsonl"
POPULATIONS = ("features tell the class", "neighbours tell the class")


def make_line(method: str, seed: int) -> dict[str, Any]:
    r"""Trains one model and returns its line."""
    task, model, result = train_run(make_spec("csbm", "gcn", method, seed), root=None)
    confidence = compute_outputs(model, task).confidence
    means = {}
    for k, name in enumerate(POPULATIONS):
        means[name] = float(confidence[task.data.population == k].mean())
    return {
        "method": method,
        "seed": seed,
        "split": seed,
        "mean_confidence": means,
        "test": result.test,
        "alone": {expert: scores["test"] for expert, scores in result.alone.items()},
    }


if __name__ == "__main__":
    runs = list(product(("mowst", "mowst-star"), range(3)))
    append_missing(OUT, runs, make_line, keys=("method", "seed"))
