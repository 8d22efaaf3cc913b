import json
from itertools import count

import pytest
import torch
from safetensors.torch import save_file

ENVIRONMENT = {
    "command": ["mowst", "run", "my rows.yaml"],
    "commit": "abc1234-dirty",
    "python": "3.11.7",
    "versions": {"mowst": "0.1.0", "torch": "2.13.0"},
    "machine": {"platform": "Linux", "processor": "some processor", "threads": 1, "cuda": None},
    "threads": 1,
}


@pytest.fixture
def make_line():
    r"""Makes the line of a finished run; the ids count up."""
    ids = count()

    def make(data="cora", strong="gcn", method="mowst", seed=0, split=0, test=0.8, **changes):
        line = {
            "id": f"{next(ids):016x}",
            "name": f"{data} {strong} {method}",
            "data": data,
            "strong": strong,
        }
        line |= {
            "method": method,
            "seed": seed,
            "split": split,
            "metric": "accuracy",
            "status": "finished",
        }
        line |= {
            "has_gate": method.startswith("mowst"),
            "route": "mixture",
            "train": 0.9,
            "val": 0.85,
        }
        line |= {"test": test, "expected": 0.7, "deferred_share": 0.25}
        line |= {
            "alone": {"strong": {"test": 0.78}} if method.startswith("mowst") else {},
            "evaluations": 7,
        }
        line |= {"seconds": 1.5, "total_seconds": 2.5, "peak_mib": 300.0, "parameters": 1234}
        return (
            line
            | {"settings": {"lr": 0.02, "dropout": 0.5, "metric": None}, "environment": ENVIRONMENT}
            | changes
        )

    return make


@pytest.fixture
def history():
    r"""Two evaluations of each stage, of which the second is the best."""
    stages = [("pretrain weak", 0, "weak"), ("pretrain strong", 0, "strong")]
    for round in (1, 2):
        stages += [(f"round {round}: {part}", round, part) for part in ("weak", "strong")]
    records = []
    for stage, round, part in stages:
        for epoch in (1, 2):
            record = {"stage": stage, "round": round, "part": part, "epoch": epoch, "loss": 0.4}
            record |= {"val_loss": 0.5, "confidence": 0.5, "seconds": 0.1}
            records.append(record | {"val": 0.6 + 0.1 * epoch, "best": epoch == 2})
    return records


@pytest.fixture
def details():
    r"""A hundred test nodes of three classes. The weak expert is right on the confident half, the
    strong one on the other, and the mixture on all.
    """
    y = torch.arange(100) % 3
    confident = torch.arange(100) < 50
    wrong = (y + 1) % 3
    predicted = {
        "weak": torch.where(confident, y, wrong),
        "strong": torch.where(confident, wrong, y),
        "mixture": y.clone(),
    }
    probs = {f"{name}_prob": torch.eye(3)[classes] for name, classes in predicted.items()}
    nodes = {
        "y": y,
        "confidence": torch.where(confident, 0.95, 0.05),
        "degree": torch.arange(100) % 5,
    }
    nodes |= {"homophily": torch.where(torch.arange(100) < 20, torch.nan, 0.55)}
    return predicted | probs | nodes | {"histogram": torch.full((3, 20), 5)}


@pytest.fixture
def study(tmp_path, make_line, history, details):
    r"""The folder of a study of mowst and its GNN with three seeds; one further run failed."""
    lines = [
        make_line(
            method=method, seed=k, test=0.80 + 0.01 * k + (method == "mowst") * (0.05 + 0.001 * k)
        )
        for method in ("mowst", "strong")
        for k in range(3)
    ]
    for line in lines:
        folder = tmp_path / "runs" / line["id"]
        folder.mkdir(parents=True)
        alone = [record for record in history if record["stage"] == "pretrain strong"]
        records = history if line["method"] == "mowst" else alone
        (folder / "history.jsonl").write_text(
            "".join(json.dumps(record) + "\n" for record in records)
        )
        known = (
            details
            if line["method"] == "mowst"
            else {"y": details["y"], "strong": details["strong"]}
        )
        save_file(known, folder / "details.safetensors")
    failed = make_line(seed=3, status="failed", error="RuntimeError: <b>out of | memory</b>")
    (tmp_path / "results.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in [*lines, failed])
    )
    return tmp_path
