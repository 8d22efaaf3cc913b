from dataclasses import replace
from functools import cache

import pytest
import torch

from mowst import GCN, MLP, LearnedGate, Mowst, TrainConfig, fit, seed_everything
from mowst.train import Overrides, Trainer
from mowst.train.config import SCOPES, SETTINGS, TRAIN_SETTINGS, flatten_config, make_config
from mowst.train.methods import find_method

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
# What each override is set to, in a run that has another value.
OVERRIDES = {
    "lr": 0.2,
    "weight_decay": 0.3,
    "epochs": 3,
    "patience": 1,
    "optimizer": "adamw",
    "dropout": 0.25,
}


def make_model(weak=0.5, strong=0.5):
    r"""Builds a model from the dropout probability of each expert."""
    seed_everything(0)
    return Mowst(MLP(**SIZES, dropout=weak), GCN(**SIZES, dropout=strong), LearnedGate(4))


def test_the_order_is_base_then_pretraining_then_expert():
    base = {"lr": 0.01, "weight_decay": 0.1, "epochs": 10, "patience": 5, "optimizer": "adam"}
    config = TrainConfig(
        **base,
        pretraining={"lr": 0.02, "weight_decay": 0.2, "dropout": 0.3},
        weak={"lr": 0.03, "epochs": 30},
        strong={"optimizer": "adamw", "dropout": 0.0},
    )
    base = {**base, "dropout": None, "scheduler": None}
    pretraining = base | {"lr": 0.02, "weight_decay": 0.2, "dropout": 0.3}
    expected = {
        ("weak", True): pretraining | {"lr": 0.03, "epochs": 30},
        ("weak", False): base | {"lr": 0.03, "epochs": 30},
        ("strong", True): pretraining | {"optimizer": "adamw", "dropout": 0.0},
        ("strong", False): base | {"optimizer": "adamw", "dropout": 0.0},
        ("gate", False): base,
        ("joint", False): base,
    }
    for (part, phase), settings in expected.items():
        assert vars(config.merge_overrides(part, phase)) == settings


def test_overrides_are_given_as_dictionaries_or_with_dots():
    config = TrainConfig(
        lr=0.1, weak=Overrides(lr=0.2, dropout=0.0), pretraining=Overrides(epochs=3)
    )
    assert config == TrainConfig(
        lr=0.1, weak={"lr": 0.2, "dropout": 0.0}, pretraining={"epochs": 3}, strong=None
    )
    flat = {"lr": 0.1, "weak.lr": 0.2, "weak.dropout": 0.0, "pretraining.epochs": 3}
    assert config == make_config(**flat)
    assert config == make_config(
        **{"lr": 0.1, "weak": {"lr": 0.2}, "weak.dropout": 0.0, "pretraining": {"epochs": 3}}
    )
    assert flatten_config(config) == {name: getattr(config, name) for name in SETTINGS} | flat


def test_a_dot_refines_a_dictionary_in_any_order():
    settings = {"weak": {"lr": 0.2, "epochs": 3}, "weak.lr": 0.3}
    expected = TrainConfig(weak={"lr": 0.3, "epochs": 3})
    assert make_config(**settings) == make_config(**dict(reversed(settings.items()))) == expected


def test_flat_settings_and_configurations_are_the_same():
    every = {f"{scope}.{name}": value for scope in SCOPES for name, value in OVERRIDES.items()}
    assert set(TRAIN_SETTINGS) == {*SETTINGS, *every}
    for settings in (
        {},
        every,
        {"batches": "neighbor", "num_neighbors": (3, -1), "patience": None},
    ):
        config = make_config(**settings)
        assert make_config(**flatten_config(config)) == config
        assert flatten_config(config).items() >= settings.items()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.1}, r"unknown training settings \['learning_rate'\].*'lr'"),
        ({"gate.lr": 0.1}, r"unknown training settings \['gate.lr'\]"),
        ({"weak.rounds": 1}, r"unknown training settings \['weak.rounds'\]"),
        ({"weak": {"rounds": 1}}, r"unknown settings \['rounds'\] of weak, choose from \['lr'"),
        ({"strong": 0.1}, "strong must be a dictionary of settings, got 0.1"),
        ({"lr": 0.0}, "lr must be above zero, got 0.0"),
        ({"lr": float("nan")}, "lr must be above zero, got nan"),
        ({"lr": "0.1"}, "lr must be above zero, got '0.1'"),
        ({"lr": None}, "lr must not be None"),
        ({"weak.lr": -1.0}, "lr must be above zero, got -1.0"),
        ({"pretrain": "all"}, "pretrain must be one of"),
        ({"gate_fit": "folds"}, "gate_fit must be one of"),
        ({"pretraining.optimizer": "sgd"}, "optimizer must be one of"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 2.5}, "epochs must be a whole number of at least 1, got 2.5"),
        ({"epochs": True}, "epochs must be a whole number of at least 1, got True"),
        ({"strong.patience": 0}, "patience must be a whole number of at least 1, got 0"),
        ({"gate_folds": 1}, "gate_folds must be a whole number of at least 2, got 1"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"weak.dropout": 1.5}, r"dropout must lie in \[0, 1\], got 1.5"),
        ({"num_parts": 2}, "num_parts has no effect with batches='full'"),
        (
            {"batches": "neighbor", "num_parts": 2},
            "num_parts has no effect with batches='neighbor'",
        ),
        ({"batches": "random", "batch_size": 8}, "batch_size has no effect with batches='random'"),
        ({"batches": "random", "num_neighbors": (5,)}, "num_neighbors has no effect"),
        ({"batches_per_step": 2}, "batches_per_step has no effect"),
        ({"batches": "random", "num_parts": 0}, "num_parts must be a whole number of at least 1"),
        ({"batches": "neighbor", "num_neighbors": (5, 0)}, "num_neighbors must be positive, or -1"),
        ({"batches": "cluster"}, "batches must be one of"),
        ({"precision": "16"}, "precision must be one of"),
    ],
)
def test_unknown_and_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        make_config(**settings)


BASE = TrainConfig(epochs=6, patience=None, rounds=1, lr=0.3, gate_fit="train", select="loss")


@pytest.fixture(scope="module")
def task(make_task):
    return make_task()


@pytest.fixture(scope="module")
def before(task):
    r"""The history of a run without overrides, by the expert that has dropout. The other one has
    none, so that no random number depends on its settings.
    """
    built = {"weak": {"strong": 0.0}, "strong": {"weak": 0.0}}
    return {part: fit(make_model(**built[part]), task, config=BASE).history for part in built}


def list_records(history, *parts):
    r"""Returns what pretraining has reached, without names, numbers and durations."""
    kept = []
    for record in history:
        if record["round"] == 0 and record["part"] in parts:
            hidden = ("step", "stage", "seconds")
            kept.append({key: value for key, value in record.items() if key not in hidden})
    return kept


@pytest.mark.parametrize("name", OVERRIDES)
@pytest.mark.parametrize(("part", "other"), [("weak", "strong"), ("strong", "weak")])
def test_an_override_of_an_expert_is_the_setting_of_a_run_of_that_expert(
    task, before, part, other, name
):
    built, value, before = {part: 0.5, other: 0.0}, OVERRIDES[name], before[part]
    history = fit(
        make_model(**built), task, config=replace(BASE, rounds=0, **{part: {name: value}})
    ).history
    assert list_records(history, other) == list_records(before, other) != []
    assert list_records(history, part) != list_records(before, part)
    if name == "dropout":
        alone = fit(make_model(**built | {part: value}), task, part, BASE)
    else:
        alone = fit(make_model(**built), task, part, replace(BASE, **{name: value}))
    assert list_records(history, part) == list_records(alone.history, part)


@pytest.mark.parametrize("name", OVERRIDES)
def test_an_override_of_pretraining_is_the_setting_of_both_experts_in_that_phase(task, name):
    override = {name: OVERRIDES[name]}
    history = fit(make_model(), task, config=replace(BASE, pretraining=override)).history
    expected = fit(
        make_model(), task, config=replace(BASE, rounds=0, weak=override, strong=override)
    ).history
    assert list_records(history, "weak", "strong") == list_records(expected, "weak", "strong")
    if name == "epochs":
        assert [record["round"] for record in history] == [0] * 6 + [1] * 12


def list_dropout(model):
    return [module.p for module in model.modules() if "Dropout" in type(module).__name__]


def test_the_dropout_of_pretraining_is_restored_after_it(task):
    model = make_model()
    before = list_dropout(model)
    seen = {}

    def watch(record):
        experts = (list_dropout(model.weak), list_dropout(model.strong))
        seen[record["stage"]] = [set(values) for values in experts]
        if record["stage"] == "round 1: strong":
            raise KeyboardInterrupt

    config = replace(BASE, pretraining={"dropout": 0.25}, strong={"dropout": 0.1})
    with pytest.raises(KeyboardInterrupt):
        fit(model, task, config=config, callbacks=[watch])
    assert seen == {
        "pretrain weak": [{0.25}, {0.5}],
        "pretrain strong": [{0.5}, {0.1}],
        "round 1: weak": [{0.5}, {0.5}],
        "round 1: strong": [{0.5}, {0.1}],
    }
    assert list_dropout(model) == before != []


def test_a_dropout_override_of_an_expert_without_dropout_is_refused(task):
    model = Mowst(torch.nn.Linear(6, 3), GCN(**SIZES, dropout=0.5), LearnedGate(4))
    for settings in ({"weak": {"dropout": 0.1}}, {"pretraining": {"dropout": 0.1}}):
        with pytest.raises(
            ValueError, match=r"dropout=0.1 has no effect on Linear, which has no dropout module"
        ):
            fit(model, task, config=replace(BASE, **settings))


def test_joint_training_uses_the_learning_rate_of_each_expert(task):
    model = make_model()
    config = replace(
        BASE,
        weak={"lr": 1e-30, "weight_decay": 0.1},
        strong={"lr": 0.02},
        pretraining={"lr": 0.7, "epochs": 1},
    )
    trainer = Trainer(model, task, find_method("mowst-star"), config)
    weights = []

    def watch(record):
        if record["part"] == "joint":
            weights.append(
                [
                    [p.detach().clone() for p in part.parameters()]
                    for part in (model.weak, model.strong)
                ]
            )

    trainer.train([watch])
    ((key, optimizer),) = trainer.optimizers.items()
    assert key == ("joint", ("weak", "strong", "gate"), False)
    groups = [(group["lr"], group["weight_decay"]) for group in optimizer.optimizer.param_groups]
    assert groups == [(1e-30, 0.1), (0.02, 5e-4), (0.3, 5e-4)]
    moved = []
    for first, last in zip(weights[0], weights[-1], strict=True):
        moved.append(max(float((a - b).abs().max()) for a, b in zip(first, last, strict=True)))
    assert moved[0] < 1e-20 and moved[1] > 1e-3


CHANGES = {
    "lr": 0.01,
    "weight_decay": 0.1,
    "optimizer": "adamw",
    "epochs": 3,
    "patience": 1,
    "rounds": 1,
    "round_patience": None,
    "pretrain": "none",
    "select": "metric",
    "eval_every": 2,
    "gate_fit": "validation",
    "gate_folds": 3,
    "batches": "random",
    "num_parts": 7,
    "batch_size": 13,
    "num_neighbors": (2,),
    "batches_per_step": 2,
    "precision": "bf16",
}
WITH = {
    "select": {"epochs": 8, "lr": 0.3},
    "round_patience": {"epochs": 1, "rounds": 6, "lr": 0.3},
    "gate_folds": {"gate_fit": "validation", "rounds": 0},
    "batches": {"rounds": 0},
    "num_parts": {"batches": "random", "rounds": 0},
    "batch_size": {"batches": "neighbor", "rounds": 0},
    "num_neighbors": {"batches": "neighbor", "rounds": 0},
    "batches_per_step": {"batches": "random", "rounds": 0},
}


def test_every_setting_is_tried_below():
    only_memory = {"checkpoint_activations"}
    assert CHANGES.keys() | only_memory == set(SETTINGS)


@pytest.fixture(scope="module")
def train(make_task):
    r"""Returns the result of a run by its settings, each of which is run once."""
    task = make_task(num_nodes=60)

    @cache
    def train(settings):
        base = {
            "epochs": 5,
            "patience": 2,
            "rounds": 2,
            "round_patience": 1,
            "lr": 0.1,
            "gate_fit": "train",
        }
        result = fit(
            make_model(), task, config=TrainConfig(**base | {"gate_folds": 2} | dict(settings))
        )
        history = [
            {key: value for key, value in record.items() if key != "seconds"}
            for record in result.history
        ]
        return {**vars(result), "history": history, "seconds": None}

    return train


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_result(train, name):
    settings = WITH.get(name, {})
    before = train(tuple(settings.items()))
    after = train((*settings.items(), (name, CHANGES[name])))
    assert before != after
