import numpy as np
import pytest
import torch

from mowst import GCN, MLP, Cascade, LearnedConfidence, Mowst, PowerConfidence
from mowst.inference import deferral_curve, deferral_report
from mowst.inference.deferral import area, table

SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}


@pytest.fixture
def right():
    return np.random.default_rng(0).integers(0, 2, (2, 200))


def test_the_curve_runs_from_the_weak_to_the_strong_expert_and_is_a_loop_between(right):
    weak, strong = right
    confidence = np.random.default_rng(1).random(200)
    curve = deferral_curve(weak, strong, confidence)
    assert curve[0] == pytest.approx(weak.mean()) and curve[-1] == pytest.approx(strong.mean())
    for count in (1, 50, 199):
        sent = confidence <= np.sort(confidence)[count - 1]
        assert curve[count] == pytest.approx(np.where(sent, strong, weak).mean())


def test_random_deferral_is_the_line_and_the_oracle_is_above_every_signal(right):
    weak, strong = right
    line = deferral_curve(weak, strong, np.zeros(200))
    np.testing.assert_allclose(line, np.linspace(weak.mean(), strong.mean(), 201))
    assert area(line) == pytest.approx((weak.mean() + strong.mean()) / 2)
    oracle = deferral_curve(weak, strong, weak - strong)
    assert oracle.max() == pytest.approx(np.maximum(weak, strong).mean())
    for seed in range(5):
        signal = np.random.default_rng(seed).random(200)
        assert (oracle >= deferral_curve(weak, strong, signal) - 1e-12).all()


def test_gate_quality_counts_mistakes_sent_and_right_answers_sent():
    weak, strong = np.array([0, 0, 1, 1, 1]), np.ones(5, dtype=int)
    row = table(weak, strong, {"good": np.arange(5.0), "bad": -np.arange(5.0)}, passed=0.4)
    assert row.loc["good", ["sent", "needless"]].tolist() == [100.0, 0.0]
    assert row.loc["bad", "sent"] == 0.0 and row.loc["bad", "needless"] == pytest.approx(200 / 3)


def test_the_report_of_a_model_has_its_budgets_and_rails(task):
    torch.manual_seed(0)
    model = Mowst(MLP(**SIZES), GCN(**SIZES), LearnedConfidence(8)).eval()
    report = deferral_report(model, task, shares=(0.0, 0.5, 1.0))
    assert list(report.index) == ["gate", "variance", "entropy", "max probability", "random", "oracle"]
    scores = [100 * task.evaluate(z.softmax(dim=-1), "test") for z in model(task.data.x, task.data.edge_index)[2:]]
    assert report["0 %"].tolist() == pytest.approx([scores[0]] * 6)
    assert report["100 %"].tolist() == pytest.approx([scores[1]] * 6)
    assert (report["area"] <= report.loc["oracle", "area"] + 1e-9).all()
    with pytest.raises(ValueError, match="this model has 3"):
        deferral_report(Cascade([MLP(**SIZES)] * 3, [PowerConfidence()] * 2), task)
