r"""A full disk is reported with the path and what to do, and the files that were there stay."""

import numpy as np
import pytest
import torch

from mowst import MLP, LearnedGate, Mowst, TrainConfig, build_expert, fit, seed_everything
from mowst.study import sweep
from mowst.train.checkpoint import read_checkpoint, write_checkpoint

pytest.importorskip("resource")
CONFIG = TrainConfig(epochs=2, rounds=1, gate_fit="train")


def test_a_sweep_on_a_journal_goes_on_once_there_is_room(data, tmp_path, full_beyond):
    folder, path = tmp_path / "graph", tmp_path / "s.log"
    folder.mkdir()
    arrays = {"features": data.x, "edges": data.edge_index.T, "labels": data.y}
    for split in ("train", "val", "test"):
        arrays[f"{split}_mask"] = data[f"{split}_mask"]
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.numpy())
    settings = {"epochs": 2, "hidden_channels": 8}
    call = {"method": "weak", "storage": str(path), "settings": settings}
    (before,) = sweep(str(folder), trials=1, **call).trials
    with (
        full_beyond(path.stat().st_size + 100),
        pytest.raises(OSError, match=f"File too large: '{path}'"),
    ):
        sweep(str(folder), trials=2, **call)
    assert path.read_bytes()[-1:] != b"\n"
    after = sweep(str(folder), trials=2, **call).trials
    assert after[0].values == before.values
    assert [trial.state.name for trial in after].count("COMPLETE") == 2


def make_model():
    seed_everything(0)
    sizes = {
        "in_channels": 6,
        "hidden_channels": 8,
        "num_layers": 2,
        "out_channels": 3,
        "dropout": 0.5,
    }
    return Mowst(MLP(**sizes), build_expert("gcn", **sizes), LearnedGate(4))


def test_the_older_checkpoint_and_the_older_model_stay(tmp_path, full_beyond):
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


@pytest.mark.parametrize(
    ("size", "name"), [(500, "metrics.jsonl"), (8000, "checkpoint.safetensors")]
)
def test_a_run_reports_how_to_resume_and_resumes_once_there_is_room(
    task, tmp_path, size, name, full_beyond
):
    model = make_model()
    whole = fit(model, task, config=CONFIG, run_dir=tmp_path / "whole")
    run = tmp_path / "run"
    full = full_beyond(size)

    def callback(record):
        if record["stage"] == "round 1: weak" and record["epoch"] == 1:
            full.__enter__()

    try:
        with pytest.raises(OSError, match=rf"resume the run from '{run}'\): '.*{name}'") as error:
            options = {"run_dir": run, "checkpoint_seconds": 0, "callbacks": [callback]}
            fit(make_model(), task, config=CONFIG, **options)
    finally:
        full.__exit__(None, None, None)
    assert error.value.filename == str(run / name)
    assert (
        read_checkpoint(run / "checkpoint.safetensors")["history"][-1]["stage"] == "pretrain strong"
    )
    again = make_model()
    resumed = fit(again, task, config=CONFIG, run_dir=run, resume=True)
    assert resumed.scores == whole.scores
    for key, value in model.state_dict().items():
        assert (
            torch.equal(again.state_dict()[key], value) if isinstance(value, torch.Tensor) else True
        )
