r"""An expert that runs for some nodes predicts them as it does when it runs for all."""

from functools import cache

import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st

from mowst import MLP, LearnedGate, Mowst, PowerGate, build_expert
from mowst.nn.call import call_expert
from mowst.nn.registry import EXPERTS
from mowst.nn.routing import count_share, routing_rule
from mowst.sparse import Features, Graph, partial
from mowst.sparse import graph as graph_module
from mowst.sparse.memo import ContentMemo

F_IN, CLASSES = 5, 3
SIZES = {"in_channels": F_IN, "hidden_channels": 8, "out_channels": CLASSES, "num_layers": 3}
PYG = {
    "GCN": pyg.GCN,
    "GraphSAGE": pyg.GraphSAGE,
    "GIN": pyg.GIN,
    "GAT": pyg.GAT,
    "EdgeCNN": pyg.EdgeCNN,
}


@pytest.fixture(params=[-1e6, 1e12], ids=["always pruned", "never pruned"], autouse=True)
def cost(request, monkeypatch):
    monkeypatch.setattr(partial, "TAKE", request.param)
    monkeypatch.setattr(graph_module, "_graphs", ContentMemo())


@st.composite
def graphs(draw):
    num_nodes = draw(st.integers(1, 14))
    node = st.integers(0, num_nodes - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=40))
    weighted = draw(st.booleans())
    x = torch.randn(
        num_nodes, F_IN, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))
    )
    edge_index = torch.tensor(edges, dtype=torch.long).view(-1, 2).t().contiguous()
    weight = torch.rand(edge_index.size(1)) + 0.1 if weighted else None
    nodes = draw(st.lists(node, unique=True, min_size=1))
    return x, edge_index, weight, torch.tensor(nodes)


def few(function):
    return settings(max_examples=8, deadline=None)(given(graphs())(function))


@pytest.mark.parametrize("name", EXPERTS.names())
@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm"])
def test_every_expert_predicts_some_nodes_as_it_predicts_all(name, norm):
    if norm == "batch_norm" and name in ("h2gcn", "linkx", "gprgnn"):
        pytest.skip("has no choice of norms")
    more = {} if name in ("h2gcn", "linkx") else {"norm": norm}

    @cache
    def build(num_nodes):
        torch.manual_seed(0)
        return build_expert(name, **SIZES, num_nodes=num_nodes, **more).eval()

    @few
    def check(graph):
        x, edge_index, weight, nodes = graph
        expert = build(x.size(0) if name == "linkx" else 1)
        weight = weight if getattr(expert, "supports_edge_weight", False) or name == "mlp" else None
        whole = call_expert(expert, x, edge_index, weight)
        torch.testing.assert_close(
            call_expert(expert, x, edge_index, weight, nodes=nodes), whole[nodes]
        )
        kept = None if name == "mlp" else Graph(edge_index, weight, x.size(0))
        torch.testing.assert_close(
            call_expert(expert, Features(x), kept, nodes=nodes), whole[nodes]
        )

    check()


@pytest.mark.parametrize("name", PYG)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"aggr": "mean"},
        {"norm": "batch_norm", "jk": "last"},
        {"act_first": True, "norm": "graph_norm"},
    ],
    ids=str,
)
def test_models_of_pyg_predict_some_nodes_as_they_predict_all(name, options):
    torch.manual_seed(0)
    expert = PYG[name](**SIZES, **options).eval()

    @few
    def check(graph):
        x, edge_index, weight, nodes = graph
        weight = weight if expert.supports_edge_weight else None
        with torch.no_grad():
            whole = call_expert(expert, x, edge_index, weight)
            torch.testing.assert_close(
                call_expert(expert, x, edge_index, weight, nodes=nodes), whole[nodes]
            )
            kept = Graph(edge_index, weight, x.size(0))
            torch.testing.assert_close(
                call_expert(expert, Features(x), kept, nodes=nodes), whole[nodes]
            )

    check()


@pytest.mark.parametrize("norm", ["graph_norm", "layer_norm", "instance_norm", "pair_norm"])
def test_a_norm_inside_a_layer_of_pyg_is_over_all_nodes(norm):
    torch.manual_seed(0)
    x, edge_index, nodes = torch.randn(50, F_IN), torch.randint(50, (2, 100)), torch.tensor([3, 7])
    expert = pyg.GIN(F_IN, 8, 1, CLASSES, norm=norm).eval()
    whole = call_expert(expert, x, edge_index)
    torch.testing.assert_close(call_expert(expert, x, edge_index, nodes=nodes), whole[nodes])


class TwoHops(torch.nn.Module):
    num_hops = 2

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = pyg.GCNConv(F_IN, 8), pyg.GCNConv(8, CLASSES)
        self.rows = []

    def forward(self, x, edge_index, edge_weight=None):
        self.rows.append(x.size(0))
        return self.conv2(self.conv1(x, edge_index, edge_weight).relu(), edge_index, edge_weight)


@few
def test_a_module_with_num_hops_runs_on_its_subgraph(graph):
    x, edge_index, weight, nodes = graph
    torch.manual_seed(0)
    expert = TwoHops().eval()
    whole = call_expert(expert, x, edge_index, weight)
    torch.testing.assert_close(
        call_expert(expert, x, edge_index, weight, nodes=nodes), whole[nodes]
    )
    kept = Graph(edge_index, weight, x.size(0))
    torch.testing.assert_close(call_expert(expert, Features(x), kept, nodes=nodes), whole[nodes])


def test_the_subgraph_is_small_and_a_module_without_hops_runs_on_all():
    line = torch.stack([torch.arange(99), torch.arange(1, 100)])
    x, expert = torch.randn(100, F_IN), TwoHops().eval()
    call_expert(expert, x, torch.cat([line, line.flip(0)], dim=1), nodes=torch.tensor([50]))
    assert expert.rows == [7]
    expert.num_hops = None
    call_expert(expert, x, line, nodes=torch.tensor([50]))
    assert expert.rows == [7, 100]


def test_a_wrong_shape_is_reported_for_some_nodes_as_for_all():
    line, nodes = torch.stack([torch.arange(99), torch.arange(1, 100)]), torch.tensor([50])
    expert = TwoHops().eval()
    expert.forward = lambda x, edge_index: x[:3]
    with pytest.raises(ValueError, match=r"TwoHops must return .* with N = 4 nodes, got \[3, 5\]"):
        call_expert(expert, torch.randn(100, F_IN), line, nodes=nodes)


@pytest.mark.parametrize("strong", ["gcn", "sage", "gat", "tuned-gcn"])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.1])
def test_a_threshold_predicts_by_the_full_forward_of_the_chosen_expert(data, strong, threshold):
    torch.manual_seed(0)
    sizes = {**SIZES, "in_channels": 6}
    model = Mowst(MLP(**sizes), build_expert(strong, **sizes), PowerGate(0.5)).eval()
    out = model(data.x, data.edge_index)
    chosen = torch.where((out.confidence >= threshold).unsqueeze(-1), out.weak, out.strong)
    assert torch.equal(
        model.predict(data.x, data.edge_index, threshold=threshold), chosen.argmax(dim=-1)
    )


@pytest.mark.parametrize("budget", [0.0, 0.1, 0.34, 1.0])
def test_a_budget_defers_exactly_that_share_of_the_least_confident(data, budget):
    torch.manual_seed(0)
    sizes = {**SIZES, "in_channels": 6}
    model = Mowst(MLP(**sizes), build_expert("sage", **sizes), LearnedGate(8)).eval()
    out = model(data.x, data.edge_index)
    deferred = out.confidence.argsort()[: int(30 * budget)]
    expected = out.weak.argmax(dim=-1).index_put((deferred,), out.strong.argmax(dim=-1)[deferred])
    assert torch.equal(model.predict(data.x, data.edge_index, budget=budget), expected)


@pytest.mark.parametrize(
    ("share", "num_nodes", "count"),
    [(0.29, 100, 29), (0.57, 200, 114), (1 / 3, 3, 1), (0.5, 3, 1), (0.999, 10, 9), (1.0, 7, 7)],
)
def test_a_share_of_nodes_is_rounded_down_and_not_by_an_error_of_floats(share, num_nodes, count):
    assert count_share(share, num_nodes) == count
    confidence = torch.rand(num_nodes)
    assert int(routing_rule(None, share, False, None)(confidence).sum()) == count


def test_choices_that_exclude_each_other_are_refused(data):
    sizes = {**SIZES, "in_channels": 6}
    model = Mowst(MLP(**sizes), build_expert("sage", **sizes), LearnedGate(8))
    for choice in ({"threshold": 0.5, "budget": 0.1}, {"budget": 0.1, "sample": True}):
        with pytest.raises(ValueError, match="give one of threshold, budget and sample=True"):
            model.predict(data.x, data.edge_index, **choice)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 3"):
        model.predict(data.x, data.edge_index, budget=3)
