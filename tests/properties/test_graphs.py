r"""The prediction of an expert on a random graph depends neither on how nodes and edges are
numbered, nor on the form in which the edges are given.
"""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import EdgeIndex
from torch_geometric.typing import WITH_TORCH_SPARSE, SparseTensor

from mowst.nn.build import build_expert
from mowst.nn.call import call_expert
from mowst.nn.registry import EXPERTS
from mowst.sparse import Features, Graph

FEATURES, CLASSES = 4, 3
READERS = [name for name in EXPERTS.names() if name != "mlp"]
# Sums and sets of neighbours, in which an edge twice is one of double weight, or one.
SUMMED = ["gcn", "gcn-skip", "gprgnn", "tuned-gcn"]


def build(name, num_nodes):
    return build_once(name, num_nodes if name == "linkx" else 1)


@cache
def build_once(name, num_nodes):
    torch.manual_seed(0)
    sizes = {
        "in_channels": FEATURES,
        "hidden_channels": 8,
        "out_channels": CLASSES,
        "num_layers": 2,
    }
    return build_expert(name, **sizes, num_nodes=num_nodes).eval().double()


@st.composite
def graphs(draw, loops=True):
    r"""Features, distinct directed edges in any order, and a permutation of the nodes and one of
    the edges.
    """
    num_nodes = draw(st.integers(1, 12))
    node = st.integers(0, num_nodes - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=30, unique=True))
    edges = [(source, target) for source, target in edges if loops or source != target]
    x = torch.randn(
        num_nodes, FEATURES, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))
    )
    edge_index = torch.tensor(edges, dtype=torch.long).view(-1, 2).t().contiguous()
    orders = [
        torch.tensor(draw(st.permutations(range(n))), dtype=torch.long)
        for n in (num_nodes, len(edges))
    ]
    return x.double(), edge_index, *orders


def few(strategy=None):
    return lambda function: settings(max_examples=15, deadline=None, derandomize=True)(
        given(graphs() if strategy is None else strategy)(function)
    )


@pytest.mark.parametrize("name", EXPERTS.names())
def test_permuted_nodes_permute_the_prediction_of_every_inductive_expert(name):
    @few()
    def check(graph):
        x, edge_index, order, _ = graph
        expert = build(name, x.size(0))
        permuted = call_expert(expert, x[order], order.argsort()[edge_index])
        if expert.inductive:
            torch.testing.assert_close(permuted, call_expert(expert, x, edge_index)[order])

    check()


@pytest.mark.parametrize("name", READERS)
def test_the_order_of_edges_does_not_matter(name):
    @few()
    def check(graph):
        x, edge_index, _, order = graph
        expert, weight = (
            build(name, x.size(0)),
            torch.linspace(0.5, 2, order.numel(), dtype=torch.double),
        )
        torch.testing.assert_close(
            call_expert(expert, x, edge_index[:, order]), call_expert(expert, x, edge_index)
        )
        if expert.supports_edge_weight:
            one, other = ((edge_index, weight), (edge_index[:, order], weight[order]))
            torch.testing.assert_close(call_expert(expert, x, *other), call_expert(expert, x, *one))

    check()


@pytest.mark.parametrize("name", SUMMED)
def test_an_edge_given_twice_has_the_sum_of_the_weights(name):
    @few(graphs(loops=False))
    def check(graph):
        x, edge_index, *_ = graph
        expert, weight = (
            build(name, x.size(0)),
            torch.linspace(0.5, 2, edge_index.size(1), dtype=torch.double),
        )
        twice = call_expert(expert, x, edge_index.repeat(1, 2), torch.cat([weight, 3 * weight]))
        torch.testing.assert_close(twice, call_expert(expert, x, edge_index, 4 * weight))
        repeated = call_expert(expert, x, edge_index.repeat(1, 2))
        torch.testing.assert_close(
            repeated, call_expert(expert, x, edge_index, torch.full_like(weight, 2))
        )

    check()


@few()
def test_sets_of_neighbours_count_an_edge_once_and_means_weigh_it_by_how_often_it_is_given(graph):
    x, edge_index, *_ = graph
    h2gcn, sage = build("h2gcn", x.size(0)), build("sage", x.size(0))
    every_edge_twice = edge_index.repeat(1, 2)
    for expert in (h2gcn, sage):
        torch.testing.assert_close(
            call_expert(expert, x, every_edge_twice), call_expert(expert, x, edge_index)
        )
    first_twice = torch.cat([edge_index, edge_index[:, :1]], dim=1)
    torch.testing.assert_close(
        call_expert(h2gcn, x, first_twice), call_expert(h2gcn, x, edge_index)
    )


def forms(edge_index, num_nodes):
    r"""The edges in every form that is taken for them; matrices are transposed, as PyG's are."""
    dense = torch.zeros(num_nodes, num_nodes, dtype=torch.double)
    dense[edge_index[1], edge_index[0]] = 1
    yield EdgeIndex(edge_index, sparse_size=(num_nodes, num_nodes))
    yield from (dense.to_sparse_csr(), dense.to_sparse_csc(), dense.to_sparse_coo())
    if WITH_TORCH_SPARSE:
        yield SparseTensor(
            row=edge_index[1], col=edge_index[0], sparse_sizes=(num_nodes, num_nodes)
        )


@pytest.mark.filterwarnings("ignore:Sparse (CSR|CSC) tensor support")
@pytest.mark.parametrize("name", READERS)
def test_every_form_of_the_edges_gives_one_prediction(name):
    @few()
    def check(drawn):
        x, edge_index, *_ = drawn
        expert = build(name, x.size(0))
        expected = call_expert(expert, x, edge_index)
        for form in forms(edge_index, x.size(0)):
            torch.testing.assert_close(
                call_expert(expert, x, form), expected, msg=type(form).__name__
            )
            graph = Graph(form, num_nodes=x.size(0))
            torch.testing.assert_close(call_expert(expert, Features(x), graph), expected)

    check()
