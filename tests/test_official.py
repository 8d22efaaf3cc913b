import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch_geometric.data import Data

from mowst import GraphTask
from mowst.metrics import METRICS
from mowst.official import OGB_METRICS, score_by_ogb


@pytest.fixture
def task():
    generator = torch.Generator().manual_seed(0)
    n = 60
    edge_index = torch.randint(n, (2, 90), generator=generator)
    y = torch.randint(5, (n,), generator=generator)
    masks = {split: torch.arange(n) % 3 == k for k, split in enumerate(("train", "val", "test"))}
    return GraphTask(
        Data(x=torch.ones(n, 1), edge_index=edge_index, y=y),
        masks,
        num_classes=5,
        name="ogbn-arxiv",
    )


@pytest.mark.parametrize("name", [name for name in OGB_METRICS if name != "ogbn-proteins"])
def test_the_evaluator_of_ogb_and_our_metric_agree(name, task):
    pytest.importorskip("ogb")
    task = replace(task, name=name)
    prob = torch.randn(60, 5, generator=torch.Generator().manual_seed(1)).softmax(dim=-1)
    prob[:20] = 0.2  # ties
    for split in task.splits:
        rows, y = prob[task.index(split)], task.labels(split)
        score = score_by_ogb(name, "accuracy", rows, y)
        assert score == pytest.approx(float(METRICS["accuracy"](rows, y)), abs=1e-6)
        assert task.evaluate(prob, split) == score


def test_the_evaluator_of_ogb_and_our_mean_roc_auc_agree(task):
    pytest.importorskip("ogb")
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(-1, 2, (60, 112), generator=generator)
    data = task.data.clone()
    data.y = y
    task = replace(task, data=data, num_classes=112, metric="rocauc", name="ogbn-proteins")
    prob = torch.rand(60, 112, generator=generator)
    expected = float(task.score(prob, "test"))
    assert score_by_ogb(task.name, task.metric, prob[task.index("test")], task.labels("test")) == (
        pytest.approx(expected, abs=1e-6)
    )
    assert task.evaluate(prob, "test") == pytest.approx(expected, abs=1e-6)


def test_importing_ogb_looks_for_no_newer_version(task, monkeypatch):
    pytest.importorskip("ogb")
    for name in [name for name in sys.modules if name.split(".")[0] == "ogb"]:
        monkeypatch.delitem(sys.modules, name)
    outdated = SimpleNamespace(check_outdated=lambda *args: pytest.fail("a version is looked for"))
    monkeypatch.setitem(sys.modules, "outdated", outdated)
    task.evaluate(torch.eye(5)[task.data.y])
    assert sys.modules["ogb.version"].check_outdated is None
    assert sys.modules["outdated"] is outdated


def test_final_scores_come_from_the_evaluator_and_scores_of_epochs_do_not(task, monkeypatch):
    class Evaluator:
        eval_metric = "acc"

        def __init__(self, name):
            assert name == "ogbn-arxiv"

        def eval(self, tables):
            assert tables["y_true"].shape == tables["y_pred"].shape == (20, 1)
            return {"acc": 0.125}

    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", SimpleNamespace(Evaluator=Evaluator))
    prob = torch.eye(5)[task.data.y]
    assert task.evaluate(prob, "test") == 0.125 and task.score(prob, "test") == 1
    for other in (replace(task, metric="f1"), replace(task, name="mine")):
        assert other.evaluate(prob, "test") == 1


def test_without_ogb_the_score_is_ours(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", None)
    assert task.evaluate(torch.eye(5)[task.data.y], "test") == 1
