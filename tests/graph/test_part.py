import pytest
import torch

from mowst import GCN, GIN, GPRGNN, H2GCN, GraphSAGE
from mowst.graph.adjacency import Adjacency, adjacency, edges_of
from mowst.graph.part import Part
from mowst.graph.propagate import propagate
from mowst.graph.rows import RowTaker, source_of

KINDS = ["gcn", "mean", "gin", "sum", "one-hop", "two-hop", "returns"]
SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
EXPERTS = pytest.mark.parametrize(
    "make",
    [
        lambda: GCN(**SIZES),
        lambda: GCN(**SIZES, skip=True, jk="last", norm="layer_norm"),
        lambda: GCN(**SIZES, pre_linear=True),
        lambda: GCN(**SIZES, sparse_features=True),
        lambda: GraphSAGE(**SIZES),
        lambda: GraphSAGE(**SIZES, sparse_features=True),
        lambda: GIN(**SIZES),
        lambda: GPRGNN(**SIZES, K=2),
        lambda: H2GCN(**SIZES),
    ],
)


@pytest.fixture
def nodes():
    return torch.tensor([1, 4, 5, 11, 12, 20, 29])


def dense(operator):
    return operator.matrix.to_dense()


def part_of(data, nodes):
    return Part(adjacency(data.edge_index, num_nodes=data.num_nodes), nodes)


def call(expert, data, nodes):
    edge_index, _ = edges_of(part_of(data, nodes))
    return expert(RowTaker(data.x)(nodes), edge_index)


@pytest.mark.parametrize("kind", KINDS)
def test_all_nodes_are_the_whole(data, kind):
    whole, part = Adjacency(data.edge_index), part_of(data, torch.arange(data.num_nodes))
    assert torch.equal(part.edge_index, data.edge_index)
    assert torch.equal(dense(part.operator(kind)), dense(whole.operator(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_keep_their_diagonal_and_are_scaled_by_the_neighbours_lost(data, nodes, kind):
    whole, part = dense(Adjacency(data.edge_index).operator(kind)), dense(part_of(data, nodes).operator(kind))
    for i, v in enumerate(nodes):
        neighbours = [int(u) for u in whole[v].nonzero() if u != v]
        kept = [j for j, u in enumerate(nodes) if int(u) in neighbours]
        expected = torch.zeros(nodes.numel())
        expected[i] = whole[v, v]
        if kept:
            expected[kept] = len(neighbours) / len(kept) * whole[v, nodes[kept]]
        assert torch.allclose(part[i], expected)


@pytest.mark.parametrize("kind", ["gcn", "mean", "gin"])
def test_the_product_is_unbiased(data, kind):
    whole = adjacency(data.edge_index, num_nodes=30)
    exact, total = propagate(whole.operator(kind), data.x), torch.zeros(30, 6)
    counts = torch.zeros(30, 1)
    torch.manual_seed(0)
    for _ in range(2000):
        nodes = torch.randperm(30)[:20].sort().values
        total[nodes] += propagate(Part(whole, nodes).operator(kind), data.x[nodes])
        counts[nodes] += 1
    plain = propagate(whole.operator(kind), data.x * 19 / 29)
    assert (total / counts - exact).abs().max() < 0.15 * (plain - exact).abs().max().clamp(min=1)


def test_edges_and_weights_are_the_induced_ones(data, nodes):
    weight = torch.rand(data.num_edges)
    part = Part(Adjacency(data.edge_index, weight), nodes)
    inside = torch.isin(data.edge_index, nodes).all(dim=0)
    assert torch.equal(nodes[part.edge_index], data.edge_index[:, inside])
    assert torch.equal(part.edge_weight, weight[inside])
    edges = edges_of(part)
    assert adjacency(*edges, num_nodes=nodes.numel()) is part


@EXPERTS
def test_the_whole_neighbourhood_as_a_batch_answers_as_the_whole_graph(make_task, make):
    data = make_task(num_nodes=60, seed=3).data
    data.edge_index = data.edge_index[:, torch.rand(data.num_edges, generator=torch.Generator().manual_seed(0)) < 0.15]
    torch.manual_seed(0)
    expert, wanted = make().eval(), torch.tensor([7, 21])
    inside = torch.zeros(60, dtype=torch.bool).index_fill(0, wanted, True)
    for _ in range(4 if isinstance(expert, H2GCN) else 2):
        inside[data.edge_index[0, inside[data.edge_index[1]]]] = True
    nodes = inside.nonzero().view(-1)
    assert nodes.numel() < 60
    logits = call(expert, data, nodes)[torch.searchsorted(nodes, wanted)]
    assert torch.allclose(logits, expert(data.x, data.edge_index)[wanted], atol=1e-6)


@pytest.mark.parametrize("kind", [GCN, GraphSAGE, GIN])
def test_the_first_hop_of_constant_features_is_exact(data, nodes, kind):
    expert = kind(**SIZES | {"num_layers": 1, "hidden_channels": 3, "out_channels": 3}).eval()
    assert torch.allclose(call(expert, data, nodes), expert(data.x, data.edge_index)[nodes], atol=1e-6)
    changed = RowTaker(data.x)(nodes) + 0  # rows of nothing
    part = part_of(data, nodes)
    assert not torch.allclose(part.first_hop(changed, "mean"), part.first_hop(RowTaker(data.x)(nodes), "mean"))


def test_rows_know_their_source(data, nodes):
    rows = RowTaker(data.x)(nodes)
    assert source_of(rows).x is data.x and source_of(rows).nodes is nodes
    assert source_of(data.x) is None and source_of(rows.clone()) is None


def test_rows_are_taken_into_the_same_memory(data, nodes):
    take = RowTaker(data.x)
    first = take(nodes)
    assert torch.equal(first, data.x[nodes])
    second = take(nodes[:3])
    assert second.data_ptr() == first.data_ptr() and torch.equal(second, data.x[nodes[:3]])
    assert source_of(first) is None, "it is void"
