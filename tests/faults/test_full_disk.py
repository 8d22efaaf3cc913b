r"""A disk that is full is said with the path and what to do, and what was there before stays."""

from contextlib import contextmanager

import pytest
import torch

from mowst import MLP, LearnedConfidence, Mowst, build_expert, fit, seed_everything
from mowst.train.checkpoint import read_checkpoint, write_checkpoint

resource = pytest.importorskip("resource")
SETTINGS = {"epochs": 2, "rounds": 1, "gate_fit": "train"}


@contextmanager
def full_beyond(size):
    r"""A context in which no file can grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def make_model():
    seed_everything(0)
    sizes = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3, "dropout": 0.5}
    return Mowst(MLP(**sizes), build_expert("gcn", **sizes), LearnedConfidence(4))


def test_the_older_checkpoint_and_the_older_model_stay(tmp_path):
    checkpoint, path = tmp_path / "checkpoint", tmp_path / "model"
    write_checkpoint(checkpoint, {"epoch": 1})
    (model := make_model()).save(path)
    with full_beyond(1000):
        with pytest.raises(OSError, match=f"{checkpoint}'$"):
            write_checkpoint(checkpoint, {"epoch": 2, "weights": torch.ones(10_000)})
        with pytest.raises(OSError, match=f"{path}'$"):
            model.save(path)
    assert read_checkpoint(checkpoint) == {"epoch": 1} and Mowst.load(path).route == model.route
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint", "model"}


@pytest.mark.parametrize(("size", "name"), [(500, "metrics.jsonl"), (8000, "checkpoint.safetensors")])
def test_a_run_says_how_to_go_on_and_does_once_there_is_room(task, tmp_path, size, name):
    model = make_model()
    whole = fit(model, task, run_dir=tmp_path / "whole", **SETTINGS)
    run = tmp_path / "run"
    full = full_beyond(size)

    def callback(record):
        if record["turn"] == "weak" and record["epoch"] == 1:
            full.__enter__()

    try:
        with pytest.raises(OSError, match=rf"mend this, then resume the run from '{run}'\): '.*{name}'") as error:
            fit(make_model(), task, run_dir=run, checkpoint_seconds=0, callbacks=[callback], **SETTINGS)
    finally:
        full.__exit__(None, None, None)
    assert error.value.filename == str(run / name)
    assert read_checkpoint(run / "checkpoint.safetensors")["history"][-1]["turn"] == "strong alone"
    again = make_model()
    resumed = fit(again, task, run_dir=run, resume=True, **SETTINGS)
    assert resumed.scores == whole.scores
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value) if isinstance(value, torch.Tensor) else True
