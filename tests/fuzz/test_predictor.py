r"""Random changes and questions to a :class:`~mowst.serve.Predictor`. Every prediction is that of
the model on a graph that is rebuilt from plain lists.

Run :obj:`pytest -m slow tests/fuzz/test_predictor.py` for the long profile, about 3 minutes.
"""

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from torch_geometric.data import Data

from mowst import MLP, Mowst, PowerGate, build_expert
from mowst.serve import Predictor

F_IN, CLASSES = 3, 3
SIZES = {"in_channels": F_IN, "hidden_channels": 4, "out_channels": CLASSES, "num_layers": 2}
STRONG = {
    "gcn": lambda: build_expert("gcn", **SIZES),
    "tuned-sage": lambda: build_expert("tuned-sage", **SIZES, skip=True),
    "gin": lambda: build_expert("gin", **SIZES),
    "gprgnn": lambda: build_expert("gprgnn", **SIZES),
    "PyG's GCN": lambda: pyg.GCN(**SIZES, norm="batch_norm", jk="last"),
    "PyG's GCN of graph norms": lambda: pyg.GCN(**SIZES, norm="graph_norm"),
    "PyG's GraphSAGE": lambda: pyg.GraphSAGE(**SIZES, aggr="max"),
    "PyG's GAT": lambda: pyg.GAT(**SIZES),
    "cached layer": lambda: pyg.SGConv(F_IN, CLASSES, K=2, cached=True),
    "edge features": lambda: EdgeFeatures(),
    "Mowst": lambda: Mowst(MLP(**SIZES), build_expert("gcn", **SIZES), PowerGate(0.3)),
}
WEIGHTED = ("gcn", "gprgnn", "PyG's GCN", "PyG's GCN of graph norms", "cached layer")
SEEDS = st.integers(0, 2**16)
FORMS = [list, np.array, torch.tensor]


class EdgeFeatures(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = pyg.GATv2Conv(F_IN, CLASSES, edge_dim=2)

    def forward(self, x, edge_index, edge_attr):
        return self.conv(x, edge_index, edge_attr)


class PredictorMachine(RuleBasedStateMachine):
    @initialize(
        strong=st.sampled_from(list(STRONG)),
        is_weighted=st.booleans(),
        num_nodes=st.integers(1, 6),
        seed=SEEDS,
        mode=st.sampled_from(
            [{}, {"cache": True}, {"chunk_size": 2}, {"cache": True, "chunk_size": 1}]
        ),
        choice=st.sampled_from([{}, {"threshold": 0.5}, {"threshold": 2.0}, {"budget": 0.4}]),
    )
    def start(self, strong, is_weighted, num_nodes, seed, mode, choice):
        torch.manual_seed(seed)
        self.model = Mowst(MLP(**SIZES), STRONG[strong](), PowerGate(0.3)).eval()
        self.is_weighted = is_weighted and strong in WEIGHTED
        self.has_features = strong == "edge features"
        self.x = torch.randn(num_nodes, F_IN).tolist()
        self.edges = torch.randint(num_nodes, (2 * num_nodes, 2)).tolist()
        self.weights = self.draw_weights(len(self.edges))
        self.features = torch.randn(len(self.edges), 2).tolist()
        self.mode, self.choice = mode, choice
        self.num_steps = 0
        self.predictor = Predictor(self.model, self.build(), **mode, **choice)

    def draw_weights(self, count):
        return (torch.rand(count) + 0.1).tolist()

    def build(self):
        graph = Data(x=torch.tensor(self.x))
        graph.edge_index = torch.tensor(self.edges, dtype=torch.long).view(-1, 2).t().contiguous()
        if self.is_weighted:
            graph.edge_weight = torch.tensor(self.weights)
        if self.has_features:
            graph.edge_attr = torch.tensor(self.features).view(-1, 2)
        return graph

    def draw_ids(self, seed, count):
        return np.random.default_rng(seed).integers(len(self.x), size=count).tolist()

    @rule(seed=SEEDS, count=st.integers(0, 3), form=st.sampled_from(FORMS))
    def add_nodes(self, seed, count, form):
        torch.manual_seed(seed)
        rows = torch.randn(count, F_IN).tolist()
        first = len(self.x)
        ids = self.predictor.add_nodes(form(rows) if rows else torch.empty(0, F_IN))
        assert ids.tolist() == list(range(first, first + count))
        self.x += rows

    @rule(seed=SEEDS, count=st.integers(0, 4), form=st.sampled_from(FORMS))
    def add_edges(self, seed, count, form):
        torch.manual_seed(seed)
        edges = np.random.default_rng(seed).integers(len(self.x), size=(count, 2)).tolist()
        weights, features = self.draw_weights(count), torch.randn(count, 2).tolist()
        more = {"edge_attr": torch.tensor(features).view(-1, 2)} if self.has_features else {}
        given_edges = [[source for source, _ in edges], [target for _, target in edges]]
        weight = form(weights) if self.is_weighted else None
        self.predictor.add_edges(form(given_edges), weight, **more)
        self.edges += edges
        self.weights += weights
        self.features += features

    @rule(seed=SEEDS, count=st.integers(1, 3), form=st.sampled_from(FORMS))
    def set_features(self, seed, count, form):
        torch.manual_seed(seed)
        ids = sorted(set(self.draw_ids(seed, count)))
        rows = torch.randn(len(ids), F_IN).tolist()
        self.predictor.set_features(form(ids), form(rows))
        for at, row in zip(ids, rows, strict=True):
            self.x[at] = row

    @rule(seed=SEEDS)
    def change_weights(self, seed):
        torch.manual_seed(seed)
        for weight in self.model.parameters():
            weight.data += 0.1 * torch.randn_like(weight)

    @rule(route=st.sampled_from(["mixture", "weak", "strong"]))
    def change_route(self, route):
        self.model.route = route

    @rule()
    def restart(self):
        self.predictor = Predictor(self.model, self.predictor.data, **self.mode, **self.choice)

    @rule(
        change=st.sampled_from(
            [
                lambda p: p.add_nodes([[torch.nan] * F_IN]),
                lambda p: p.add_nodes([[1.0] * (F_IN + 1)]),
                lambda p: p.add_edges([[0], [p.num_nodes]]),
                lambda p: p.add_edges([[0], [0]], torch.nan),
                lambda p: p.set_features([0], [[torch.inf] * F_IN]),
                lambda p: p.set_features([0, 0], [[1.0] * F_IN] * 2),
                lambda p: p.predict([-1]),
                lambda p: p.predict([0.5]),
                lambda p: p.predict([True] * (p.num_nodes + 1)),
            ]
        )
    )
    def refuse(self, change):
        with pytest.raises(ValueError):
            change(self.predictor)

    @rule(seed=SEEDS, count=st.integers(0, 5), form=st.sampled_from([*FORMS, "mask"]))
    def predict(self, seed, count, form):
        ids = self.draw_ids(seed, count)
        if form == "mask":
            asked = torch.zeros(len(self.x), dtype=torch.bool)
            asked[ids] = True
            ids = asked.nonzero().view(-1).tolist()
        else:
            asked = form(ids)
        self.check(asked, torch.tensor(ids, dtype=torch.long))

    @invariant()
    def predict_every_second_node(self):
        self.num_steps += 1
        ids = torch.arange(self.num_steps % 2, len(self.x), 2)
        self.check(ids, ids)

    def check(self, asked, ids):
        found = self.predictor.predict(asked)
        prob, deferred = self.compute(ids)
        torch.testing.assert_close(found.prob, prob, atol=1e-4, rtol=1e-4)
        assert found.deferred.equal(deferred)
        assert found.labels.equal(found.prob.argmax(dim=-1))

    @torch.no_grad()
    def compute(self, ids):
        r"""The prediction on the rebuilt graph, without conditional execution."""
        graph = self.build()
        more = {"edge_attr": graph.edge_attr} if self.has_features else {}
        out = self.model.outputs(graph.x, graph.edge_index, graph.get("edge_weight"), **more)
        if not self.choice:
            route = self.model.route
            prob = out.prob if route == "mixture" else getattr(out, route).softmax(dim=-1)
            return prob[ids], torch.full_like(ids, route != "weak", dtype=torch.bool)
        asked = ids.unique()
        confidence = out.confidence[asked]
        if "threshold" in self.choice:
            chosen = asked[confidence < self.choice["threshold"]]
        else:
            chosen = asked[confidence.argsort(stable=True)[: 2 * len(asked) // 5]]
        deferred = torch.isin(ids, chosen)
        logits = torch.where(deferred.unsqueeze(-1), out.strong[ids], out.weak[ids])
        return logits.softmax(dim=-1), deferred


def test_random_changes_and_questions():
    run_state_machine_as_test(PredictorMachine, settings=settings.get_profile("fuzz"))


@pytest.mark.slow
def test_many_random_changes_and_questions():
    run_state_machine_as_test(PredictorMachine, settings=settings.get_profile("fuzz-long"))
