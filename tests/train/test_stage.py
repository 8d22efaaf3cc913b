import copy
from functools import partial

import pytest
import torch

from mowst import GCN, MLP, LearnedGate, Mowst, TrainConfig
from mowst.nn.loss import mowst_loss
from mowst.train import AcceptByGateFit, AcceptByScore, Stage, Trainer
from mowst.train.calibration import calibrated_nll
from mowst.train.methods import find_method
from mowst.train.methods.method import compute_expert_loss
from mowst.train.stage import WORST

SIZES = {
    "in_channels": 6,
    "hidden_channels": 16,
    "num_layers": 3,
    "out_channels": 3,
    "norm": "batch_norm",
    "dropout": 0.5,
}
STAGES = pytest.mark.parametrize(
    ("name", "learns", "frozen"),
    [("weak", ("weak", "gate"), ("strong",)), ("strong", ("strong",), ("weak", "gate"))],
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Mowst(MLP(**SIZES), GCN(**SIZES), LearnedGate(8))


def make_stage(learns, predicts="mixture", bar=WORST, loss=mowst_loss, accept=None):
    if predicts != "mixture":
        loss = partial(compute_expert_loss, predicts)
    kept = {"accept": accept or AcceptByScore(), "round": 1, "bar": bar}
    place = {"name": "test", "part": learns[0], "predicts": predicts}
    return Stage(**place, learns=learns, loss=loss, **kept)


def make_trainer(model, task, **settings):
    return Trainer(model, task, find_method("mowst"), TrainConfig(**{"epochs": 5, **settings}))


def run_stage(model, task, stage, **settings):
    r"""Returns the records of one stage and its result."""
    trainer = make_trainer(model, task, **settings)
    result = trainer.run_stage(stage)
    return trainer.history, result


def get_tensors(module):
    return {k: v.clone() for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@STAGES
def test_frozen_parts_do_not_move_by_one_bit_and_run_once_in_evaluation_mode(
    model, task, name, learns, frozen
):
    before = {part: get_tensors(getattr(model, part)) for part in frozen}
    modes = []
    for part in frozen:
        getattr(model, part).register_forward_hook(lambda module, *_: modes.append(module.training))
    model.train()
    run_stage(model, task, make_stage(learns))
    assert all(equal(before[part], get_tensors(getattr(model, part))) for part in frozen)
    assert modes == [False] * len(frozen)
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_a_frozen_gate_after_a_learning_expert_runs_in_evaluation_mode_without_gradients(
    model, task
):
    before, modes = get_tensors(model.gate), []
    model.gate.register_forward_hook(lambda module, *_: modes.append(module.training))
    run_stage(model, task, make_stage(("weak",)), epochs=3)
    assert modes == [False] * 6 and equal(before, get_tensors(model.gate))
    assert all(p.grad is None for part in (model.gate, model.strong) for p in part.parameters())


@STAGES
def test_learning_parts_run_once_to_train_and_once_to_evaluate(model, task, name, learns, frozen):
    modes = []
    getattr(model, name).register_forward_hook(lambda module, *_: modes.append(module.training))
    run_stage(model, task, make_stage(learns), epochs=4)
    assert modes == [True, False] * 4
    modes.clear()
    run_stage(model, task, make_stage(learns), epochs=4, eval_every=2)
    assert modes == [True, True, False] * 2


@STAGES
@pytest.mark.parametrize(
    ("select", "loss"), [("calibrated", "val_calibrated"), ("loss", "val_loss")]
)
def test_a_stage_that_helps_ends_in_its_best_epoch(model, task, name, learns, frozen, select, loss):
    records, result = run_stage(model, task, make_stage(learns), epochs=12, lr=0.05, select=select)
    scores = [(-record[loss], record["val"]) for record in records]
    assert result.score == max(scores) and result.accepted
    best = WORST
    for record, score in zip(records, scores, strict=True):
        assert record["best"] == (score > best)
        best = max(best, score)
    model.eval()
    prob = model(task.data.x, task.data.edge_index).prob.detach()[task.masks["val"]]
    y = task.labels("val")
    found = {"calibrated": calibrated_nll(prob, y), "loss": task.nll(prob, "val")}
    assert float(found[select]) == pytest.approx(-result.score[0], abs=1e-6)


@STAGES
def test_a_stage_that_does_not_help_rolls_back_experts_gate_and_optimiser(
    model, task, name, learns, frozen
):
    trainer = make_trainer(model, task)
    trainer.run_stage(make_stage(learns))
    before = get_tensors(model)
    (optimizer,) = trainer.optimizers.values()
    moments = copy.deepcopy(optimizer.state_dict()["state"])
    unreachable = (1.0, 1.0)
    result = trainer.run_stage(make_stage(learns, bar=unreachable))
    assert result.score == unreachable and not result.accepted
    assert equal(before, get_tensors(model))
    assert list(trainer.optimizers.values()) == [optimizer]
    after = optimizer.state_dict()["state"]
    assert moments and all(
        torch.equal(moments[i][k], after[i][k]) for i in moments for k in moments[i]
    )


def test_a_stage_that_the_gate_fit_refuses_rolls_back_experts_gate_and_optimiser(
    model, task, monkeypatch
):
    trainer = make_trainer(model, task, gate_folds=2, lr=0.05)
    first = trainer.run_stage(make_stage(("strong",), accept=AcceptByGateFit()))
    assert first.accepted and first.gate is trainer.gate and first.score == trainer.best
    before, state = get_tensors(model), model.get_extra_state()
    (optimizer,) = trainer.optimizers.values()
    moments = copy.deepcopy(optimizer.state_dict()["state"])
    monkeypatch.setattr(type(first.gate), "is_better_than", lambda *_: False)
    for learns in (("strong",), ("weak",)):
        seen = []
        stage = make_stage(learns, accept=AcceptByGateFit())
        refused = trainer.run_stage(
            stage, [lambda record, seen=seen: seen.append(get_tensors(model))]
        )
        assert not refused.accepted and refused.gate is not None
        assert not equal(seen[0], before)
        assert equal(before, get_tensors(model)) and model.get_extra_state() == state
        assert trainer.gate is first.gate and trainer.best == first.score
    # The optimiser of the weak expert had no state to return to.
    assert list(trainer.optimizers.values()) == [optimizer]
    after = optimizer.state_dict()["state"]
    assert moments and all(
        torch.equal(moments[i][k], after[i][k]) for i in moments for k in moments[i]
    )


def test_the_gate_is_not_fitted_again_where_no_epoch_helps(model, task, monkeypatch):
    trainer = make_trainer(model, task)
    monkeypatch.setattr(Trainer, "fit_gate", lambda *_: pytest.fail("the gate was fitted"))
    stage = make_stage(("strong",), bar=(1.0, 1.0), accept=AcceptByGateFit())
    assert not trainer.run_stage(stage).accepted


def test_the_optimiser_ends_in_the_state_of_the_best_epoch(model, task):
    trainer = make_trainer(model, task, epochs=12)
    trainer.run_stage(make_stage(("strong",)))
    best_epoch = max(record["epoch"] for record in trainer.history if record["best"])
    (optimizer,) = trainer.optimizers.values()
    assert all(state["step"] == best_epoch for state in optimizer.state_dict()["state"].values())


def test_patience_ends_a_stage_and_none_never_does(model, task):
    records, _ = run_stage(model, task, make_stage(("strong",)), epochs=40, patience=3, lr=0.3)
    losses = [record["val_calibrated"] for record in records]
    assert len(records) < 40 and losses.index(min(losses)) == len(records) - 4
    records, _ = run_stage(model, task, make_stage(("strong",)), epochs=40, patience=None, lr=0.3)
    assert len(records) == 40


def test_an_interruption_leaves_the_best_state(model, task):
    trainer = make_trainer(model, task, epochs=20, lr=0.05, select="loss")

    def interrupt(record):
        if record["epoch"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run_stage(make_stage(("strong",)), [interrupt])
    model.eval()
    prob = model(task.data.x, task.data.edge_index).prob.detach()
    least = min(record["val_loss"] for record in trainer.history)
    assert len(trainer.history) == 7 and float(task.nll(prob, "val")) == pytest.approx(
        least, abs=1e-6
    )


@pytest.mark.parametrize("name", ["weak", "strong"])
def test_a_stage_of_one_expert_runs_nothing_else(model, task, name):
    other = {"weak": model.strong, "strong": model.weak}[name]
    other.register_forward_hook(lambda *_: pytest.fail("the other expert ran"))
    model.gate.register_forward_hook(lambda *_: pytest.fail("the gate ran"))
    records, _ = run_stage(model, task, make_stage((name,), predicts=name))
    assert {record["confidence"] for record in records} == {float(name == "weak")}
    assert model.route == name


@pytest.mark.parametrize("predicts", ["mixture", "strong"])
def test_validation_scores_come_from_validation_nodes(model, task, predicts):
    flipped = task.data.clone()
    flipped.y = flipped.y.clone()
    flipped.y[task.masks["val"]] = (flipped.y[task.masks["val"]] + 1) % 3
    other = type(task)(flipped, task.masks, task.num_classes)
    rows = []
    for each in (task, other):
        torch.manual_seed(0)
        stage = make_stage(("strong",), predicts=predicts)
        rows.append(run_stage(copy.deepcopy(model), each, stage, patience=None)[0])
    assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[1]]
    assert all(a["val_loss"] != b["val_loss"] for a, b in zip(*rows, strict=True))


def test_a_loss_of_nan_stops_with_stage_and_epoch_and_keeps_the_best_state(model, task):
    calls = []

    def break_in_the_fourth_epoch(out, y, class_weight):
        calls.append(1)
        return mowst_loss(out, y, class_weight=class_weight) * (
            float("nan") if len(calls) == 4 else 1
        )

    with pytest.raises(FloatingPointError, match="nan in epoch 4 of the stage 'test'"):
        run_stage(model, task, make_stage(("strong",), loss=break_in_the_fourth_epoch), epochs=10)
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_part_that_learns_again_continues_with_its_optimiser(model, task):
    trainer = make_trainer(model, task, epochs=3)
    steps = 0
    for _ in range(2):
        before = len(trainer.history)
        trainer.run_stage(make_stage(("strong",)))
        steps += max(record["epoch"] for record in trainer.history[before:] if record["best"])
        (optimizer,) = trainer.optimizers.values()
        assert {int(state["step"]) for state in optimizer.state_dict()["state"].values()} == {steps}


def test_a_stage_without_learning_parts_has_no_epochs(model, task):
    before = get_tensors(model)
    trainer = make_trainer(model, task)
    stage = Stage(name="score", part="gate", predicts="mixture", learns=(), bar=None)
    result = trainer.run_stage(stage)
    assert result.accepted and trainer.history == [] and not trainer.optimizers
    assert equal(before, get_tensors(model))
    prob = model.eval()(task.data.x, task.data.edge_index).prob.detach()
    loss = float(calibrated_nll(prob[task.masks["val"]], task.labels("val")))
    assert (
        result.score == trainer.best == pytest.approx((-loss, task.evaluate(prob, "val")), abs=1e-6)
    )
