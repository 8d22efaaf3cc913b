import io
import sys
from types import SimpleNamespace

import pytest
import torch

from mowst import (
    GCN,
    MLP,
    MonotoneGate,
    Mowst,
    ProgressBar,
    StopTraining,
    TrainConfig,
    fit,
    seed_everything,
)
from mowst.io import read_json
from mowst.train.run_dir import RunDir

RECORD = {
    "round": 2,
    "part": "weak",
    "epoch": 7,
    "loss": 0.5,
    "val_loss": 0.25,
    "val": 0.75,
    "confidence": 0.125,
}
SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SHORT = {"epochs": 4, "rounds": 2, "lr": 0.03, "gate_folds": 2}


def make_model():
    seed_everything(0)
    return Mowst(MLP(**SIZES), GCN(**SIZES), MonotoneGate())


def stop_at(stage, epoch):
    def stop(record):
        if (record["stage"], record["epoch"]) == (stage, epoch):
            raise StopTraining

    return stop


def test_the_progress_bar_shows_stage_loss_validation_and_confidence():
    out = io.StringIO()
    bar = ProgressBar(file=out, mininterval=0)
    bar(RECORD | {"stage": "round 2: weak"})
    bar(RECORD | {"stage": "pretrain strong"})
    shown = out.getvalue()
    for text in (
        "round 2: weak",
        "pretrain strong",
        "loss=0.5000",
        "val_loss=0.2500",
        "val=0.7500",
        "confidence=0.1250",
    ):
        assert text in shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("err", "callbacks", "shown"),
    [
        (Terminal(), [], True),
        (Terminal(), [ProgressBar(disable=True)], False),
        (io.StringIO(), [], False),
    ],
    ids=["terminal", "hidden", "pipe"],
)
def test_fit_shows_progress_in_a_terminal_only(task, monkeypatch, err, callbacks, shown):
    monkeypatch.setattr(sys, "stderr", err)
    fit(make_model(), task, "weak", TrainConfig(epochs=2), callbacks=callbacks)
    assert ("epochs" in err.getvalue()) == shown


def test_fit_shows_progress_in_a_notebook(task, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    fit(make_model(), task, "weak", TrainConfig(epochs=2))
    assert "epochs" in sys.stderr.getvalue()


def test_records_are_numbered_through_all_stages(task):
    result = fit(make_model(), task, config=TrainConfig(**SHORT))
    assert [record["step"] for record in result.history] == [*range(1, len(result.history) + 1)]


@pytest.mark.parametrize("gate_fit", ["validation", "train"])
def test_a_callback_ends_training_in_pretraining_with_the_best_expert(task, gate_fit):
    model = make_model()
    config = TrainConfig(**SHORT, gate_fit=gate_fit)
    result = fit(model, task, config=config, callbacks=[stop_at("pretrain strong", 2)])
    assert [record["part"] for record in result.history] == ["weak"] * 4 + ["strong"] * 2
    best = min(result.history, key=lambda record: record["val_calibrated"])
    assert result.route == best["part"] and result.val == pytest.approx(best["val"])
    assert not model.training


def test_the_best_epoch_of_a_round_that_a_callback_ends_is_kept(task):
    config = TrainConfig(**SHORT, gate_fit="train")
    result = fit(make_model(), task, config=config, callbacks=[stop_at("round 1: weak", 3)])
    assert (result.history[-1]["stage"], result.history[-1]["epoch"]) == ("round 1: weak", 3)
    best = [record for record in result.history if record["round"] == 1 and record["best"]][-1]
    assert best["epoch"] < 3 and result.route == "mixture"
    assert result.scores["mixture"]["val"] == result.val == pytest.approx(best["val"])


def test_a_round_that_a_callback_ends_before_the_fit_of_the_gate_is_rolled_back(task):
    stopped, start = make_model(), make_model()
    callbacks = [stop_at("round 1: weak", 3)]
    result = fit(stopped, task, config=TrainConfig(**SHORT), callbacks=callbacks)
    before = fit(start, task, config=TrainConfig(**SHORT | {"rounds": 0}))
    assert (result.history[-1]["stage"], result.history[-1]["epoch"]) == ("round 1: weak", 3)
    assert result.scores == before.scores and result.route == before.route
    for name, value in start.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, stopped.state_dict()[name])


def test_a_callback_ends_training_after_a_stage(task):
    class StopAfter:
        def __call__(self, record):
            pass

        def on_stage_end(self, model, result):
            if result.name == "fit gate":
                raise StopTraining

    result = fit(make_model(), task, config=TrainConfig(**SHORT), callbacks=[StopAfter()])
    expected = fit(make_model(), task, config=TrainConfig(**SHORT | {"rounds": 0}))
    assert result.scores == expected.scores and len(result.history) == len(expected.history)


def test_a_run_that_a_callback_ended_is_finished(task, tmp_path):
    seen = []
    callbacks = [stop_at("train weak", 2), seen.append]
    config = TrainConfig(**SHORT)
    result = fit(make_model(), task, "weak", config, run_dir=tmp_path / "run", callbacks=callbacks)
    run = RunDir.open(tmp_path / "run")
    assert read_json(run.path / "result.json")["val"] == result.val
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 2
    # The callbacks after the one that ended training saw the last record too.
    assert seen == result.history and not run.checkpoint_path.exists()
