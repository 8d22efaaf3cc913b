r"""An optimizer or a learning rate schedule of one's own."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from mowst import GCN, MLP, MonotoneGate, Mowst, TrainConfig, fit, seed_everything
from mowst.io import read_yaml
from mowst.metrics import Metric
from mowst.study.values import parse_value
from mowst.train import RunDir, Trainer
from mowst.train.config import flatten_config, make_config
from mowst.train.methods import find_method

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


def record_rates(make, task, method="strong", **settings):
    r"""Returns the learning rate of each epoch, and the result of the run."""
    rates = []

    def schedule(optimizer):
        optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
        return make(optimizer)

    config = TrainConfig(**{"lr": 0.08, "patience": None, **settings}, scheduler=schedule)
    return rates, fit(make_model(), task, method, config)


def test_a_scheduler_is_stepped_after_each_epoch(task):
    rates, _ = record_rates(lambda o: ExponentialLR(o, 0.5), task, epochs=4, eval_every=2)
    assert rates == pytest.approx([0.08, 0.04, 0.02, 0.01])
    rates, _ = record_rates(lambda o: CosineAnnealingLR(o, 2), task, epochs=3)
    assert rates == pytest.approx([0.08, 0.04, 0.0])


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_plateau_of_the_validation_score_reduces_the_rate(task, mode):
    def make(optimizer):
        return ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=0, threshold=0.0)

    rates, result = record_rates(make, task, epochs=12)
    expected, best = [0.08], None
    for record in result.history:
        value = -record["val_calibrated"] if mode == "min" else record["val"]
        expected.append(expected[-1])
        if best is not None and value <= best:
            expected[-1] /= 2
        best = value if best is None else max(best, value)
    assert rates == pytest.approx(expected[:-1])
    assert 0.08 > rates[-1] > 0.08 / 2**11


def test_a_scheduler_of_one_expert_leaves_the_other_alone(task):
    settings = {"epochs": 3, "rounds": 0, "gate_folds": 2}
    halve = {"scheduler": lambda optimizer: ExponentialLR(optimizer, 0.5)}
    plain = drop_seconds(fit(make_model(), task, config=TrainConfig(**settings)).history)
    config = TrainConfig(**settings, strong=halve)
    one = drop_seconds(fit(make_model(), task, config=config).history)
    changed = [a["stage"] for a, b in zip(one, plain, strict=True) if a != b]
    assert changed == ["pretrain strong"] * 2  # not its first epoch


SCHEDULES = {
    "exponential": lambda optimizer: ExponentialLR(optimizer, 0.8),
    "plateau": lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
    "sequence": lambda optimizer: SequentialLR(
        optimizer,
        [ExponentialLR(optimizer, 0.5), MultiStepLR(optimizer, [1, 3])],
        milestones=[2],
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_with_a_scheduler_is_resumed_to_the_same_result(task, tmp_path, name):
    config = TrainConfig(**SHORT | {"epochs": 4}, scheduler=SCHEDULES[name])
    expected = fit(make_model(), task, config=config)
    for step in (1, 8, 10):
        run_dir = RunDir(tmp_path / str(step), flatten_config(config))

        def stop(record, step=step, run_dir=run_dir):
            if record["step"] == step:
                run_dir.stop()

        with pytest.raises(InterruptedError):
            fit(make_model(), task, config=config, run_dir=run_dir, callbacks=[stop])
        assert "scheduler" in read_yaml(run_dir.path / "config.yaml")
        run_dir = RunDir(tmp_path / str(step), flatten_config(config))
        resumed = fit(make_model(), task, config=config, run_dir=run_dir, resume=True)
        assert drop_seconds(resumed.history) == drop_seconds(expected.history), step


def test_a_stage_that_is_rolled_back_returns_the_schedule_too(task):
    config = TrainConfig(
        epochs=2, rounds=2, gate_folds=2, scheduler=lambda optimizer: ExponentialLR(optimizer, 0.5)
    )
    trainer = Trainer(make_model(), task, find_method("mowst"), config)
    ends = []

    class Watch:
        def __call__(self, record): ...

        def on_stage_end(self, model, result):
            states = {}
            for key, owner in trainer.optimizers.items():
                rate = owner.optimizer.param_groups[0]["lr"]
                assert owner.scheduler.get_last_lr() == [rate]
                states[key] = owner.scheduler.state_dict()["last_epoch"]
            ends.append((result.accepted, states))

    trainer.train([Watch()])
    accepted = [states for is_accepted, states in ends if is_accepted]
    for k, (is_accepted, states) in enumerate(ends):
        if not is_accepted:
            selected = [found for was_accepted, found in ends[:k] if was_accepted][-1]
            assert states == selected
    assert not all(is_accepted for is_accepted, _ in ends) and accepted


def test_a_scheduler_is_a_factory(task):
    with pytest.raises(ValueError, match="scheduler must be a factory, such as lambda.* got 'cos'"):
        TrainConfig(scheduler="cos")
    config = make_config(scheduler=lambda optimizer: None)
    with pytest.raises(TypeError, match="must return a torch.optim.lr_scheduler.LRScheduler, .*"):
        fit(make_model(), task, "strong", config)
    assert flatten_config(config)["scheduler"].endswith("<lambda>")


def test_the_best_epoch_of_a_metric_is_the_lowest_if_lower_is_better(task):
    def count_errors(prob, y):
        return (prob.argmax(dim=1) != y).sum()

    errors = Metric("errors", count_errors, higher_is_better=False)
    settings = {"epochs": 10, "select": "metric", "rounds": 1, "gate_fit": "train", "lr": 0.1}
    found = []
    for metric in ("accuracy", errors):
        model = make_model()
        result = fit(model, replace(task, metric=metric), config=TrainConfig(**settings))
        found.append((model.state_dict(), [record["best"] for record in result.history], result))
    (first, best, by_accuracy), (second, also_best, by_errors) = found
    assert best == also_best and 1 < sum(best) < len(best)
    for name, value in first.items():
        assert not torch.is_tensor(value) or torch.equal(value, second[name])
    assert by_errors.test == pytest.approx((1 - by_accuracy.test) * task.index("test").numel())
    assert by_errors.expected is None
