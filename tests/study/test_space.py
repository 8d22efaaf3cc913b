import optuna
import pytest

from mowst.presets import load_preset
from mowst.study import expand
from mowst.study.space import (
    SPACES,
    default_space,
    find_point,
    find_space,
    fix_values,
    flatten_settings,
    nest_settings,
    paper_space,
)
from mowst.train import METHODS

OF_A_MIXTURE = {"mix", "pretrain", "gate", "gate_features", "gate_args.hidden_channels", "weak.lr"}


def draws(space, method, strong, number=40):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(number):
        trial = study.ask()
        space(trial, method, strong)
        yield trial.params


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("strong", ["gcn", "gat", "h2gcn", "tuned-sage"])
def test_every_point_is_a_run(space, method, strong):
    for params in draws(space, method, strong, number=6):
        (spec,) = expand(
            [{"data": "digits", "strong": strong, "method": method} | nest_settings(params)]
        )
        assert flatten_settings(spec.settings) == params


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_an_expert_alone_is_asked_nothing_about_a_mixture(space):
    for method in ("weak", "strong"):
        assert not any(OF_A_MIXTURE & params.keys() for params in draws(space, method, "gcn"))
    assert all("pretrain" in params for params in draws(space, "mowst", "gcn"))
    assert not any("strong_args.norm" in params for params in draws(space, "weak", "gcn"))


def test_settings_of_one_gate_are_asked_of_no_other():
    for params in draws(default_space, "mowst", "gcn"):
        assert ("gate" in params) == ("mix" in params) == (params["gate_fit"] == "train")
        assert ("gate_args.hidden_channels" in params) == (params.get("gate") == "learned")


def test_a_method_of_ones_own_is_a_mixture_or_not():
    for method in ("mowst.train.methods.MowstMethod", "mowst.train.methods.WeakMethod"):
        for params in draws(default_space, method, "gcn", number=5):
            assert ("weak.lr" in params) == ("strong_args.norm" in params) == ("Mowst" in method)


def test_the_paper_searched_three_learning_rates_and_five_dropouts():
    found = list(draws(paper_space, "mowst", "gcn", number=200))
    assert {params["lr"] for params in found} == {0.1, 0.01, 0.001}
    assert {params["dropout"] for params in found} == {0.1, 0.2, 0.3, 0.4, 0.5}


def test_names_with_a_dot_are_entries_of_a_dictionary():
    settings = {
        "lr": 0.1,
        "weak.lr": 0.3,
        "strong_args": {"norm": None, "heads": 2},
        "transforms": [],
    }
    flattened = {"strong_args.norm": None, "strong_args.heads": 2, "transforms": []}
    assert flatten_settings(settings) == {"lr": 0.1, "weak.lr": 0.3} | flattened
    assert nest_settings(flatten_settings(settings)) == settings


def test_what_is_held_is_not_asked_for_whatever_its_value():
    space = fix_values(default_space, {"hidden_channels": 48, "gate": "monotone"})
    for params in draws(space, "mowst", "gcn"):
        assert not {"hidden_channels", "gate", "gate_args.hidden_channels"} & params.keys()


@pytest.mark.parametrize(
    "data,name,strong",
    [
        ("digits", "default", "gcn"),
        ("amherst41", "default", "sage"),
        ("computers", "tuned", "tuned-gcn"),
    ],
)
def test_a_preset_is_a_point_of_the_default_space(data, name, strong):
    row = load_preset(data, name, strong)
    point = find_point(row, default_space, "mowst", strong)
    assert {key: point[key] for key in row.keys() & point.keys()} == {
        key: row[key] for key in row.keys() & point
    }
    assert point["gate_fit"] == "validation" and "gate" not in point, "the defaults hold"
    paper = {"gate_fit": "train", "mix": "prob", "gate": "learned"}
    learned = find_point(row | paper, default_space, "mowst", strong)
    assert learned["gate_args.hidden_channels"] == learned["hidden_channels"]


@pytest.mark.parametrize("outside", [{"lr": 0.5}, {"hidden_channels": 48}, {"weight_decay": 0.123}])
def test_settings_outside_of_a_space_are_no_point_of_it(outside):
    assert find_point({}, default_space, "mowst", "gcn") is not None
    assert find_point(outside, default_space, "mowst", "gcn") is None


def test_a_space_of_ones_own_is_an_import_path():
    assert find_space("mowst.study.space.paper_space") is paper_space
    for unknown in ("papers", "mowst.study.space.none", "no_such_module.space"):
        with pytest.raises(ValueError, match=f"unknown space '{unknown}'.*default"):
            find_space(unknown)
