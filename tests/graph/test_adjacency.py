import weakref

import pytest
import torch
from torch_geometric import EdgeIndex

from mowst.graph.adjacency import Adjacency, adjacency
from mowst.graph.memo import TensorMemo

# Directed, with a self-loop at 1, a double edge 3 -> 0, and node 4 isolated.
EDGES = torch.tensor([[0, 1, 2, 1, 3, 3], [1, 2, 0, 1, 0, 0]])
N = 5


def dense(edge_index, edge_weight=None, num_nodes=N):
    weight = torch.ones(edge_index.size(1)) if edge_weight is None else edge_weight
    return torch.zeros(num_nodes, num_nodes).index_put((edge_index[1], edge_index[0]), weight, accumulate=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_gcn_operator_is_its_formula(weighted):
    weight = torch.rand(EDGES.size(1)) + 0.5 if weighted else None
    a_hat = dense(EDGES, weight)
    a_hat.fill_diagonal_(1)
    if weighted:
        a_hat[1, 1] = weight[3]
    scale = a_hat.sum(dim=1).rsqrt()
    operator = Adjacency(EDGES, weight, num_nodes=N).operator("gcn")
    torch.testing.assert_close(operator.matrix.to_dense(), scale[:, None] * a_hat * scale)


def test_mean_operator_is_its_formula():
    a = dense(EDGES)
    operator = Adjacency(EDGES, num_nodes=N).operator("mean")
    torch.testing.assert_close(operator.matrix.to_dense(), a / a.sum(dim=1, keepdim=True).clamp(min=1))


def test_gin_operator_is_its_formula():
    operator = Adjacency(EDGES, num_nodes=N).operator("gin", eps=0.5)
    torch.testing.assert_close(operator.matrix.to_dense(), dense(EDGES) + 1.5 * torch.eye(N))


@pytest.mark.parametrize("weighted", [False, True])
def test_sum_operator_is_the_adjacency_matrix(weighted):
    weight = torch.rand(EDGES.size(1)) if weighted else None
    operator = Adjacency(EDGES, weight, num_nodes=N).operator("sum")
    torch.testing.assert_close(operator.matrix.to_dense(), dense(EDGES, weight))


def distances(edge_index, num_nodes):
    """The length of the shortest path from column to row, by search in breadth."""
    out = torch.full((num_nodes, num_nodes), num_nodes)
    for start in range(num_nodes):
        front, length = {start}, 0
        while front:
            for node in front:
                out[node, start] = length
            following = {t for s, t in edge_index.t().tolist() if s in front}
            front, length = {node for node in following if out[node, start] == num_nodes}, length + 1
    return out


def rings(kind):
    """Random edges with loops and repetitions, and an isolated last node; 300 two-step walks join nodes 0 and 1."""
    edges = torch.randint(11, (2, 24), generator=torch.Generator().manual_seed(7))
    edges = torch.cat([edges, edges[:, :5], torch.tensor([[3], [3]])], dim=1)
    if kind == "bundle":
        middle = torch.arange(2, 302)
        edges = torch.stack([torch.cat([torch.zeros_like(middle), middle]), torch.cat([middle, 0 * middle + 1])])
    return torch.cat([edges, edges.flip(0)], dim=1) if kind == "undirected" else edges, 303 if kind == "bundle" else 12


def normalized(matrix):
    into, out_of = (matrix.sum(dim=dim).clamp(min=1).rsqrt() for dim in (1, 0))
    return into[:, None] * matrix * out_of


@pytest.mark.parametrize("kind", ["directed", "undirected", "bundle"])
@pytest.mark.parametrize(("name", "length"), [("one-hop", 1), ("two-hop", 2)])
def test_hop_operators_join_the_nodes_at_their_distance(kind, name, length):
    edges, size = rings(kind)
    expected = normalized((distances(edges, size) == length).double())
    operator = Adjacency(edges, num_nodes=size).operator(name, torch.float64)
    torch.testing.assert_close(operator.matrix.to_dense(), expected)
    assert expected.count_nonzero() > 0
    assert (operator.transposed is operator.matrix) == (kind == "undirected")


@pytest.mark.parametrize("kind", ["directed", "undirected"])
def test_returns_are_the_diagonal_of_two_steps(kind):
    edges, size = rings(kind)
    graph = Adjacency(edges, num_nodes=size)
    step = graph.operator("one-hop", torch.float64).matrix.to_dense()
    returns = graph.operator("returns", torch.float64).matrix.to_dense()
    torch.testing.assert_close(returns, torch.diag((step @ step).diag()))
    assert returns.count_nonzero() > 0


@pytest.mark.parametrize("kind", ["directed", "undirected"])
def test_two_hop_graph_is_small_up_to_a_number_of_walks(kind, monkeypatch):
    edges, size = rings(kind)
    near = (distances(edges, size) == 1).double()
    monkeypatch.setattr("mowst.graph.adjacency.WALKS_PER_EDGE", 0)
    for spare, small in ((0, True), (-1, False)):
        monkeypatch.setattr("mowst.graph.adjacency.WALKS", int((near @ near).sum()) + spare)
        assert Adjacency(edges, num_nodes=size).two_hop_is_small is small


@pytest.mark.parametrize("kind", ["gcn", "mean", "gin"])
def test_rows_of_isolated_nodes_and_dtype(kind):
    operator = Adjacency(EDGES, num_nodes=N).operator(kind, torch.float64)
    assert operator.matrix.dtype == torch.float64
    row = operator.matrix.to_dense()[4]
    assert row.tolist() == [0, 0, 0, 0, 0 if kind == "mean" else 1]


@pytest.mark.parametrize("convert", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc"])
@pytest.mark.parametrize("kind", ["gcn", "mean", "gin"])
def test_sparse_input_is_edge_index_input(convert, kind):
    edges = torch.unique(EDGES, dim=1)
    matrix = getattr(dense(edges), convert)()
    expected = Adjacency(edges, num_nodes=N).operator(kind).matrix.to_dense()
    assert adjacency(matrix, num_nodes=N).operator(kind).matrix.to_dense().equal(expected)
    assert adjacency(matrix, num_nodes=N) is adjacency(matrix, num_nodes=N)


def test_weighted_sparse_input_is_weighted_edge_index_input():
    weight = torch.rand(EDGES.size(1))
    edges, merged = torch.unique(EDGES, dim=1, return_inverse=True)
    weights = torch.zeros(edges.size(1)).index_add(0, merged, weight)
    given = Adjacency(dense(EDGES, weight).to_sparse_csr()).operator("gcn").matrix
    torch.testing.assert_close(given.to_dense(), Adjacency(edges, weights, N).operator("gcn").matrix.to_dense())


def test_edge_index_class_is_plain_edge_index():
    graph = adjacency(EdgeIndex(EDGES, sparse_size=(N, N)), num_nodes=N)
    expected = Adjacency(EDGES, num_nodes=N)
    assert graph.operator("gcn").matrix.to_dense().equal(expected.operator("gcn").matrix.to_dense())


def test_weights_without_use_are_refused():
    graph = Adjacency(EDGES, torch.rand(EDGES.size(1)), N)
    for kind in ("mean", "gin", "one-hop", "two-hop", "returns"):
        with pytest.raises(ValueError, match="no use for edge weights"):
            graph.operator(kind)


def test_operators_are_built_once():
    graph = Adjacency(EDGES, num_nodes=N)
    assert graph.operator("gcn") is graph.operator("gcn")
    assert graph.operator("gcn", add_self_loops=False) is not graph.operator("gcn")


def test_undirected_operators_are_their_own_transpose():
    both = torch.cat([EDGES, EDGES.flip(0)], dim=1)
    weight = torch.rand(EDGES.size(1)).repeat(2)
    gcn = Adjacency(both, weight, N).operator("gcn")
    assert gcn.transposed is gcn.matrix
    mean = Adjacency(both, num_nodes=N).operator("mean")
    assert mean.transposed is not mean.matrix


def test_lookup_follows_the_tensors():
    edges, weight = EDGES.clone(), torch.ones(EDGES.size(1))
    graph = adjacency(edges, num_nodes=N)
    assert adjacency(edges, num_nodes=N) is graph
    assert adjacency(edges, num_nodes=N + 1) is not graph
    assert adjacency(edges.clone(), num_nodes=N) is not graph
    weighted = adjacency(edges, weight, N)
    weight[0] = 2
    assert adjacency(edges, weight, N) is not weighted
    edges[0, 0] = 2
    changed = adjacency(edges, num_nodes=N)
    assert changed is not graph
    assert changed.operator("gin").matrix.to_dense().equal(dense(edges) + torch.eye(N))


def test_lookup_keeps_no_dead_graph(monkeypatch):
    known = TensorMemo()
    monkeypatch.setattr("mowst.graph.adjacency._known", known)
    edges, x = EDGES.clone(), torch.randn(N, 3)
    adjacency(edges, num_nodes=N).first_hop(x, "gcn")
    graph = weakref.ref(adjacency(edges, num_nodes=N))
    assert len(known) == 1
    del edges
    assert len(known) == 0 and graph() is None


def test_first_hop_is_one_product_per_unchanged_features():
    graph, x = Adjacency(EDGES, num_nodes=N), torch.randn(N, 3)
    with torch.inference_mode():
        hop = graph.first_hop(x, "mean")
    assert graph.first_hop(x, "mean") is hop and not hop.is_inference()
    assert graph.first_hop(x, "gcn") is not hop
    x += 1
    torch.testing.assert_close(graph.first_hop(x, "mean"), graph.operator("mean").matrix.to_dense() @ x)


@pytest.mark.parametrize(
    ("edge_index", "edge_weight", "num_nodes", "message"),
    [
        (torch.zeros(3, 4, dtype=torch.long), None, N, r"shape \[2, num_edges\], got \[3, 4\]"),
        (torch.zeros(2, 4), None, N, "int64 or int32, got torch.float32"),
        (EDGES, torch.ones(5), N, r"shape \[6\], one weight per edge, got \[5\]"),
        (EDGES, torch.ones(6, dtype=torch.long), N, "floating point, got torch.int64"),
        (EDGES, None, 3, r"\[0, 3\): 2 edges do not, for example \[3, 0\]"),
        (-EDGES, None, N, "6 edges do not"),
        (torch.ones(2, 3).to_sparse_csr(), None, None, r"must be square, got shape \(2, 3\)"),
        (torch.eye(5).to_sparse_csr(), None, N + 1, "has 5 nodes, but 6 were announced"),
        (torch.eye(5).to_sparse_csr(), torch.ones(5), N, "put the weights into the matrix"),
    ],
)
def test_what_is_no_graph_is_refused(edge_index, edge_weight, num_nodes, message):
    with pytest.raises(ValueError, match=message):
        Adjacency(edge_index, edge_weight, num_nodes)


def test_graph_without_edges():
    graph = Adjacency(torch.empty(2, 0, dtype=torch.long), num_nodes=3)
    assert graph.operator("gcn").matrix.to_dense().equal(torch.eye(3))
    assert graph.operator("mean").matrix.to_dense().equal(torch.zeros(3, 3))
    assert graph.operator("two-hop").matrix.to_dense().equal(torch.zeros(3, 3)) and graph.two_hop_is_small
    assert repr(graph) == "Adjacency(nodes=3, edges=0)"
