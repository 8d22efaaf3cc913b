import copy

import pytest
import torch
from torch_geometric.nn import GAT, GCN, GIN, GraphSAGE, Sequential, conv
from torch_geometric.utils import remove_self_loops

import mowst
from mowst.nn.call import call_expert
from mowst.nn.conditional import find_fastest_form
from mowst.sparse import Graph, graph
from mowst.sparse.memo import ContentMemo

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}


@pytest.fixture(autouse=True)
def small_graphs_count_as_large(monkeypatch):
    monkeypatch.setattr(graph, "MIN_EDGES", 0)
    monkeypatch.setattr(graph, "_graphs", ContentMemo())


@pytest.fixture
def data(data):
    data.edge_index = remove_self_loops(data.edge_index)[0]
    return data


def logits_and_gradients(expert, call):
    expert.zero_grad()
    logits = call()
    logits.square().sum().backward()
    return [logits.detach(), *(p.grad.clone() for p in expert.parameters())]


@pytest.mark.parametrize(
    ("kind", "weighted"),
    [(GCN, False), (GCN, True), (GraphSAGE, False), (GIN, False)],
    ids=lambda v: str(v),
)
def test_pyg_models_run_on_a_matrix_with_the_result_of_their_messages(data, kind, weighted):
    expert, seen = kind(**SIZES), []
    weight = torch.rand(data.num_edges) if weighted else None
    extra = {"edge_weight": weight} if weighted else {}
    direct = logits_and_gradients(expert, lambda: expert(data.x, data.edge_index, **extra))
    expert.register_forward_pre_hook(lambda _, args: seen.append(args[1].layout))
    for edges in ((data.edge_index, weight), (Graph(data.edge_index, weight, 30), None)):
        chosen = logits_and_gradients(
            expert, lambda edges=edges: call_expert(expert, data.x, *edges)
        )
        torch.testing.assert_close(chosen, direct, rtol=1e-4, atol=1e-5)
    assert seen == 2 * [torch.sparse_csr]


def test_directed_edges_keep_their_direction():
    expert, x = GCN(**SIZES), torch.randn(4, 6)
    edge_index = torch.tensor([[0, 1, 2], [3, 3, 1]])
    torch.testing.assert_close(call_expert(expert, x, edge_index), expert(x, edge_index))


def test_what_a_matrix_cannot_hold_stays_as_edges(data):
    learned = torch.ones(data.num_edges, requires_grad=True)
    form = find_fastest_form(GCN(**SIZES), data.x, data.edge_index, learned)
    assert form[0] is data.edge_index and form[1] is learned
    for more in (data.edge_index[:, :1], torch.tensor([[3], [3]])):
        edges = torch.cat([data.edge_index, more], dim=1)
        assert find_fastest_form(GCN(**SIZES), data.x, edges, None)[0] is edges
    for options in ({"improved": True}, {"flow": "target_to_source"}):
        expert = GCN(**SIZES, **options)
        torch.testing.assert_close(
            call_expert(expert, data.x, data.edge_index), expert(data.x, data.edge_index)
        )
    seen, attention = [], GAT(**SIZES, heads=2)
    attention.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    call_expert(attention, data.x, data.edge_index)
    assert seen[0] is data.edge_index


@pytest.mark.parametrize("kind", [GCN, GraphSAGE, GIN])
def test_double_and_mixed_precision_run_on_edges(data, kind):
    expert, x = kind(**SIZES).double(), data.x.double()
    torch.testing.assert_close(call_expert(expert, x, data.edge_index), expert(x, data.edge_index))
    with torch.autocast("cpu", torch.bfloat16):
        expert.float()
        torch.testing.assert_close(
            call_expert(expert, data.x, data.edge_index), expert(data.x, data.edge_index).float()
        )


class DropsEdges(GCN):
    def forward(self, x, edge_index):
        return super().forward(x, edge_index[:, ::2])


def test_a_forward_of_ones_own_gets_plain_edges_for_all_and_for_some_nodes(data):
    expert, nodes = DropsEdges(**SIZES).eval(), torch.tensor([3, 7])
    for edges in (data.edge_index, Graph(data.edge_index, num_nodes=30)):
        whole = call_expert(expert, data.x, edges)
        torch.testing.assert_close(whole, expert(data.x, data.edge_index))
        torch.testing.assert_close(call_expert(expert, data.x, edges, nodes=nodes), whole[nodes])


@pytest.mark.parametrize("kind", [GIN, GraphSAGE])
def test_edges_of_32_bits_have_the_gradients_of_64(data, kind):
    expert = kind(**SIZES, aggr="max")
    right = logits_and_gradients(expert, lambda: expert(data.x, data.edge_index))
    found = logits_and_gradients(expert, lambda: call_expert(expert, data.x, data.edge_index.int()))
    torch.testing.assert_close(found, right)


def test_learned_weights_of_32_bit_edges_have_the_gradients_of_64(data):
    expert = mowst.GCN(**SIZES, normalize=False)
    weight = torch.rand(data.num_edges, requires_grad=True)
    found = []
    for edges in (data.edge_index, data.edge_index.int()):
        out = call_expert(expert, data.x, edges, weight)
        found.append(torch.autograd.grad(out.square().sum(), weight)[0])
    torch.testing.assert_close(*found)


class TwoInputs(torch.nn.Module):
    r"""A layer that also takes the first hidden rows."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, edge_index):
        return self.layer(x, x, edge_index)


CACHED = {
    "APPNP": lambda: conv.APPNP(2, 0.1, cached=True),
    "EGConv": lambda: conv.EGConv(6, 8, cached=True),
    "FAConv": lambda: TwoInputs(conv.FAConv(6, cached=True)),
    "GCN2Conv": lambda: TwoInputs(conv.GCN2Conv(6, 0.1, cached=True)),
    "GCNConv": lambda: conv.GCNConv(6, 3, cached=True),
    "SGConv": lambda: conv.SGConv(6, 3, K=2, cached=True),
    "SSGConv": lambda: conv.SSGConv(6, 3, alpha=0.1, K=2, cached=True),
    "Sequential": lambda: Sequential(
        "x, edge_index", [(conv.GCNConv(6, 3, cached=True), "x, edge_index -> x")]
    ),
    "PyG's GCN": lambda: GCN(**SIZES, cached=True),
    "our GCN": lambda: mowst.GCN(**SIZES, aggr="max", cached=True),
}


@pytest.mark.parametrize("make", CACHED.values(), ids=CACHED)
def test_a_cached_layer_of_pyg_follows_the_graph(data, make):
    expert = make().eval()
    fresh = copy.deepcopy(expert)
    more = torch.cat([data.x, data.x[:5]])
    for x, edges in (
        (data.x, data.edge_index),
        (data.x, data.edge_index[:, ::2]),
        (more, data.edge_index),
    ):
        right = copy.deepcopy(fresh)(x, edges)
        torch.testing.assert_close(call_expert(expert, x, edges), right)
