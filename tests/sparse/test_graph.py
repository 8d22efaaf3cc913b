import copy

import pytest
import torch
from torch_geometric import EdgeIndex

from mowst.sparse import Graph, as_graph
from mowst.sparse import graph as module
from mowst.sparse.memo import ContentMemo

# Directed, with a self-loop at 1, a double edge 3 -> 0, and node 4 isolated.
EDGES = torch.tensor([[0, 1, 2, 1, 3, 3], [1, 2, 0, 1, 0, 0]])
N = 5


def dense(edge_index, edge_weight=None, num_nodes=N):
    weight = torch.ones(edge_index.size(1)) if edge_weight is None else edge_weight
    return torch.zeros(num_nodes, num_nodes).index_put(
        (edge_index[1], edge_index[0]), weight, accumulate=True
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_gcn_operator_is_its_formula(weighted):
    weight = torch.rand(EDGES.size(1)) + 0.5 if weighted else None
    a_hat = dense(EDGES, weight)
    a_hat.fill_diagonal_(1)
    if weighted:
        a_hat[1, 1] = weight[3]
    scale = a_hat.sum(dim=1).rsqrt()
    operator = Graph(EDGES, weight, num_nodes=N).operator("gcn")
    torch.testing.assert_close(operator.matrix.to_dense(), scale[:, None] * a_hat * scale)


def test_mean_operator_is_its_formula():
    a = dense(EDGES)
    operator = Graph(EDGES, num_nodes=N).operator("mean")
    torch.testing.assert_close(
        operator.matrix.to_dense(), a / a.sum(dim=1, keepdim=True).clamp(min=1)
    )


def test_gin_operator_is_its_formula():
    operator = Graph(EDGES, num_nodes=N).operator("gin", eps=0.5)
    torch.testing.assert_close(operator.matrix.to_dense(), dense(EDGES) + 1.5 * torch.eye(N))


@pytest.mark.parametrize("weighted", [False, True])
def test_sum_operator_is_the_adjacency_matrix(weighted):
    weight = torch.rand(EDGES.size(1)) if weighted else None
    operator = Graph(EDGES, weight, num_nodes=N).operator("sum")
    torch.testing.assert_close(operator.matrix.to_dense(), dense(EDGES, weight))


def distances(edge_index, num_nodes):
    r"""The length of the shortest path from column to row, by search in breadth."""
    out = torch.full((num_nodes, num_nodes), num_nodes)
    for start in range(num_nodes):
        front, length = {start}, 0
        while front:
            for node in front:
                out[node, start] = length
            following = {t for s, t in edge_index.t().tolist() if s in front}
            front, length = (
                {node for node in following if out[node, start] == num_nodes},
                length + 1,
            )
    return out


def rings(kind):
    r"""Random edges with loops and repetitions, and an isolated last node; 300 two-step walks join
    nodes 0 and 1.
    """
    edges = torch.randint(11, (2, 24), generator=torch.Generator().manual_seed(7))
    edges = torch.cat([edges, edges[:, :5], torch.tensor([[3], [3]])], dim=1)
    if kind == "bundle":
        middle = torch.arange(2, 302)
        edges = torch.stack(
            [torch.cat([torch.zeros_like(middle), middle]), torch.cat([middle, 0 * middle + 1])]
        )
    return torch.cat(
        [edges, edges.flip(0)], dim=1
    ) if kind == "undirected" else edges, 303 if kind == "bundle" else 12


def normalized(matrix):
    into, out_of = (matrix.sum(dim=dim).clamp(min=1).rsqrt() for dim in (1, 0))
    return into[:, None] * matrix * out_of


@pytest.mark.parametrize("kind", ["directed", "undirected", "bundle"])
@pytest.mark.parametrize(("name", "length"), [("one-hop", 1), ("two-hop", 2)])
def test_hop_operators_join_the_nodes_at_their_distance(kind, name, length):
    edges, size = rings(kind)
    expected = normalized((distances(edges, size) == length).double())
    operator = Graph(edges, num_nodes=size).operator(name, torch.float64)
    torch.testing.assert_close(operator.matrix.to_dense(), expected)
    assert expected.count_nonzero() > 0
    assert (operator.transposed is operator.matrix) == (kind == "undirected")


@pytest.mark.parametrize("kind", ["directed", "undirected"])
def test_returns_are_the_diagonal_of_two_steps(kind):
    edges, size = rings(kind)
    graph = Graph(edges, num_nodes=size)
    step = graph.operator("one-hop", torch.float64).matrix.to_dense()
    returns = graph.operator("returns", torch.float64).matrix.to_dense()
    torch.testing.assert_close(returns, torch.diag((step @ step).diag()))
    assert returns.count_nonzero() > 0


@pytest.mark.parametrize("kind", ["directed", "undirected"])
def test_two_hop_graph_is_small_up_to_a_number_of_walks(kind, monkeypatch):
    edges, size = rings(kind)
    near = (distances(edges, size) == 1).double()
    monkeypatch.setattr("mowst.sparse.graph.WALKS_PER_EDGE", 0)
    for spare, small in ((0, True), (-1, False)):
        monkeypatch.setattr("mowst.sparse.graph.WALKS", int((near @ near).sum()) + spare)
        assert Graph(edges, num_nodes=size).two_hop_is_small is small


@pytest.mark.parametrize("kind", ["gcn", "mean", "gin"])
def test_rows_of_isolated_nodes_and_dtype(kind):
    operator = Graph(EDGES, num_nodes=N).operator(kind, torch.float64)
    assert operator.matrix.dtype == torch.float64
    row = operator.matrix.to_dense()[4]
    assert row.tolist() == [0, 0, 0, 0, 0 if kind == "mean" else 1]


@pytest.mark.parametrize("convert", ["to_sparse_coo", "to_sparse_csr", "to_sparse_csc"])
@pytest.mark.parametrize("kind", ["gcn", "mean", "gin"])
def test_sparse_input_is_edge_index_input(convert, kind):
    edges = torch.unique(EDGES, dim=1)
    matrix = getattr(dense(edges), convert)()
    expected = Graph(edges, num_nodes=N).operator(kind).matrix.to_dense()
    assert as_graph(matrix, num_nodes=N).operator(kind).matrix.to_dense().equal(expected)
    assert as_graph(matrix, num_nodes=N) is as_graph(matrix, num_nodes=N)


def test_weighted_sparse_input_is_weighted_edge_index_input():
    weight = torch.rand(EDGES.size(1))
    edges, merged = torch.unique(EDGES, dim=1, return_inverse=True)
    weights = torch.zeros(edges.size(1)).index_add(0, merged, weight)
    given = Graph(dense(EDGES, weight).to_sparse_csr()).operator("gcn").matrix
    torch.testing.assert_close(
        given.to_dense(), Graph(edges, weights, N).operator("gcn").matrix.to_dense()
    )


def test_edge_index_class_is_plain_edge_index():
    graph = as_graph(EdgeIndex(EDGES, sparse_size=(N, N)), num_nodes=N)
    expected = Graph(EDGES, num_nodes=N)
    assert graph.operator("gcn").matrix.to_dense().equal(expected.operator("gcn").matrix.to_dense())


def test_weights_without_use_are_refused():
    graph = Graph(EDGES, torch.rand(EDGES.size(1)), N)
    for kind in ("mean", "gin", "one-hop", "two-hop", "returns"):
        with pytest.raises(ValueError, match="no use for edge weights"):
            graph.operator(kind)


def test_operators_are_built_once():
    graph = Graph(EDGES, num_nodes=N)
    assert graph.operator("gcn") is graph.operator("gcn")
    assert graph.operator("gcn", add_self_loops=False) is not graph.operator("gcn")


def test_undirected_operators_are_their_own_transpose():
    both = torch.cat([EDGES, EDGES.flip(0)], dim=1)
    weight = torch.rand(EDGES.size(1)).repeat(2)
    gcn = Graph(both, weight, N).operator("gcn")
    assert gcn.transposed is gcn.matrix
    mean = Graph(both, num_nodes=N).operator("mean")
    assert mean.transposed is not mean.matrix


@pytest.fixture
def graphs(monkeypatch):
    memo = ContentMemo()
    monkeypatch.setattr(module, "_graphs", memo)
    return memo


def test_plain_edges_are_found_again_by_their_content(graphs):
    edges, weight = EDGES.clone(), torch.ones(EDGES.size(1))
    graph = as_graph(edges, num_nodes=N)
    assert as_graph(edges.clone(), num_nodes=N) is as_graph(EDGES, num_nodes=N) is graph
    assert as_graph(edges, num_nodes=N + 1) is not graph
    assert as_graph(edges, weight, N) is not graph
    weighted = as_graph(edges, weight, N)
    weight.data[0] = 2
    changed = as_graph(edges, weight, N)
    assert changed is not weighted and changed.edge_weight.equal(weight)
    edges.numpy()[0, 0] = 2
    changed = as_graph(edges, num_nodes=N)
    assert changed.operator("gin").matrix.to_dense().equal(dense(edges) + torch.eye(N))
    assert graph.operator("gin").matrix.to_dense().equal(dense(EDGES) + torch.eye(N)), (
        "of private copies"
    )


def test_few_plain_graphs_are_remembered_and_no_large_ones(graphs, monkeypatch):
    for num_nodes in range(N, N + 9):
        as_graph(EDGES, num_nodes=num_nodes)
    assert len(graphs) == 4
    monkeypatch.setattr(module, "MAX_EDGES", 5)
    graph = as_graph(EDGES, num_nodes=N)
    assert (
        as_graph(EDGES, num_nodes=N) is not graph
        and graph.edge_index.data_ptr() == EDGES.data_ptr()
    )


def test_a_graph_stays_what_it_is(graphs):
    graph = Graph(EDGES, num_nodes=N)
    assert as_graph(graph) is graph and as_graph(graph, num_nodes=N) is graph and len(graphs) == 0
    other = Graph(EDGES, num_nodes=N)
    assert other.operator("gcn") is not graph.operator("gcn"), "nothing is shared"
    with pytest.raises(ValueError, match="the graph has 5 nodes, the features have 6 rows"):
        as_graph(graph, num_nodes=6)
    with pytest.raises(ValueError, match="next to a Graph: build it as Graph"):
        as_graph(graph, torch.ones(6))


def test_the_transposed_matrix_holds_what_pyg_would_compute(monkeypatch):
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 0, 0]])
    assert Graph(edges).transposed_csr is None, "few edges"
    monkeypatch.setattr(module, "MIN_EDGES", 0)
    graph, weight = Graph(edges, num_nodes=N), torch.rand(4)
    assert graph.transposed_csr is graph.transposed_csr
    assert graph.transposed_csr.to_dense().equal(dense(edges))
    assert Graph(edges, weight, N).transposed_csr.to_dense().equal(dense(edges, weight))
    for more in ([[0], [1]], [[3], [3]]):
        assert Graph(torch.cat([edges, torch.tensor(more)], dim=1)).transposed_csr is None


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
        Graph(edge_index, edge_weight, num_nodes)


def test_graph_without_edges():
    graph = Graph(torch.empty(2, 0, dtype=torch.long), num_nodes=3)
    assert graph.operator("gcn").matrix.to_dense().equal(torch.eye(3))
    assert graph.operator("mean").matrix.to_dense().equal(torch.zeros(3, 3))
    assert (
        graph.operator("two-hop").matrix.to_dense().equal(torch.zeros(3, 3))
        and graph.two_hop_is_small
    )
    assert repr(graph) == "Graph(nodes=3, edges=0)"


@pytest.mark.parametrize("change", ["edge_index", "edge_weight"])
def test_a_change_in_place_is_noticed(change):
    graph = Graph(EDGES.clone(), torch.ones(EDGES.size(1)), N)
    graph.operator("gcn")
    getattr(graph, change).mul_(1)
    with pytest.raises(ValueError, match="was changed in place: build a new Graph"):
        graph.operator("sum")
    copy.deepcopy(Graph(EDGES.clone().mul_(1), num_nodes=N)).operator("sum")
