r"""A process that is killed at any point of a save leaves the older file or the new one,
undamaged.
"""

import os

import pytest
import torch

from mowst import MLP, LearnedGate, Mowst, TrainConfig, build_expert, fit, seed_everything
from mowst.train.checkpoint import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


def make_model(seed=0):
    seed_everything(seed)
    sizes = {
        "in_channels": 6,
        "hidden_channels": 8,
        "num_layers": 2,
        "out_channels": 3,
        "dropout": 0.5,
    }
    return Mowst(MLP(**sizes), build_expert("gcn", **sizes), LearnedGate(4))


def save_checkpoint(path, number):
    write_checkpoint(path, {"epoch": number, "weights": torch.full((500,), float(number))})


def load_checkpoint(path):
    state = read_checkpoint(path)
    assert state["weights"].eq(state["epoch"]).all() and len(state["weights"]) == 500
    return state["epoch"]


def save_model(path, number):
    model = make_model()
    for parameter in model.parameters():
        parameter.data.fill_(number)
    model.save(path)


def load_model(path):
    values = {
        float(value)
        for parameter in Mowst.load(path).parameters()
        for value in parameter.detach().view(-1)
    }
    (number,) = values
    return int(number)


KINDS = {
    "checkpoint": (save_checkpoint, load_checkpoint),
    "model": (save_model, load_model),
}
FILES = [pytest.param(4, id="few"), pytest.param(60, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", FILES)
@pytest.mark.parametrize("older", [1, None])
def test_killed_anywhere_in_a_save_there_is_the_older_file_or_the_new_one(
    kind, pieces, older, tmp_path, count_points
):
    (save, load), path = KINDS[kind], tmp_path / "file.safetensors"
    found = []
    for kill_at in range(1, 1000):
        path.unlink(missing_ok=True)
        if older:
            save(path, older)
        ended = count_points(lambda: save(path, 2), kill_at, pieces)
        found.append(load(path) if path.exists() else None)
        if ended:
            break
    # Old up to the replacement, new from then on; 60 pieces are 70 kills in each of four cases.
    assert (
        found == sorted(found, key=lambda number: number == 2)
        and found[0] == older
        and found[-1] == 2
    )
    assert len(found) >= pieces + 10


@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_run_killed_anywhere_resumes_to_the_bit(count, task, tmp_path, count_points):
    config = TrainConfig(epochs=1, rounds=1, gate_fit="train")

    def run(name, resume=False):
        model = make_model()
        options = {"run_dir": tmp_path / name, "resume": resume, "checkpoint_seconds": 0}
        result = fit(model, task, config=config, **options)
        return model.state_dict(), result.test, [record["val_loss"] for record in result.history]

    weights, *scores = run("whole")
    total = count_points(lambda: run("counted"))
    resumed = 0
    for kill_at in range(1, total, total // count):
        folder = f"killed at {kill_at}"
        assert count_points(lambda folder=folder: run(folder), kill_at) is None
        begun, done = (
            (tmp_path / folder / name).exists() for name in ("config.yaml", "result.json")
        )
        if done:
            continue
        if not begun:
            with pytest.raises(FileNotFoundError, match="no config.yaml"):
                run(folder, resume=True)
            continue
        resumed += 1
        again, *scores_again = run(folder, resume=True)
        assert scores_again == scores
        assert all(
            torch.equal(again[key], value)
            for key, value in weights.items()
            if isinstance(value, torch.Tensor)
        )
        assert not list((tmp_path / folder).glob(".*.tmp"))
    assert resumed >= count // 2
