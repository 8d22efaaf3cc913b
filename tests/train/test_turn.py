import copy

import pytest
import torch

from mowst import GCN, MLP, LearnedConfidence, Mowst, TrainConfig
from mowst.loss import mowst_loss
from mowst.train.calibration import calibrated_nll
from mowst.train.turn import WORST, Turn

SIZES = {
    "in_channels": 6,
    "hidden_channels": 16,
    "num_layers": 3,
    "out_channels": 3,
    "norm": "batch_norm",
    "dropout": 0.5,
}
TURNS = pytest.mark.parametrize(
    ("name", "trained", "frozen"),
    [("weak", ("weak", "confidence"), ("strong",)), ("strong", ("strong",), ("weak", "confidence"))],
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Mowst(MLP(**SIZES), GCN(**SIZES), LearnedConfidence(8))


def make_turn(model, trained, **settings):
    return Turn("test", model, trained, mowst_loss, TrainConfig(**({"epochs": 5} | settings)))


def drain(records):
    rows = []
    while True:
        try:
            rows.append(next(records))
        except StopIteration as stop:
            return rows, stop.value


def tensors(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@TURNS
def test_frozen_parts_do_not_move_by_one_bit_and_run_once_in_evaluation_mode(model, task, name, trained, frozen):
    before = {part: tensors(getattr(model, part)) for part in frozen}
    modes = []
    for part in frozen:
        getattr(model, part).register_forward_hook(lambda module, *_: modes.append(module.training))
    model.train()
    drain(make_turn(model, trained).run(task))
    assert all(same(before[part], tensors(getattr(model, part))) for part in frozen)
    assert modes == [False] * len(frozen)
    assert model.training and all(p.requires_grad for p in model.parameters())


@TURNS
def test_learning_parts_run_once_to_train_and_once_to_evaluate(model, task, name, trained, frozen):
    modes = []
    getattr(model, name).register_forward_hook(lambda module, *_: modes.append(module.training))
    drain(make_turn(model, trained, epochs=4).run(task))
    assert modes == [True, False] * 4
    modes.clear()
    drain(make_turn(model, trained, epochs=4, eval_every=2).run(task))
    assert modes == [True, True, False] * 2


@TURNS
@pytest.mark.parametrize("select, loss", [("calibrated", "val_calibrated"), ("loss", "val_loss")])
def test_a_turn_that_helps_ends_in_its_best_epoch(model, task, name, trained, frozen, select, loss):
    records, reached = drain(make_turn(model, trained, epochs=20, lr=0.05, select=select).run(task))
    scores = [(-record[loss], record["val"]) for record in records]
    assert reached == max(scores)
    assert [r["best"] for r in records] == [score > max(scores[:i], default=WORST) for i, score in enumerate(scores)]
    model.eval()
    prob = model(task.data.x, task.data.edge_index).prob.detach()[task.masks["val"]]
    y = task.labels("val")
    found = {"calibrated": calibrated_nll(prob, y), "loss": task.nll(prob, "val")}
    assert float(found[select]) == pytest.approx(-reached[0], abs=1e-6)


@TURNS
def test_a_turn_that_does_not_help_rolls_back_experts_gate_and_optimiser(model, task, name, trained, frozen):
    turn = make_turn(model, trained)
    drain(turn.run(task))
    before, moments = tensors_of_model(model), copy.deepcopy(turn.optimizer.state_dict()["state"])
    unreachable = (1.0, 1.0)
    _, reached = drain(turn.run(task, bar=unreachable))
    assert reached == unreachable
    assert same(before, tensors_of_model(model))
    after = turn.optimizer.state_dict()["state"]
    assert moments and all(torch.equal(moments[i][k], after[i][k]) for i in moments for k in moments[i])


def tensors_of_model(model):
    return {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}


def test_optimiser_ends_in_the_state_of_the_best_epoch(model, task):
    turn = make_turn(model, ("strong",), epochs=12)
    records, _ = drain(turn.run(task))
    best_epoch = max(r["epoch"] for r in records if r["best"])
    assert all(s["step"] == best_epoch for s in turn.optimizer.state_dict()["state"].values())


def test_patience_ends_a_turn_and_none_never_does(model, task):
    records, _ = drain(make_turn(model, ("strong",), epochs=60, patience=3, lr=0.3).run(task))
    losses = [r["val_calibrated"] for r in records]
    assert len(records) < 60 and losses.index(min(losses)) == len(records) - 4
    records, _ = drain(make_turn(model, ("strong",), epochs=60, patience=None, lr=0.3).run(task))
    assert len(records) == 60


def test_interruption_leaves_the_best_state(model, task):
    records = make_turn(model, ("strong",), epochs=20, lr=0.05).run(task)
    seen = [next(records) for _ in range(7)]
    records.close()
    model.eval()
    prob = model(task.data.x, task.data.edge_index).prob
    assert float(task.nll(prob, "val")) == pytest.approx(min(r["val_loss"] for r in seen), abs=1e-6)


@pytest.mark.parametrize("route", ["weak", "strong"])
def test_under_a_route_only_that_expert_runs(model, task, route):
    model.route = route
    other = {"weak": model.strong, "strong": model.weak}[route]
    other.register_forward_hook(lambda *_: pytest.fail("the other expert ran"))
    model.confidence.register_forward_hook(lambda *_: pytest.fail("the gate ran"))
    records, _ = drain(make_turn(model, (route,)).run(task))
    assert {r["confidence"] for r in records} == {float(route == "weak")}


@pytest.mark.parametrize("route", ["mixture", "strong"])
def test_validation_scores_come_from_validation_nodes(model, task, route):
    model.route = route
    flipped = task.data.clone()
    flipped.y = flipped.y.clone()
    flipped.y[task.masks["val"]] = (flipped.y[task.masks["val"]] + 1) % 3
    other = type(task)(flipped, task.masks, task.num_classes)
    rows = []
    for each in (task, other):
        torch.manual_seed(0)
        rows.append(drain(make_turn(copy.deepcopy(model), ("strong",), patience=None).run(each))[0])
    assert [r["loss"] for r in rows[0]] == [r["loss"] for r in rows[1]]
    assert all(a["val_loss"] != b["val_loss"] for a, b in zip(*rows, strict=True))


def test_a_loss_that_is_no_number_stops_with_turn_and_epoch_and_keeps_the_best_state(model, task):
    turn = make_turn(model, ("strong",), epochs=10)
    calls = []

    def breaking(*parts):
        calls.append(1)
        return mowst_loss(*parts) * (float("nan") if len(calls) == 4 else 1)

    turn.loss = breaking
    with pytest.raises(FloatingPointError, match="nan in epoch 4 of the test turn"):
        drain(turn.run(task, bar=WORST))
    assert all(p.isfinite().all() for p in model.parameters())
