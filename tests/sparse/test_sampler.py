from itertools import combinations

import pytest
import torch

from mowst.sparse import Graph
from mowst.sparse.sampler import NeighborSampler, draw_integers

DRAWS = 20_000


def make_sampler(edges, *args, num_nodes=8, **kwargs):
    edge_index = torch.tensor(edges, dtype=torch.long).view(-1, 2).t()
    return NeighborSampler(Graph(edge_index, num_nodes=num_nodes), *args, **kwargs)


def sample(sampler, *nodes):
    return sampler(torch.tensor(nodes, dtype=torch.long)).tolist()


def check_frequencies(counts, shares, draws=DRAWS):
    r"""Counts are within five standard deviations of what the shares expect."""
    shares = torch.as_tensor(shares, dtype=torch.float64)
    sigma = (draws * shares * (1 - shares)).sqrt()
    assert ((counts - draws * shares).abs() <= 5 * sigma).all(), counts


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [3, 4, 6])
def test_every_set_is_equally_likely_without_replacement(size):
    drawn = draw_integers(torch.full((DRAWS,), size), 3).sort(dim=-1).values
    sets = list(combinations(range(size), 3))
    counts = [(drawn == torch.tensor(one)).all(dim=-1).sum() for one in sets]
    assert sum(counts) == DRAWS, "each draw is a set of three different integers"
    check_frequencies(torch.stack(counts), [1 / len(sets)] * len(sets))


def test_every_tuple_is_equally_likely_with_replacement():
    drawn = draw_integers(torch.full((DRAWS,), 3), 2, replace=True)
    counts = torch.bincount(drawn @ torch.tensor([3, 1]), minlength=9)
    check_frequencies(counts, [1 / 9] * 9)


def test_sizes_differ_by_row_and_may_be_large():
    size = torch.tensor([5, 2**40, 7])
    for replace in (False, True):
        drawn = draw_integers(size, 5, replace)
        assert drawn.shape == (3, 5) and (drawn >= 0).all() and (drawn < size[:, None]).all()
    assert draw_integers(size, 0).shape == (3, 0)
    assert draw_integers(size[:0], 4).shape == (0, 4)


def test_each_in_neighbour_is_equally_likely():
    # Node 0 has five edges into it, node 6 one, and node 7 only one out of it.
    sampler = make_sampler([*((node, 0) for node in range(1, 6)), (0, 6), (6, 0), (7, 1)], [2])
    counts = torch.zeros(8)
    for _ in range(1000):
        nodes = sample(sampler, 0)
        assert len(nodes) == 3 and nodes[0] == 0
        counts[nodes] += 1
    check_frequencies(counts, [1, *[1 / 3] * 6, 0], draws=1000)


def test_min_of_count_and_degree_different_neighbours_are_drawn():
    edge_index = torch.randint(200, (2, 2000)).unique(dim=1)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    degree = torch.bincount(edge_index[1], minlength=200)
    for count in (1, 3, 9, 50):
        sampler = NeighborSampler(Graph(edge_index, num_nodes=200), [count])
        for node in range(0, 200, 4):
            nodes = sample(sampler, node)
            assert len(nodes) == 1 + min(count, int(degree[node]))
            into = edge_index[0, edge_index[1] == node].tolist()
            assert set(nodes) - {node} <= set(into)


def test_with_replacement_a_neighbour_may_be_drawn_again():
    sampler = make_sampler([(1, 0), (2, 0)], [2], replace=True)
    counts = torch.zeros(4)
    for _ in range(1000):
        counts[len(sample(sampler, 0))] += 1
    check_frequencies(counts[2:], [1 / 2, 1 / 2], draws=1000)
    # Two draws of the only edge.
    assert sample(make_sampler([(1, 0)], [2], replace=True), 0, 2) == [0, 1, 2]


def test_a_source_of_two_parallel_edges_is_drawn_twice_as_often():
    sampler = make_sampler([(1, 0), (2, 0), (1, 0)], [1])
    counts = torch.zeros(3)
    for _ in range(1000):
        counts[sample(sampler, 0)] += 1
    check_frequencies(counts, [1, 2 / 3, 1 / 3], draws=1000)


@pytest.mark.parametrize("replace", [False, True])
def test_all_neighbours_of_two_hops(replace):
    path = [(1, 0), (2, 1), (3, 2), (0, 4)]
    assert sample(make_sampler(path, [-1], replace=replace), 0) == [0, 1]
    assert sample(make_sampler(path, [-1, -1], replace=replace), 0) == [0, 1, 2]
    assert sample(make_sampler(path, [1, 1], replace=replace), 4, 1) == [0, 1, 2, 3, 4]
    assert sample(make_sampler(path, [], replace=replace), 4, 1) == [1, 4]


@pytest.mark.parametrize("replace", [False, True])
def test_isolated_nodes_loops_and_no_nodes(replace):
    assert sample(make_sampler([], [2, 2], replace=replace), 5, 3, 5) == [3, 5]
    assert sample(make_sampler([(0, 0)], [2, 2], replace=replace), 0) == [0]
    assert sample(make_sampler([(1, 0)], [2, -1], replace=replace)) == []


def test_a_node_draws_once_although_two_hops_reach_it():
    # The loop reaches 0 again, which has drawn its edge before.
    sampler = make_sampler([(0, 0), *((node, 0) for node in range(1, 8))], [1, 1, 1])
    assert all(len(sample(sampler, 0)) <= 2 for _ in range(50))


def test_torchs_generator_seeds_the_draws():
    edge_index = torch.randint(50, (2, 1000))
    sampler = NeighborSampler(Graph(edge_index, num_nodes=50), [2, 2])
    drawn = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        drawn.append(sample(sampler, 0, 1))
    assert drawn[0] == drawn[2] != drawn[1]
    assert repr(sampler) == "NeighborSampler((2, 2), replace=False)"
