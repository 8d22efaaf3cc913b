from dataclasses import replace

import numpy as np
import pytest
import torch

from mowst import GCN, MLP, LearnedGate, Mowst, PowerGate, TrainConfig, fit
from mowst.serve import Predictor, choose_threshold
from mowst.serve.threshold import choose, rejects

DRAWS = 600
SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}


def population(num_nodes, rng):
    r"""The weak expert is right with probability 1/2 + C/2, the strong one with 0.9."""
    confidence = rng.random(num_nodes)
    weak = rng.random(num_nodes) < 0.5 + confidence / 2
    strong = rng.random(num_nodes) < 0.9
    return weak.astype(int), strong.astype(int), confidence


def true_drop(threshold):
    low = min(threshold, 1.0)
    return (
        0.4 * (1 - low) - (1 - low**2) / 4
    )  # the integral of 0.9 - (1 + C) / 2 from the threshold to one


@pytest.mark.parametrize(
    ("max_drop", "delta", "num_nodes"), [(0.02, 0.05, 600), (0.01, 0.2, 1500), (0.05, 0.1, 250)]
)
def test_over_many_draws_the_guarantee_is_wrong_with_probability_delta_at_most(
    max_drop, delta, num_nodes
):
    rng, kept, made = np.random.default_rng(0), 0, 0
    for _ in range(DRAWS):
        weak, strong, confidence = population(num_nodes, rng)
        choice = choose(weak, strong, strong, confidence, max_drop, delta, num_candidates=25)
        made += choice.threshold is not None and choice.deferred_share < 1
        kept += choice.threshold is None or true_drop(choice.threshold) <= max_drop
    assert kept / DRAWS >= 1 - delta - 3 * (delta * (1 - delta) / DRAWS) ** 0.5
    assert made > DRAWS / 2  # no vacuous choices


@pytest.mark.parametrize("mean", [0.01, 0.03])
def test_a_drop_at_its_limit_is_rejected_with_probability_delta_at_most(mean):
    rng, delta = np.random.default_rng(1), 0.1
    wrong = []
    for _ in range(2000):
        lost = rng.choice([1, 0, -1], p=[mean + 0.02, 0.96 - mean, 0.02], size=800)
        wrong.append(rejects(lost, mean, delta))
    assert np.mean(wrong) <= delta + 3 * (delta * (1 - delta) / 2000) ** 0.5


def test_a_perfect_weak_expert_defers_nothing_and_a_useless_one_everything():
    ones, zeros = np.ones(1000, dtype=int), np.zeros(1000, dtype=int)
    confidence = np.linspace(0, 1, 1000)
    easy = choose(ones, ones, ones, confidence, max_drop=0.005, delta=0.05)
    assert (easy.deferred_share, easy.drop, easy.threshold) == (0.0, 0.0, 0.0)
    hard = choose(zeros, ones, ones, confidence, max_drop=0.005, delta=0.05)
    assert hard.deferred_share == 1.0 and hard.threshold > 1


def test_a_confidence_of_one_in_single_precision_is_deferred_where_all_are():
    ones, zeros = np.ones(1000, dtype=int), np.zeros(1000, dtype=int)
    sure = np.ones(1000, dtype=np.float32)
    found = choose(zeros, ones, ones, sure, max_drop=0.005, delta=0.05)
    assert found.deferred_share == 1.0 and found.threshold > 1


def test_without_a_guarantee_the_number_of_needed_nodes_is_estimated():
    def at(count):
        ones, confidence = np.ones(count, dtype=int), np.linspace(0, 1, count)
        return choose(ones, ones, ones, confidence, max_drop=0.005, delta=0.05)

    few = at(100)
    assert few.threshold is None and 500 < few.needed < 1500
    assert at(2 * few.needed).threshold is not None
    zeros, ones = np.zeros(50, dtype=int), np.ones(50, dtype=int)
    assert (
        choose(ones, zeros, ones, np.linspace(0, 1, 50), max_drop=0.005, delta=0.05).needed is None
    )


def test_a_choice_for_a_model_holds_on_its_calibration_nodes_whatever_the_route(make_task):
    task = make_task(num_nodes=1200)
    spare = task.masks["test"].clone()
    spare[task.index("test")[:100]] = False
    task = replace(task, masks={**task.masks, "test": task.masks["test"] & ~spare})
    torch.manual_seed(0)
    model = Mowst(MLP(**SIZES), GCN(**SIZES), LearnedGate(8))
    fit(model, task, config=TrainConfig(epochs=40, rounds=0, lr=0.03, gate_folds=2))
    calibration = spare.nonzero().view(-1)
    out = model(task.data.x, task.data.edge_index)
    for route in ("mixture", "strong", "weak"):
        model.route = route
        choice = choose_threshold(model, task, max_drop=0.3, reference="strong")
        assert choice.num_nodes == calibration.numel() and choice.threshold is not None
        labels = model.predict(task.data.x, task.data.edge_index, threshold=choice.threshold)
        served = Predictor(model, task.data, threshold=choice.threshold).predict(calibration)
        assert torch.equal(served.labels, labels[calibration])
        assert served.statistics.deferred_share == pytest.approx(choice.deferred_share)
        strong = (out.strong.argmax(dim=-1) == task.data.y)[calibration]
        right = (labels == task.data.y)[calibration]
        assert float((strong.double() - right.double()).mean()) == pytest.approx(choice.drop)
        assert choice.drop <= 0.3


def test_nodes_that_trained_or_selected_the_model_are_refused(task):
    model = Mowst(MLP(**SIZES), GCN(**SIZES), PowerGate())
    with pytest.raises(ValueError, match="no labelled node outside its splits"):
        choose_threshold(model, task)
    with pytest.raises(ValueError, match="7 of 7 calibration nodes trained or selected the model"):
        choose_threshold(model, task, nodes=task.index("val"))
    for settings in ({"delta": 0.0}, {"max_drop": 1.0}, {"reference": "weak"}):
        with pytest.raises(ValueError, match=r"\(0, 1\)|unknown reference"):
            choose_threshold(model, task, nodes=task.index("test"), **settings)


def test_a_repeated_node_counts_once_and_nodes_come_in_any_form(task, data):
    model = Mowst(MLP(**SIZES), GCN(**SIZES), PowerGate(0.3))
    free = torch.zeros(data.num_nodes, dtype=torch.bool)
    free[task.index("test")[:4]] = True
    ids = free.nonzero().view(-1)
    known = choose_threshold(model, task, nodes=ids)
    assert known.num_nodes == 4
    for nodes in (free, free.numpy(), ids.tolist(), ids.repeat(300), ids.flip(0)):
        assert choose_threshold(model, task, nodes=nodes) == known
    assert choose_threshold(model, task, nodes=int(ids[0])).num_nodes == 1
    for nodes, message in (([-1], r"in \[0, 30\), got -1"), (free[:3], "30 entries, got 3")):
        with pytest.raises(ValueError, match=message):
            choose_threshold(model, task, nodes=nodes)
