r"""An optimizer of one's own."""

from functools import partial

import pytest
import torch

from mowst import GCN, MLP, MonotoneGate, Mowst, TrainConfig, fit, seed_everything
from mowst.io import read_yaml
from mowst.study.values import parse_value
from mowst.train import RunDir
from mowst.train.config import flatten_config

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SHORT = {"epochs": 3, "rounds": 1, "lr": 0.03, "gate_fit": "train"}
SGD = partial(torch.optim.SGD, momentum=0.9)


def make_model():
    seed_everything(0)
    return Mowst(MLP(**SIZES, dropout=0.3), GCN(**SIZES, dropout=0.3), MonotoneGate())


def drop_seconds(history):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


def test_a_factory_of_adam_is_the_same_as_its_name(task):
    settings = SHORT | {"weak": {"lr": 0.1}}
    named = fit(make_model(), task, config=TrainConfig(**settings, optimizer="adam"))
    made = fit(make_model(), task, config=TrainConfig(**settings, optimizer=torch.optim.Adam))
    assert drop_seconds(made.history) == drop_seconds(named.history)


@pytest.mark.parametrize("scope", [None, "weak"])
def test_a_run_with_its_own_optimizer_is_resumed_to_the_same_result(task, tmp_path, scope):
    settings = {"optimizer": SGD} if scope is None else {scope: {"optimizer": SGD}}
    config = TrainConfig(**SHORT, **settings)
    run_dir = RunDir(tmp_path / "run", flatten_config(config))

    def stop(record):
        if record["step"] == 8:
            run_dir.stop()

    with pytest.raises(InterruptedError):
        fit(make_model(), task, config=config, run_dir=run_dir, callbacks=[stop])
    saved = read_yaml(run_dir.path / "config.yaml")
    name = "optimizer" if scope is None else f"{scope}.optimizer"
    assert saved[name] == "torch.optim.sgd.SGD"
    run_dir = RunDir(tmp_path / "run", flatten_config(config))
    resumed = fit(make_model(), task, config=config, run_dir=run_dir, resume=True)
    expected = fit(make_model(), task, config=config)
    assert drop_seconds(resumed.history) == drop_seconds(expected.history)
    adam = fit(make_model(), task, config=TrainConfig(**SHORT))
    assert drop_seconds(adam.history) != drop_seconds(expected.history)


def test_a_factory_may_add_a_schedule(task):
    made = []

    def make(groups):
        optimizer = torch.optim.AdamW(groups)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        optimizer.register_step_post_hook(lambda *_: rates.append(schedule.get_last_lr()[0]))
        optimizer.register_step_post_hook(lambda *_: schedule.step())
        made.append(optimizer)
        return optimizer

    rates = []
    config = TrainConfig(epochs=3, lr=0.08, weight_decay=0.1, optimizer=make)
    fit(make_model(), task, "strong", config)
    assert rates == pytest.approx([0.08, 0.04, 0.02])
    assert [group["weight_decay"] for group in made[0].param_groups] == [0.1]


def test_a_factory_that_returns_no_optimizer_is_named(task):
    config = TrainConfig(epochs=3, optimizer=lambda groups: None)
    with pytest.raises(
        TypeError, match="must return a torch.optim.Optimizer, .* returned NoneType"
    ):
        fit(make_model(), task, "strong", config)


def test_files_and_the_command_line_take_names_only():
    with pytest.raises(ValueError, match="optimizer must be"):
        parse_value("optimizer", "torch.optim.SGD")
