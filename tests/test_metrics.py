from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from mowst.metrics import METRICS, Metric, expected_score, find_metric, read_metric


@pytest.fixture
def nodes():
    generator = torch.Generator().manual_seed(0)
    weak, strong = torch.randn(2, 40, 2, generator=generator).softmax(dim=-1)
    confidence, y = (
        torch.rand(40, generator=generator),
        torch.randint(2, (40,), generator=generator),
    )
    return weak, strong, confidence, y


def test_metrics_of_a_known_prediction():
    prob = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    y = torch.tensor([0, 0, 1, 1])
    assert METRICS["accuracy"](prob, y) == 0.75
    assert METRICS["roc_auc"](prob, y) == 1.0


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_expected_score_is_the_mean_over_many_draws(nodes, metric):
    weak, strong, confidence, y = nodes
    draws = torch.rand(1000, 40, generator=torch.Generator().manual_seed(1)) < confidence
    scores = torch.tensor(
        [METRICS[metric](torch.where(draw.unsqueeze(-1), weak, strong), y) for draw in draws]
    )
    error = float(scores.std() / len(scores) ** 0.5)
    expected = expected_score(metric, weak, strong, confidence, y)
    assert abs(expected - float(scores.mean())) < 4 * error


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
@pytest.mark.parametrize(("share", "owner"), [(1.0, 0), (0.0, 1)])
def test_expected_score_at_the_limits_is_one_expert_score(nodes, metric, share, owner):
    weak, strong, _, y = nodes
    expected = expected_score(metric, weak, strong, torch.full((40,), share), y)
    assert expected == pytest.approx(float(METRICS[metric](nodes[owner], y)))


def test_expected_f1_has_no_closed_form(nodes):
    weak, strong, confidence, y = nodes
    assert expected_score("f1", weak, strong, confidence, y) is None


def test_roc_auc_counts_ties_half():
    assert METRICS["roc_auc"](torch.full((6, 2), 0.5), torch.tensor([0, 1] * 3)) == 0.5


def test_roc_auc_and_f1_are_those_of_scikit_learn(nodes):
    prob, _, _, y = nodes
    assert float(METRICS["roc_auc"](prob, y)) == pytest.approx(roc_auc_score(y, prob[:, 1]))
    assert float(METRICS["f1"](prob, y)) == pytest.approx(
        f1_score(y, prob.argmax(dim=-1), average="macro")
    )


def test_roc_auc_does_not_depend_on_which_class_is_called_1():
    generator = torch.Generator().manual_seed(0)
    margin, y = torch.rand(2, 1000, generator=generator)
    y = (y < 0.5).long()
    logits = torch.stack([torch.zeros(1000), 40 * margin + 8 * y], dim=1)
    prob = logits.softmax(dim=-1)  # many are 1 in single precision
    exact = roc_auc_score(y, logits[:, 1])
    half = torch.full((1000,), 0.5)
    for scores, labels in ((prob, y), (prob.flip(1), 1 - y)):
        assert float(METRICS["roc_auc"](scores, labels)) == pytest.approx(exact, abs=1e-5)
        expected = expected_score("roc_auc", scores, scores, half, labels)
        assert expected == pytest.approx(exact, abs=1e-5)


class Brier:
    r"""A stub of a torchmetrics object."""

    higher_is_better = False

    def __init__(self):
        self.sum, self.count = 100.0, 1

    def to(self, device):
        return self

    def reset(self):
        self.sum, self.count = 0.0, 0

    def update(self, prob, y):
        self.sum += float((prob[torch.arange(len(y)), y] - 1).square().sum())
        self.count += len(y)

    def compute(self):
        return self.sum / self.count


def test_aliases_are_names():
    for alias, name in {"acc": "accuracy", "rocauc": "roc_auc", "macro_f1": "f1"}.items():
        assert read_metric(alias) == name
        assert find_metric(alias) is METRICS[name]
    assert read_metric(METRICS["f1"]) == "f1"
    with pytest.raises(ValueError, match="the metric 'auc' is unknown; known: accuracy, roc_auc"):
        read_metric("auc")


def test_a_function_is_a_metric_of_its_name(nodes):
    def balanced(prob, y):
        return 0.25

    prob, _, _, y = nodes
    assert str(read_metric(balanced)) == str(read_metric(partial(balanced))) == "balanced"
    assert find_metric(balanced).higher_is_better
    assert find_metric(balanced)(prob, y) == 0.25
    assert expected_score(balanced, prob, prob, prob[:, 0], y) is None


def test_a_torchmetrics_object_keeps_its_state_and_direction(nodes):
    prob, _, _, y = nodes
    brier = Brier()
    metric = find_metric(brier)
    assert (str(metric), metric.higher_is_better) == ("Brier", False)
    expected = float((prob[torch.arange(40), y] - 1).square().mean())
    for _ in range(2):
        assert float(metric(prob, y)) == pytest.approx(expected)
    assert (brier.sum, brier.count) == (100.0, 1)
    brier.higher_is_better = None
    with pytest.raises(ValueError, match="Brier has no direction: give mowst.metrics.Metric"):
        read_metric(brier)


def test_an_object_of_torchmetrics_is_taken(nodes):
    from torchmetrics.classification import MulticlassAccuracy

    prob, _, _, y = nodes
    metric = find_metric(MulticlassAccuracy(2, average="micro"))
    assert str(metric) == "MulticlassAccuracy"
    assert metric(prob, y) == METRICS["accuracy"](prob, y)


def test_what_is_no_metric_is_refused(nodes):
    prob, _, _, y = nodes
    with pytest.raises(ValueError, match="metric must be a name .accuracy.*, got 3"):
        read_metric(3)
    with pytest.raises(ValueError, match="'f1' is a metric of this package; give yours another"):
        read_metric(Metric("f1", lambda prob, y: 1))
    with pytest.raises(ValueError, match=r"'rows' must return one number, got shape \[40\]"):
        Metric("rows", lambda prob, y: y)(prob, y)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.sampled_from([1.0, 10.0, 60.0, 300.0]))
def test_scores_do_not_depend_on_the_order_of_two_classes(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    weak, strong = (scale * torch.randn(2, 30, 2, generator=generator)).softmax(dim=-1)
    confidence, y = torch.rand(30, generator=generator), torch.arange(30) % 2
    for metric in ("accuracy", "roc_auc"):
        score = METRICS[metric](weak, y)
        assert float(METRICS[metric](weak.flip(1), 1 - y)) == pytest.approx(float(score))
        expected = expected_score(metric, weak, strong, confidence, y)
        flipped = expected_score(metric, weak.flip(1), strong.flip(1), confidence, 1 - y)
        assert flipped == pytest.approx(expected)
