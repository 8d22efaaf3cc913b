from dataclasses import replace

import numpy as np
import pytest
import torch

from mowst import GCN, MLP, LearnedGate, Mowst
from mowst.metrics import METRICS
from mowst.serve import deferral_cost, deferral_curve, deferral_curves, deferral_report
from mowst.serve.deferral import GRID, defer_probability, score_signals

SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2}
SHARES = (0.0, 0.5, 1.0)
METRIC = pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])


def mowst(task):
    torch.manual_seed(0)
    sizes = SIZES | {"out_channels": task.num_classes}
    return Mowst(MLP(**sizes), GCN(**sizes), LearnedGate(8)).eval()


@pytest.fixture
def two_classes(make_task):
    return replace(make_task(num_nodes=60, num_classes=2), metric="roc_auc")


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(2, 200, 2, generator=generator).softmax(dim=-1)
    confidence = torch.rand(200, generator=generator)
    return list(probs), confidence, torch.randint(2, (200,), generator=generator)


@METRIC
def test_the_curve_equals_a_loop_over_the_shares(batch, metric):
    probs, confidence, y = batch
    order = confidence.argsort()
    for share, score in zip(GRID, deferral_curve(metric, probs, confidence, y), strict=True):
        deferred = torch.zeros(200, 1, dtype=torch.bool)
        deferred[order[: round(share * 200)]] = True
        prob = torch.where(deferred, probs[1], probs[0])
        assert score == pytest.approx(float(METRICS[metric](prob, y)))


def test_random_deferral_is_the_line_of_accuracies_and_the_oracle_is_above_every_signal(batch):
    probs, _, y = batch
    weak, strong = ((p.argmax(dim=-1) == y).double() for p in probs)
    line = deferral_curve("accuracy", probs, torch.zeros(200), y)
    np.testing.assert_allclose(line, np.linspace(float(weak.mean()), float(strong.mean()), 101))
    oracle = deferral_curve("accuracy", probs, weak - strong, y)
    assert oracle.max() == pytest.approx(float(torch.maximum(weak, strong).mean()))
    for _ in range(5):
        assert (oracle >= deferral_curve("accuracy", probs, torch.rand(200), y) - 1e-12).all()


def test_no_signal_is_above_the_best_share_of_the_oracle_of_roc_auc(two_classes):
    shares = [k / 15 for k in range(16)]
    curves = deferral_curves(mowst(two_classes), two_classes, shares=shares).drop(columns="mixture")
    assert (curves.max() <= curves["oracle"].max() + 1e-9).all()
    assert curves.max().min() < curves["oracle"].max()


def test_equal_confidence_is_deferred_with_equal_probability():
    confidence = torch.tensor([0.3, 0.9, 0.3, 0.1, 0.3])
    cases = ((0.0, [0, 0, 0, 0, 0]), (0.5, [0.5, 0, 0.5, 1, 0.5]), (1.0, [1, 1, 1, 1, 1]))
    for share, expected in cases:
        assert defer_probability(confidence, share).tolist() == expected
    assert float(defer_probability(torch.rand(30).round(decimals=1), 0.37).mean()) == pytest.approx(
        0.37
    )


def test_signals_are_scored_by_deferred_mistakes_and_deferred_right_predictions():
    right = torch.tensor([False, False, True, True, True])
    gate = torch.tensor([0.1, 0.2, 0.6, 0.7, 0.8])
    rows = score_signals(right, {"gate": gate, "bad": -gate, "random": torch.zeros(5)})
    assert rows.loc["gate", ["caught", "needless"]].tolist() == [100.0, 0.0]
    assert rows.loc["bad", "caught"] == 0.0
    assert rows.loc["bad", "needless"] == pytest.approx(200 / 3)
    assert rows.loc["random"].tolist() == pytest.approx([40, 40])


def test_the_report_of_a_model_has_its_budgets_and_bounds(task):
    model = mowst(task)
    report = deferral_report(model, task, shares=SHARES)
    names = ["gate", "variance", "entropy", "max probability", "random", "oracle"]
    assert list(report.index[:-1]) == names and report.index.name == "deferred by"
    signals, out = report.drop("mixture"), model(task.data.x, task.data.edge_index)
    for column, logits in (("0 %", out.weak), ("100 %", out.strong)):
        score = 100 * task.evaluate(logits.softmax(dim=-1), "test")
        assert signals[column].tolist() == pytest.approx([score] * 6)
    ends = signals.loc["random", ["0 %", "100 %"]]
    assert report.loc["random", "area"] == pytest.approx(ends.mean())
    assert (signals["area"] <= signals.loc["oracle", "area"] + 1e-9).all()
    assert report.loc["mixture", "area"] == pytest.approx(100 * task.evaluate(out.prob, "test"))


@pytest.mark.parametrize("route", ["mixture", "weak", "strong"])
@pytest.mark.parametrize("within", [0.5, -100.0])
def test_needed_is_the_first_share_that_is_near_the_prediction_of_the_route(task, route, within):
    model = mowst(task)
    model.route = route
    curves = deferral_curves(model, task)
    prob = model(task.data.x, task.data.edge_index).prob
    assert curves["mixture"].unique() == pytest.approx([100 * task.evaluate(prob, "test")])
    needed = deferral_report(model, task, within=within)["needed"]
    for name, curve in curves.items():
        limit = curves["mixture"][0] - within
        near = [100 * share for share, score in curve.items() if score >= limit]
        assert needed[name] == pytest.approx(near[0] if near else np.nan, nan_ok=True)
    assert needed["mixture"] == 0 if within > 0 else needed.isna().all()


@METRIC
@pytest.mark.parametrize("route", ["mixture", "strong"])
def test_cost_is_that_of_the_budgets_of_predict_whatever_the_route(
    task, two_classes, metric, route
):
    task = task if metric == "accuracy" else two_classes
    model = mowst(task)
    model.route, data = route, task.data
    cost = deferral_cost(model, task, shares=(0.0, 0.25, 1.0), repeats=1)
    assert model.route == route
    assert cost["deferred"].tolist() == [0, task.num_nodes // 4, task.num_nodes]
    assert (cost["milliseconds"] > 0).all()
    assert (cost["milliseconds"] / cost["cost"]).std() < 1e-9
    curves = deferral_curves(model, task, shares=SHARES)
    assert curves.columns.name == metric
    ends = [0.0, 1.0]
    assert cost["score"][ends].tolist() == pytest.approx(curves["gate"][ends].tolist())
    if metric == "accuracy":
        labels = model.predict(data.x, data.edge_index, budget=0.25)
        right = labels[task.index("test")] == task.labels("test")
        assert cost["score"][0.25] == pytest.approx(100 * float(right.double().mean()))


def test_a_metric_without_an_expected_score_is_refused(batch):
    with pytest.raises(ValueError, match="f1 has no expected score"):
        deferral_curve("f1", *batch)
