r"""The same seed gives the same run, to the bit, here and in a fresh process (on a CPU, with as
many threads).
"""

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from mowst import GraphTask, TrainConfig, fit, seed_everything
from mowst.data.csbm import csbm
from mowst.data.splits import stratified_split
from mowst.nn.build import ModelConfig, build_model

RUNS = [
    (method, gate_fit) for method in ("mowst", "mowst-star") for gate_fit in ("validation", "train")
]
SETTINGS = {"epochs": 3, "rounds": 1, "gate_folds": 2, "lr": 0.03}


def run(method: str, gate_fit: str) -> dict[str, str]:
    r"""Digests of weights, history and scores of a run from its seed, the drawing of the graph
    included.
    """
    torch.set_num_threads(1)
    task = GraphTask.from_data(csbm(num_nodes=120), draw=stratified_split)
    seed_everything(7)
    gate = "monotone" if gate_fit == "validation" else "learned"
    config = ModelConfig(hidden_channels=8, dropout=0.5, gate=gate)
    model = build_model(config, in_channels=task.num_features, out_channels=task.num_classes)
    result = asdict(fit(model, task, method, TrainConfig(gate_fit=gate_fit, **SETTINGS)))
    history = [
        {k: v for k, v in record.items() if k != "seconds"} for record in result.pop("history")
    ]
    result.pop("seconds")
    weights = [
        value.numpy().tobytes()
        for value in model.state_dict().values()
        if isinstance(value, torch.Tensor)
    ]
    contents = {
        "weights": b"".join(weights),
        "history": repr(history).encode(),
        "scores": repr(result).encode(),
    }
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


@pytest.fixture(scope="module")
def fresh() -> dict[str, dict[str, str]]:
    done = subprocess.run(
        [sys.executable, __file__], check=True, capture_output=True, cwd=Path(__file__).parents[2]
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("method", "gate_fit"), RUNS)
def test_the_same_seed_gives_the_same_bits_here_again_and_in_a_fresh_process(
    fresh, method, gate_fit
):
    first = run(method, gate_fit)
    torch.rand(3)  # what was drawn before does not matter
    assert run(method, gate_fit) == first == fresh[f"{method} {gate_fit}"]


def test_runs_that_differ_have_other_digests(fresh):
    assert len({digests["weights"] for digests in fresh.values()}) == len(RUNS)


if __name__ == "__main__":
    print(json.dumps({f"{method} {gate_fit}": run(method, gate_fit) for method, gate_fit in RUNS}))
