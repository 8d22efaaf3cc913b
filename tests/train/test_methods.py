import sys
from functools import partial
from types import ModuleType

import pytest
import torch

from mowst import (
    GCN,
    MLP,
    LearnedGate,
    MonotoneGate,
    Mowst,
    PowerGate,
    Precomputed,
    TrainConfig,
    fit,
    seed_everything,
)
from mowst.nn.loss import mowst_loss
from mowst.train import (
    METHODS,
    AcceptByGateFit,
    AcceptByScore,
    Method,
    MixtureMethod,
    StageResult,
    register_method,
)
from mowst.train.methods import check_method, find_method
from mowst.train.methods.method import make_expert_stage, make_start_stage
from mowst.train.stage import WORST, Stage

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SHORT = {"epochs": 3, "rounds": 1, "lr": 0.03, "gate_folds": 2}
GATE_FITS = pytest.mark.parametrize("gate_fit", ["validation", "train"])


def make_model(gate=None, frozen=()):
    seed_everything(0)
    model = Mowst(MLP(**SIZES), GCN(**SIZES), gate or LearnedGate(4))
    for name in frozen:
        getattr(model, name).requires_grad_(False)
    return model


def list_fields(stage):
    r"""Returns the fields of a stage, where partial functions are comparable."""
    if stage is None:
        return None
    fields = dict(vars(stage))
    if isinstance(stage.loss, partial):
        fields["loss"] = (stage.loss.func, stage.loss.args, stage.loss.keywords)
    return fields


def list_stages(method, config, model=None, accepts=()):
    r"""Returns the stages of a method whose rounds end with the given acceptances, the last of
    which repeats.
    """
    model = model or make_model()
    done, stages, rounds = [], [], 0
    while True:
        before = list(done)
        stage = find_method(method).next_stage(model, None, config, done)
        again = find_method(method).next_stage(model, None, config, before)
        assert done == before and list_fields(stage) == list_fields(again), (
            "it depends on its arguments only"
        )
        if stage is None:
            return stages
        accepted = True
        if stage.round > 0 and accepts:
            accepted = accepts[min(rounds, len(accepts) - 1)]
            rounds += 1
        stages.append(stage)
        score = (-1.0 / len(stages), 0.5)
        done.append(
            StageResult(stage.name, stage.part, stage.round, stage.predicts, accepted, score)
        )


def summarize(stages):
    return [
        (stage.name, stage.round, stage.part, stage.learns, stage.pretraining) for stage in stages
    ]


PRETRAIN = [
    ("pretrain weak", 0, "weak", ("weak",), True),
    ("pretrain strong", 0, "strong", ("strong",), True),
]
FIT_GATE = ("fit gate", 0, "gate", (), False)
START = ("start", 0, "gate", (), False)
STAGES = {
    ("mowst", "validation"): [
        *PRETRAIN,
        FIT_GATE,
        ("round 1: weak", 1, "weak", ("weak",), False),
        ("round 1: strong", 1, "strong", ("strong",), False),
        ("round 2: weak", 2, "weak", ("weak",), False),
        ("round 2: strong", 2, "strong", ("strong",), False),
    ],
    ("mowst", "train"): [
        *PRETRAIN,
        START,
        ("round 1: weak", 1, "weak", ("weak", "gate"), False),
        ("round 1: strong", 1, "strong", ("strong",), False),
        ("round 2: weak", 2, "weak", ("weak", "gate"), False),
        ("round 2: strong", 2, "strong", ("strong",), False),
    ],
    ("mowst-star", "validation"): [
        *PRETRAIN,
        FIT_GATE,
        ("round 1: joint", 1, "joint", ("weak", "strong"), False),
    ],
    # One round: the stage ends where the joint training has converged.
    ("mowst-star", "train"): [
        *PRETRAIN,
        START,
        ("round 1: joint", 1, "joint", ("weak", "strong", "gate"), False),
    ],
    ("weak", "validation"): [("train weak", 0, "weak", ("weak",), False)],
    ("weak", "train"): [("train weak", 0, "weak", ("weak",), False)],
    ("strong", "validation"): [("train strong", 0, "strong", ("strong",), False)],
    ("strong", "train"): [("train strong", 0, "strong", ("strong",), False)],
}


@pytest.mark.parametrize(("method", "gate_fit"), STAGES)
def test_the_stages_of_a_method(method, gate_fit):
    stages = list_stages(method, TrainConfig(rounds=2, gate_fit=gate_fit))
    assert summarize(stages) == STAGES[method, gate_fit]
    for before, stage in enumerate(stages, start=-1):
        assert stage.predicts == ("mixture" if stage.round or stage.part == "gate" else stage.part)
        assert (stage.loss is None) == (stage.part == "gate")
        by_gate_fit = gate_fit == "validation" and stage.predicts == "mixture"
        assert isinstance(stage.accept, AcceptByGateFit if by_gate_fit else AcceptByScore)
        if stage.round == 0 and stage.part != "gate":
            assert stage.bar == WORST
        elif stage.round == 0:
            assert stage.bar == (None if gate_fit == "train" else WORST)
        elif gate_fit == "validation":
            assert stage.bar is None
        else:
            assert stage.bar == (-1.0 / (before + 1), 0.5), "the score of the stage before"


@GATE_FITS
@pytest.mark.parametrize("pretrain", ["none", "weak", "strong"])
@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_experts_that_are_not_pretrained_start_in_the_rounds(method, gate_fit, pretrain):
    stages = list_stages(method, TrainConfig(rounds=2, gate_fit=gate_fit, pretrain=pretrain))
    kept = [row for row in STAGES[method, gate_fit] if not row[4] or row[2] == pretrain]
    assert summarize(stages) == kept
    if gate_fit == "validation":
        start = stages[len(stages) - len(kept) + sum(row[4] for row in kept)]
        assert start.accept == AcceptByGateFit("prob" if pretrain in ("weak", "strong") else None)


@GATE_FITS
@pytest.mark.parametrize(
    ("accepts", "round_patience", "trained"),
    [
        ([True], 1, "1 weak, 1 strong, 2 weak, 2 strong, 3 weak, 3 strong"),
        ([False], 1, "1 weak, 1 strong"),
        ([False], 2, "1 weak, 1 strong, 2 weak, 2 strong"),
        ([False], None, "1 weak, 1 strong, 2 weak, 2 strong, 3 weak, 3 strong"),
        # The weak expert has a new strong one to learn beside; not the strong one a new weak one.
        ([False, True, False], 1, "1 weak, 1 strong, 2 weak"),
        ([False, True, False], 2, "1 weak, 1 strong, 2 weak, 2 strong, 3 weak"),
        ([True, False], 1, "1 weak, 1 strong"),
        ([True, False, False], 2, "1 weak, 1 strong, 2 weak, 2 strong"),
    ],
)
def test_a_part_is_trained_again_after_another_one_was_accepted(
    gate_fit, accepts, round_patience, trained
):
    config = TrainConfig(rounds=3, round_patience=round_patience, gate_fit=gate_fit)
    stages = list_stages("mowst", config, accepts=accepts)
    assert ", ".join(f"{stage.round} {stage.part}" for stage in stages if stage.round) == trained


@GATE_FITS
@pytest.mark.parametrize(("round_patience", "rounds"), [(1, 1), (2, 2), (None, 4)])
def test_joint_training_changes_all_parts_and_ends_after_round_patience_rounds(
    gate_fit, round_patience, rounds
):
    config = TrainConfig(rounds=4, round_patience=round_patience, gate_fit=gate_fit)
    assert list_stages("mowst-star", config)[-1].name == f"round {rounds}: joint"


@GATE_FITS
@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_without_rounds_the_start_is_the_end(method, gate_fit):
    stages = list_stages(method, TrainConfig(rounds=0, gate_fit=gate_fit))
    assert summarize(stages) == [*PRETRAIN, FIT_GATE if gate_fit == "validation" else START]


def test_the_stages_of_a_frozen_expert_are_skipped():
    def names(method, frozen, gate=None, **settings):
        config = TrainConfig(rounds=1, **settings)
        stages = list_stages(method, config, make_model(gate, frozen))
        return [(stage.name, stage.learns) for stage in stages if stage.learns]

    strong = [("pretrain strong", ("strong",)), ("round 1: strong", ("strong",))]
    assert names("mowst", ["weak"]) == strong
    assert names("mowst", ["weak"], PowerGate(), gate_fit="train") == strong
    assert names("mowst", ["strong"]) == [
        ("pretrain weak", ("weak",)),
        ("round 1: weak", ("weak",)),
    ]
    # The gate still learns on the training nodes.
    assert names("mowst", ["weak"], gate_fit="train")[1:] == [
        ("round 1: weak", ("gate",)),
        strong[1],
    ]
    assert names("mowst-star", ["weak"]) == [strong[0], ("round 1: joint", ("strong",))]
    assert names("mowst-star", ["strong"], gate_fit="train")[1:] == [
        ("round 1: joint", ("weak", "gate"))
    ]
    for method in ("mowst", "mowst-star"):
        assert names(method, ["weak", "strong"]) == []


def make_stored_logits(task):
    generator = torch.Generator().manual_seed(0)
    return Precomputed(
        torch.randn(task.num_nodes, 3, generator=generator) + 2 * torch.eye(3)[task.data.y]
    )


@GATE_FITS
@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
@pytest.mark.parametrize("weak", ["frozen", "stored"])
def test_a_weak_expert_with_nothing_to_learn_is_mixed_and_does_not_move(
    task, caplog, weak, method, gate_fit
):
    model = make_model(MonotoneGate(), frozen=["weak"])
    if weak == "stored":
        model.weak = make_stored_logits(task)
    before = {key: value.clone() for key, value in model.weak.state_dict().items()}
    result = fit(model, task, method, TrainConfig(gate_fit=gate_fit, **SHORT))
    assert "the weak expert has no learnable parameters: its stages are skipped" in caplog.text
    assert all(torch.equal(before[key], value) for key, value in model.weak.state_dict().items())
    assert result.scores.keys() == {"weak", "strong", "mixture"} and result.alone.keys() == {
        "strong"
    }
    assert {record["part"] for record in result.history if record["round"] == 0} == {"strong"}
    assert {record["round"] for record in result.history} == {0, 1}


def test_a_method_with_nothing_to_train_is_refused_before_anything_is_written(task, tmp_path):
    model = make_model(frozen=["weak"])
    for weak in (model.weak, make_stored_logits(task)):
        model.weak = weak
        with pytest.raises(
            ValueError, match="the weak expert of Mowst.* has no learnable parameters"
        ):
            fit(model, task, "weak", TrainConfig(**SHORT), run_dir=tmp_path / "run")
    assert not list(tmp_path.iterdir())


class GateOnly(MixtureMethod):
    r"""A method of a user: each round trains the gate and nothing else."""

    def round_stages(self, model, config):
        return [
            Stage(name="gate", part="gate", predicts="mixture", learns=("gate",), loss=mowst_loss)
        ]


class StrongThenWeak(Method):
    r"""A method of a user that shares no stage with the others."""

    def next_stage(self, model, task, config, done):
        if len(done) < 2:
            return make_expert_stage(["strong", "weak"][len(done)])
        return make_start_stage(model, config) if len(done) == 2 else None


class StrongOnly(StrongThenWeak):
    r"""A method of a user that trains one expert."""

    experts = ("strong",)
    has_gate = False

    def next_stage(self, model, task, config, done):
        return None if done else make_expert_stage("strong")


@pytest.fixture
def user_methods(monkeypatch):
    r"""Methods that are registered, and that lie in an importable module."""
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))
    module = ModuleType("user_methods")
    monkeypatch.setitem(sys.modules, "user_methods", module)
    for name, cls in (
        ("gate-only", GateOnly),
        ("strong-then-weak", StrongThenWeak),
        ("strong-only", StrongOnly),
    ):
        register_method(name, cls)
        setattr(module, cls.__name__, cls)


def drop_seconds(history):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


@pytest.mark.parametrize(
    ("name", "path", "stages"),
    [
        (
            "gate-only",
            "user_methods.GateOnly",
            ["pretrain weak", "pretrain strong", "round 1: gate"],
        ),
        ("strong-then-weak", "user_methods.StrongThenWeak", ["train strong", "train weak"]),
        ("strong-only", "user_methods.StrongOnly", ["train strong"]),
    ],
)
def test_a_method_of_a_user_trains_by_name_and_by_import_path(
    task, tmp_path, user_methods, name, path, stages
):
    config = TrainConfig(gate_fit="train", **SHORT)
    result, other = (
        fit(make_model(), task, key, config, run_dir=tmp_path / key) for key in (name, path)
    )
    assert list(dict.fromkeys(record["stage"] for record in result.history)) == stages
    assert drop_seconds(result.history) == drop_seconds(other.history)
    assert (result.method, other.method) == (name, path)
    assert result.scores == other.scores
    assert result.scores.keys() == (
        {"strong"} if name == "strong-only" else {"weak", "strong", "mixture"}
    )
    if name == "strong-only":
        expected = fit(make_model(), task, "strong", config)
        assert (
            drop_seconds(expected.history) == drop_seconds(result.history)
            and result.scores == expected.scores
        )


def test_methods_have_names(user_methods):
    assert METHODS.names()[:4] == ["mowst", "mowst-star", "weak", "strong"]
    assert check_method("mowst*") == "mowst-star" and check_method("gate-only") == "gate-only"
    assert [find_method(name).experts for name in ("mowst", "weak", "strong")] == [
        ("weak", "strong"),
        ("weak",),
        ("strong",),
    ]
    assert [find_method(name).has_gate for name in ("mowst", "mowst-star", "weak", "strong")] == [
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(
        ValueError, match=r"unknown method 'mowst\+': choose one of mowst, mowst-star, weak, strong"
    ):
        find_method("mowst+")
    with pytest.raises(ValueError, match="'torch.nn.Linear' is not a subclass of Method"):
        find_method("torch.nn.Linear")
    with pytest.raises(TypeError, match="a registered method is a subclass of Method"):
        register_method("linear", torch.nn.Linear)
    with pytest.raises(ValueError, match="the method name 'mowst' is taken"):
        register_method("mowst", GateOnly)
    with pytest.raises(NotImplementedError, match="Method must implement next_stage"):
        Method().next_stage(None, None, None, [])
