import pytest
import torch

from mowst import GCN, GIN, GPRGNN, H2GCN, GraphSAGE
from mowst.sparse import Features, Graph, RowTaker, Subgraph
from mowst.sparse.propagate import propagate

KINDS = ["gcn", "mean", "gin", "sum", "one-hop", "two-hop", "returns"]
SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
EXPERTS = pytest.mark.parametrize(
    "make",
    [
        lambda: GCN(**SIZES),
        lambda: GCN(**SIZES, skip=True, jk="last", norm="layer_norm"),
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


def cut(data, nodes):
    return Subgraph(Graph(data.edge_index, num_nodes=data.num_nodes), nodes)


def call(expert, data, nodes):
    return expert(RowTaker(data.x)(nodes), cut(data, nodes))


@pytest.mark.parametrize("kind", KINDS)
def test_all_nodes_are_the_whole(data, kind):
    whole, part = Graph(data.edge_index), cut(data, torch.arange(data.num_nodes))
    assert torch.equal(part.edge_index, data.edge_index)
    assert torch.equal(dense(part.operator(kind)), dense(whole.operator(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_keep_their_diagonal_and_are_scaled_by_the_neighbours_lost(data, nodes, kind):
    whole, part = (
        dense(Graph(data.edge_index).operator(kind)),
        dense(cut(data, nodes).operator(kind)),
    )
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
    whole = Graph(data.edge_index, num_nodes=30)
    exact, total = propagate(whole.operator(kind), data.x), torch.zeros(30, 6)
    counts = torch.zeros(30, 1)
    torch.manual_seed(0)
    for _ in range(1000):
        nodes = torch.randperm(30)[:20].sort().values
        total[nodes] += propagate(Subgraph(whole, nodes).operator(kind), data.x[nodes])
        counts[nodes] += 1
    plain = propagate(whole.operator(kind), data.x * 19 / 29)
    assert (total / counts - exact).abs().max() < 0.15 * (plain - exact).abs().max().clamp(min=1)


def test_edges_and_weights_are_the_induced_ones(data, nodes):
    weight = torch.rand(data.num_edges)
    part = Subgraph(Graph(data.edge_index, weight), nodes)
    inside = torch.isin(data.edge_index, nodes).all(dim=0)
    assert torch.equal(nodes[part.edge_index], data.edge_index[:, inside])
    assert torch.equal(part.edge_weight, weight[inside])


@EXPERTS
def test_the_whole_neighbourhood_as_a_batch_answers_as_the_whole_graph(make_task, make):
    data = make_task(num_nodes=60, seed=3).data
    data.edge_index = data.edge_index[
        :, torch.rand(data.num_edges, generator=torch.Generator().manual_seed(0)) < 0.15
    ]
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
    assert torch.allclose(
        call(expert, data, nodes), expert(data.x, data.edge_index)[nodes], atol=1e-6
    )
    part, rows = cut(data, nodes), Features(data.x[nodes])  # rows of nothing
    assert not torch.allclose(
        part.first_hop(rows, "mean"), part.first_hop(RowTaker(data.x)(nodes), "mean")
    )


@EXPERTS
def test_a_batch_of_cloned_tensors_gives_the_same_logits(data, nodes, make):
    torch.manual_seed(0)
    expert, whole, features = make().eval(), Graph(data.edge_index, num_nodes=30), Features(data.x)
    expected = expert(RowTaker(features)(nodes), Subgraph(whole, nodes))
    for rows in (features.rows(nodes.clone()), RowTaker(Features(data.x.clone()))(nodes.clone())):
        other = Subgraph(Graph(data.edge_index.clone(), num_nodes=30), nodes.clone())
        assert torch.equal(expert(rows, other), expected)
        assert torch.equal(expert(rows, Subgraph(whole, nodes.clone())), expected)


def test_rows_of_other_nodes_have_their_own_product(data, nodes):
    features, part = Features(data.x), cut(data, nodes)
    other = features.rows(nodes - 1)
    assert torch.equal(part.first_hop(other, "mean"), propagate(part.operator("mean"), other.x))
