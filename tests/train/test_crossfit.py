import pytest
import torch
from torch.nn.functional import cross_entropy

from mowst import GCN, MLP, Cascade, GraphTask, LearnedConfidence, Mowst, PowerConfidence, TrainConfig, fit
from mowst.train.crossfit import cross_fit

FOLDS = {"gate_fit": "folds", "gate_folds": 3}
CALIBRATED = {"gate_fit": "train", "calibrate": True}
SIZES = {"in_channels": 6, "hidden_channels": 32, "num_layers": 2, "out_channels": 3}


def make_model(confidence=None):
    torch.manual_seed(0)
    return Mowst(MLP(**SIZES), GCN(**SIZES), confidence or LearnedConfidence(8))


def drain(records):
    try:
        while True:
            next(records)
    except StopIteration as stop:
        return stop.value


def tensors(module):
    return {k: v.clone() for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}


def same(one, other):
    return all(torch.equal(one[k], other[k]) for k in one)


def test_labels_without_sense_are_memorised_in_the_fold_and_guessed_out_of_it(make_task):
    task = make_task(num_nodes=300)
    task.data.y = torch.randint(3, (300,), generator=torch.Generator().manual_seed(1))
    task = GraphTask(task.data, task.masks, num_classes=3)
    model, config = make_model(), TrainConfig(epochs=150, patience=None, lr=0.03, weight_decay=0.0, select="metric")
    before = tensors(model)
    logits = drain(cross_fit(model, task, folds=3, config=config))
    assert same(before, tensors(model)) and model.route == "mixture"
    y = task.labels("train")
    right = float((logits[0].argmax(dim=-1) == y).float().mean())
    assert [tuple(z.shape) for z in logits] == [(150, 3), (150, 3)] and abs(right - 1 / 3) < 0.15
    seen = fit(model, task, method="weak", epochs=150, patience=None, lr=0.03, weight_decay=0.0)
    memorised = max(record["loss"] for record in seen.history[-1:])
    assert memorised < cross_entropy(logits[0], y) - 0.5


def test_folds_follow_the_seed(make_task):
    config, runs = TrainConfig(epochs=3), []
    for seed in (0, 0, 1):
        model = make_model()
        torch.manual_seed(seed)
        runs.append(drain(cross_fit(model, make_task(num_nodes=100), folds=3, config=config))[0])
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_a_gate_fitted_out_of_fold_learns_in_its_own_turn_only(make_task, method):
    model, states = make_model(), {}

    def watch(record):
        states.setdefault(record["turn"], []).append(tensors(model.confidence))

    result = fit(model, make_task(num_nodes=120), method=method, callbacks=[watch], **FOLDS, epochs=6, rounds=2)
    turns = list(dict.fromkeys(record["turn"] for record in result.history))
    folds = [f"{name} without fold {k}" for k in (1, 2, 3) for name in ("weak", "strong")]
    assert turns[:9] == [*folds, "weak alone", "strong alone", "gate"]
    assert not same(states["gate"][0], states["gate"][-1])
    for turn in turns[9:]:
        assert all(same(states[turn][0], state) for state in states[turn])


def test_too_many_folds_and_a_gate_without_parameters_are_refused(task):
    with pytest.raises(ValueError, match="gate_folds=9 needs a class with as many training nodes, the largest has"):
        fit(make_model(), task, gate_fit="folds", gate_folds=9, epochs=2)
    with pytest.raises(ValueError, match="nothing to train: confidence of"):
        fit(make_model(PowerConfidence()), task, gate_fit="folds", gate_folds=2, epochs=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate_fit": "folds", "pretrain": "weak"}, "gate_fit='folds' needs trained experts: pretrain must be 'both'"),
        ({"pretrain": "strong"} | CALIBRATED, r"calibrate needs trained experts.*\['weak', 'both'\]"),
        ({"method": "strong"} | CALIBRATED, "calibrate changes nothing in 'strong': a temperature"),
        ({"calibrate": True}, "gate_fit='validation' fits temperatures by itself"),
        ({"gate_fit": "test"}, r"gate_fit must be one of \['validation', 'train', 'folds'\], got 'test'"),
        ({"method": "mowst-star", "normalize_weights": True}, "normalize_weights changes nothing in 'mowst-star'"),
        ({"method": "mowst-star", "weight_floor": 0.1}, "only the strong turn of 'mowst' weighs its nodes"),
        ({"weight_floor": 1.5}, r"weight_floor must lie in \[0, 1\], got 1.5"),
        ({"gate_folds": 1}, "gate_folds must be a whole number of at least 2, got 1"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_say_why(task, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(make_model(), task, **settings)


@pytest.mark.parametrize("fitted", [{"gate_fit": "train"}, {"gate_fit": "folds", "gate_folds": 3}], ids=str)
def test_calibration_lowers_the_loss_and_changes_no_answer_of_the_weak_expert(make_task, fitted):
    task, results = make_task(num_nodes=200), []
    for calibrate in (False, True):
        model = make_model()
        results.append((model, fit(model, task, calibrate=calibrate, epochs=40, rounds=1, lr=0.05, **fitted)))
    (_, plain), (model, calibrated) = results
    assert plain.alone["weak"] == calibrated.alone["weak"]
    assert model.temperatures[0] != 1 and model.temperatures[1] == 1
    records = [[r for r in result.history if r["turn"] == "weak alone"] for _, result in results]
    assert records[0][-1]["val_loss"] == records[1][-1]["val_loss"]


def test_a_cascade_takes_turns_of_every_expert_with_its_gate(make_task):
    torch.manual_seed(0)
    parts = [MLP(**SIZES), GCN(**SIZES), GCN(**SIZES)]
    model, states = Cascade(parts, [LearnedConfidence(8), LearnedConfidence(8)]), {}

    def watch(record):
        states.setdefault(record["turn"], []).append({name: tensors(getattr(model, name)) for name in model.parts})

    result = fit(model, make_task(num_nodes=150), epochs=5, rounds=1, callbacks=[watch], **CALIBRATED)
    moved = {
        turn: {name for name in model.parts if not same(rows[0][name], rows[-1][name])} for turn, rows in states.items()
    }
    assert moved == {
        "expert1 alone": {"expert1"},
        "expert2 alone": {"expert2"},
        "expert3 alone": {"expert3"},
        "expert1": {"expert1", "confidence1"},
        "expert2": {"expert2", "confidence2"},
        "expert3": {"expert3"},
    }
    assert result.scores.keys() == {"expert1", "expert2", "expert3", "mixture"}
    assert sum(result.shares.values()) == pytest.approx(1) and result.weak_share == result.shares["expert1"]


@pytest.mark.parametrize(
    "settings", [{"method": "mowst-star"}, {"method": "mowst-star", "in_turns": True}, {"method": "expert2"}]
)
def test_a_cascade_trains_by_every_method(make_task, settings):
    torch.manual_seed(0)
    parts = [MLP(**SIZES), GCN(**SIZES), GCN(**SIZES)]
    model = Cascade(parts, [PowerConfidence(), LearnedConfidence(8)])
    result = fit(model, make_task(num_nodes=200), epochs=60, rounds=1, lr=0.03, **settings)
    assert result.test > 0.6
    assert result.method == settings["method"]
