r"""Conditional predictions are those of the full forward, and the exact expected score is what
sampled routing scores.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from mowst import GraphTask, LearnedGate, Mowst, PowerGate, build_expert
from mowst.nn.registry import EXPERTS
from mowst.sparse import graph, partial
from mowst.sparse.memo import ContentMemo

FEATURES, CLASSES, NODES = 4, 2, 24
SIZES = {"in_channels": FEATURES, "hidden_channels": 8, "out_channels": CLASSES, "num_nodes": NODES}
READERS = [name for name in EXPERTS.names() if name != "mlp"]


def random_graph(seed, num_edges=40):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(NODES, FEATURES, generator=generator)
    return x, torch.randint(NODES, (2, num_edges), generator=generator)


def random_model(strong, seed, gate=None):
    torch.manual_seed(seed)
    weak = build_expert("mlp", **SIZES)
    model = Mowst(weak, build_expert(strong, **SIZES), gate or PowerGate(0.5)).eval()
    for parameter in model.parameters():  # predictions of all degrees of confidence
        torch.nn.init.normal_(parameter, std=0.7)
    return model


@pytest.mark.parametrize("cost", [-1e6, 1e12], ids=["always pruned", "never pruned"])
@pytest.mark.parametrize("strong", READERS)
def test_a_threshold_is_the_full_forward_and_then_the_choice(strong, cost, monkeypatch):
    monkeypatch.setattr(partial, "TAKE", cost)
    monkeypatch.setattr(graph, "_graphs", ContentMemo())

    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(st.integers(0, 999), st.integers(0, 60), st.integers(0, NODES - 1))
    def check(seed, num_edges, at):
        (x, edge_index), model = random_graph(seed, num_edges), random_model(strong, seed)
        with torch.no_grad():
            out = model(x, edge_index)
        threshold = float(out.confidence[at])  # one node lies on it
        full = torch.where((out.confidence >= threshold).unsqueeze(-1), out.weak, out.strong)
        clear = (full[:, 0] - full[:, 1]).abs() > 1e-5
        assert torch.equal(
            model.predict(x, edge_index, threshold=threshold)[clear], full.argmax(dim=-1)[clear]
        )

    check()


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
@pytest.mark.parametrize("seed", range(3))
def test_the_expected_score_is_what_sampled_routing_scores(metric, seed):
    (x, edge_index), model = random_graph(seed), random_model("sage", seed, LearnedGate(4))
    nodes = torch.arange(NODES)
    masks = {"train": nodes < 2, "val": (nodes == 2) | (nodes == 3), "test": nodes > 3}
    task = GraphTask(Data(x=x, edge_index=edge_index, y=nodes % 2), masks, CLASSES, metric=metric)
    with torch.no_grad():
        out = model(x, edge_index)
        probs = [out.weak.softmax(dim=-1), out.strong.softmax(dim=-1)]
        expected = task.expected(*probs, out.confidence, "test")
    generator, scores = torch.Generator().manual_seed(seed), []
    for _ in range(1500):
        drawn = torch.rand(NODES, generator=generator) < out.confidence
        scores.append(task.evaluate(torch.where(drawn.unsqueeze(-1), *probs), "test"))
    # Hoeffding's bound: missed by chance once in a million; a node's prediction is one binomial
    # draw in the accuracy.
    trials = len(scores) * (len(task.index("test")) if metric == "accuracy" else 1)
    assert abs(sum(scores) / len(scores) - expected) < math.sqrt(math.log(2e6) / (2 * trials))
    assert min(scores) < expected < max(scores)


def test_sampling_by_predict_is_those_draws():
    (x, edge_index), model = random_graph(0), random_model("sage", 0, LearnedGate(4))
    with torch.no_grad():
        out = model(x, edge_index)
    weak, strong = out.weak.argmax(dim=-1), out.strong.argmax(dim=-1)
    generator, draws = torch.Generator().manual_seed(1), 400
    predictions = [
        model.predict(x, edge_index, sample=True, generator=generator) for _ in range(draws)
    ]
    expected = out.confidence * weak + (1 - out.confidence) * strong
    # Four standard deviations of a binomial mean, which is exact where both agree.
    bound = 4 * (out.confidence * (1 - out.confidence) / draws).sqrt() * (weak != strong) + 1e-6
    assert ((torch.stack(predictions).float().mean(dim=0) - expected).abs() <= bound).all() and (
        weak != strong
    ).any()
