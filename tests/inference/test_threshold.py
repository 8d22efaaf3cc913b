import numpy as np
import pytest
import torch

from mowst import GCN, MLP, Cascade, LearnedConfidence, Mowst, PowerConfidence, fit
from mowst.inference import Predictor, choose_threshold
from mowst.inference.threshold import choose, rejects

SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}


def population(num_nodes, rng):
    r"""The weak expert is right with probability 1/2 + C/2, the strong one with 0.9."""
    confidence = rng.random(num_nodes)
    weak, strong = (rng.random(num_nodes) < 0.5 + confidence / 2), (rng.random(num_nodes) < 0.9)
    return weak.astype(int), strong.astype(int), confidence


def true_drop(threshold):
    low = min(threshold, 1.0)
    return 0.4 * (1 - low) - (1 - low**2) / 4  # the integral of 0.9 - (1 + C) / 2 from the threshold to one


@pytest.mark.parametrize(("max_drop", "delta", "num_nodes"), [(0.02, 0.05, 600), (0.01, 0.2, 1500), (0.05, 0.1, 250)])
def test_over_many_draws_the_claim_is_wrong_as_rarely_as_it_says(max_drop, delta, num_nodes):
    rng, kept, made = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        weak, strong, confidence = population(num_nodes, rng)
        choice = choose(weak, strong, strong, confidence, max_drop, delta, num_candidates=25)
        made += choice.threshold is not None and choice.activated < 1
        kept += choice.threshold is None or true_drop(choice.threshold) <= max_drop
    assert kept / 1000 >= 1 - delta - 3 * (delta * (1 - delta) / 1000) ** 0.5
    assert made > 500  # no vacuous choices


@pytest.mark.parametrize("mean", [0.01, 0.03])
def test_a_drop_at_its_limit_is_rejected_with_probability_delta_at_most(mean):
    rng, delta = np.random.default_rng(1), 0.1
    wrong = [
        rejects(rng.choice([1, 0, -1], p=[mean + 0.02, 0.96 - mean, 0.02], size=800), mean, delta) for _ in range(2000)
    ]
    assert np.mean(wrong) <= delta + 3 * (delta * (1 - delta) / 2000) ** 0.5


def test_a_perfect_weak_expert_answers_all_and_a_useless_one_nothing():
    ones, zeros = np.ones(1000, dtype=int), np.zeros(1000, dtype=int)
    confidence = np.linspace(0, 1, 1000)
    easy = choose(ones, ones, ones, confidence, max_drop=0.005, delta=0.05)
    assert (easy.activated, easy.drop, easy.threshold) == (0.0, 0.0, 0.0)
    hard = choose(zeros, ones, ones, confidence, max_drop=0.005, delta=0.05)
    assert hard.activated == 1.0 and hard.threshold > 1


def test_a_confidence_of_one_in_single_precision_is_passed_on_where_all_are():
    ones, zeros = np.ones(1000, dtype=int), np.zeros(1000, dtype=int)
    sure = np.ones(1000, dtype=np.float32)
    found = choose(zeros, ones, ones, sure, max_drop=0.005, delta=0.05)
    assert found.activated == 1.0 and found.threshold > 1


def test_too_few_nodes_for_any_claim_tell_how_many_would_do():
    def at(count):
        ones, confidence = np.ones(count, dtype=int), np.linspace(0, 1, count)
        return choose(ones, ones, ones, confidence, max_drop=0.005, delta=0.05)

    few = at(100)
    assert few.threshold is None and 500 < few.needed < 1500
    assert at(2 * few.needed).threshold is not None
    zeros, ones = np.zeros(50, dtype=int), np.ones(50, dtype=int)
    assert choose(ones, zeros, ones, np.linspace(0, 1, 50), max_drop=0.005, delta=0.05).needed is None


@pytest.mark.parametrize("route", ["mixture", "strong", "weak"])
def test_a_choice_for_a_model_holds_on_its_calibration_nodes(make_task, route):
    task = make_task(num_nodes=3000)
    spare = task.masks["test"].clone()
    spare[task.index("test")[:500]] = False
    task = task.with_masks(train=task.masks["train"], val=task.masks["val"], test=task.masks["test"] & ~spare)
    torch.manual_seed(0)
    model = Mowst(MLP(**SIZES), GCN(**SIZES), LearnedConfidence(8))
    fit(model, task, epochs=40, rounds=1, lr=0.03)
    model.route = route
    choice = choose_threshold(model, task, max_drop=0.3, reference="strong")
    calibration = spare.nonzero().view(-1)
    assert choice.num_nodes == calibration.numel() and choice.threshold is not None
    labels = model.predict(task.data.x, task.data.edge_index, threshold=choice.threshold)
    served = Predictor(model, task.data, threshold=choice.threshold).predict(calibration)
    assert torch.equal(served.labels, labels[calibration])
    assert served.statistics.activated == pytest.approx(choice.activated)
    out = model(task.data.x, task.data.edge_index)
    right = [(answer == task.data.y)[calibration].double().mean() for answer in (out.strong.argmax(dim=-1), labels)]
    assert float(right[0] - right[1]) == pytest.approx(choice.drop)
    assert choice.drop <= 0.3


def test_nodes_that_trained_or_selected_the_model_are_refused(task):
    model = Mowst(MLP(**SIZES), GCN(**SIZES), PowerConfidence())
    with pytest.raises(ValueError, match="no labelled node outside its splits: give nodes="):
        choose_threshold(model, task)
    with pytest.raises(ValueError, match="7 of the 7 calibration nodes trained or selected the model"):
        choose_threshold(model, task, nodes=task.index("val"))
    with pytest.raises(ValueError, match="chosen for two experts, this model has 3"):
        choose_threshold(Cascade([MLP(**SIZES)] * 3, [PowerConfidence()] * 2), task)
    for settings in ({"delta": 0.0}, {"max_drop": 1.0}, {"reference": "weak"}):
        with pytest.raises(ValueError, match=r"\(0, 1\)|unknown reference"):
            choose_threshold(model, task, nodes=task.index("test"), **settings)
