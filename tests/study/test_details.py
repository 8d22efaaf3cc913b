import copy
from itertools import cycle

import pytest
import torch

from mowst import Cascade, fit
from mowst.nn.build import ModelConfig, build_model
from mowst.nn.evaluating import evaluating
from mowst.study.details import ConfidenceHistogram, neighbourhoods, node_details
from mowst.train import alternation
from mowst.train.alternation import Training

SETTINGS = {"epochs": 4, "patience": 3, "rounds": 3, "round_patience": None, "lr": 0.01, "gate_folds": 2}


def build(task, **changes):
    torch.manual_seed(0)
    config = ModelConfig(hidden_channels=8, **changes)
    return build_model(config, in_channels=task.num_features, out_channels=task.num_classes)


@torch.no_grad()
def count(model, task):
    with evaluating(model):
        confidence = model.gate(0, model.logits(0, task.data.x), task.data.x)
    return (confidence * 20).long().clamp(max=19).bincount(minlength=20)


@pytest.mark.parametrize(("method", "parts"), [("mowst", {"weak", "strong", "mixture"}), ("weak", {"weak"})])
def test_the_details_score_as_the_result_does(task, method, parts):
    model = build(task)
    result = fit(model, task, method=method, **SETTINGS)
    found = node_details(model, task, method)
    assert {name.removesuffix("_prob") for name in found if name.endswith("_prob")} == parts
    for part in parts:
        assert found[part].equal(found[f"{part}_prob"].argmax(dim=1))
        accuracy = float((found[part] == found["y"]).float().mean())
        assert accuracy == pytest.approx(result.scores[part]["test"])
    assert found["y"].equal(task.labels("test"))
    assert ("confidence" in found) == (method == "mowst")


def test_the_mixture_is_that_of_confidence_and_experts(task):
    model = build(task)
    found = node_details(model, task, "mowst")
    c = found["confidence"].unsqueeze(1)
    torch.testing.assert_close(found["mixture_prob"], c * found["weak_prob"] + (1 - c) * found["strong_prob"])


def test_a_cascade_has_every_expert(task):
    model = build(task, middle=("mlp",))
    assert isinstance(model, Cascade)
    assert {"weak", "middle1", "strong", "mixture", "confidence"} <= node_details(model, task, "mowst").keys()


def test_neighbourhoods_by_hand(task):
    edges = torch.tensor([[1, 2, 3, 4, 0, 5, 5], [0, 0, 0, 0, 0, 6, 7]])
    y = task.data.y.clone()
    y[:5], y[5] = torch.tensor([0, 0, 0, 1, -1]), -1
    task.data.edge_index, task.data.y = edges, y
    neighbours, homophily = neighbourhoods(task)
    assert neighbours[:8].tolist() == [4, 0, 0, 0, 0, 0, 1, 1], "a self-loop is no neighbour"
    assert homophily[0] == pytest.approx(2 / 3), "a neighbour without a label does not count"
    assert homophily[1:8].isnan().all()


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("mowst", {}),
        ("mowst", {"pretrain": "none", "gate_fit": "train"}),
        ("mowst", {"pretrain": "strong"}),
        ("mowst-star", {"pretrain": "weak"}),
        ("mowst-star", {"in_turns": True, "gate_fit": "train"}),
        ("mowst-star", {"gate_fit": "train"}),
    ],
)
def test_a_row_is_the_state_that_pretraining_or_a_round_left(task, method, changes, monkeypatch):
    model, states, kept = build(task), {}, []
    run_turn = Training._kept

    def turn(training, turn, round=0):
        states.setdefault(0, count(model, task))
        kept.append((yield from run_turn(training, turn, round)))
        states[max(round, 1)] = count(model, task)
        return kept[-1]

    monkeypatch.setattr(Training, "_kept", turn)
    verdicts = cycle([-torch.inf, torch.inf])  # the next turn that is asked about is kept, the one after it undone
    monkeypatch.setattr(alternation, "standard_error", lambda _: next(verdicts))
    watch = ConfidenceHistogram(model, task, refits="gate_fit" not in changes)
    fit(model, task, method=method, callbacks=[watch], **SETTINGS | changes)
    rows = watch.rows()
    assert rows.sum(dim=1).eq(task.num_nodes).all()
    assert rows.equal(torch.stack(list(states.values())))
    assert len(rows) == (2 if method == "mowst-star" and changes == {"gate_fit": "train"} else 4)
    assert "gate_fit" in changes or set(kept) == {False, True}, "both ends of a turn are tried"


@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_watching_changes_nothing(task, method):
    first, second = build(task), build(task)
    torch.manual_seed(1)
    plain = fit(first, task, method=method, gate_fit="folds", calibrate=True, **SETTINGS)
    torch.manual_seed(1)
    watch = ConfidenceHistogram(second, task, refits=False)
    watched = fit(
        second,
        copy.deepcopy(task),
        method=method,
        callbacks=[watch],
        gate_fit="folds",
        calibrate=True,
        **SETTINGS,
    )
    assert all(a.equal(b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    drop = [{k: v for k, v in r.items() if k != "seconds"} for r in plain.history]
    assert drop == [{k: v for k, v in r.items() if k != "seconds"} for r in watched.history]
