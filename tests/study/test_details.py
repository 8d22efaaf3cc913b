import pytest
import torch

from mowst import TrainConfig, fit
from mowst.nn.build import ModelConfig, build_model
from mowst.nn.evaluating import evaluating
from mowst.study.details import ConfidenceHistogram, compute_neighborhoods, node_details

SETTINGS = {"epochs": 3, "rounds": 2, "round_patience": None, "lr": 0.01, "gate_folds": 2}


def build(task):
    torch.manual_seed(0)
    config = ModelConfig(hidden_channels=8)
    return build_model(config, in_channels=task.num_features, out_channels=task.num_classes)


class Stages:
    r"""Counts the confidence after each stage in its own way."""

    def __init__(self, task):
        self.task = task
        self.counts = {}

    def __call__(self, record):
        pass

    @torch.no_grad()
    def on_stage_end(self, model, result):
        data = self.task.data
        with evaluating(model):
            confidence = model.outputs(data.x, data.edge_index).confidence
        bins = (confidence * 20).long().clamp(max=19)
        self.counts[result.round] = bins.bincount(minlength=20)


@pytest.mark.parametrize(
    ("method", "parts"), [("mowst", {"weak", "strong", "mixture"}), ("weak", {"weak"})]
)
def test_the_details_score_as_the_result_does(task, method, parts):
    model = build(task)
    result = fit(model, task, method, TrainConfig(**SETTINGS))
    found = node_details(model, task, method)
    assert {name.removesuffix("_prob") for name in found if name.endswith("_prob")} == parts
    for part in parts:
        assert found[part].equal(found[f"{part}_prob"].argmax(dim=1))
        accuracy = float((found[part] == found["y"]).float().mean())
        assert accuracy == pytest.approx(result.scores[part]["test"])
    assert found["y"].equal(task.labels("test"))
    assert ("confidence" in found) == (method == "mowst")


def test_the_mixture_is_that_of_confidence_and_experts(task):
    found = node_details(build(task), task, "mowst")
    c = found["confidence"].unsqueeze(1)
    expected = c * found["weak_prob"] + (1 - c) * found["strong_prob"]
    torch.testing.assert_close(found["mixture_prob"], expected)


def test_neighborhoods_by_hand(task):
    edges = torch.tensor([[1, 2, 3, 4, 0, 5, 5], [0, 0, 0, 0, 0, 6, 7]])
    y = task.data.y.clone()
    y[:5], y[5] = torch.tensor([0, 0, 0, 1, -1]), -1
    task.data.edge_index, task.data.y = edges, y
    neighbors, homophily = compute_neighborhoods(task)
    assert neighbors[:8].tolist() == [4, 0, 0, 0, 0, 0, 1, 1], "a self-loop is no neighbour"
    assert homophily[0] == pytest.approx(2 / 3), "a neighbor without a label does not count"
    assert homophily[1:8].isnan().all()


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("mowst", {}),
        ("mowst", {"pretrain": "none", "gate_fit": "train"}),
        ("mowst-star", {"pretrain": "weak"}),
        ("mowst-star", {"gate_fit": "train"}),
    ],
)
def test_a_row_is_the_state_after_pretraining_or_a_round(task, method, changes):
    watch, stages = ConfidenceHistogram(task), Stages(task)
    config = TrainConfig(**SETTINGS | changes)
    fit(build(task), task, method, config, callbacks=[watch, stages])
    rows = watch.rows()
    assert rows.sum(dim=1).eq(task.num_nodes).all()
    assert rows.equal(torch.stack(list(stages.counts.values())))
    assert len(rows) == 3


def test_watching_changes_nothing(task):
    weights, losses = [], []
    for callbacks in ([], [ConfidenceHistogram(task)]):
        model = build(task)
        torch.manual_seed(1)
        result = fit(
            model, task, "mowst", TrainConfig(**SETTINGS, gate_fit="train"), callbacks=callbacks
        )
        weights.append(list(model.parameters()))
        losses.append([record["val_loss"] for record in result.history])
    assert all(map(torch.equal, *weights)) and losses[0] == losses[1]
