import numpy as np
import pytest
import torch

from mowst.sparse.changes import find_changed_rows, find_readers
from mowst.sparse.graph import Graph

N = 20


@pytest.mark.parametrize("kind", ["gcn", "mean", "gin", "sum", "one-hop"])
@pytest.mark.parametrize("seed", range(5))
def test_rows_differ_where_the_dense_matrices_do(kind, seed):
    torch.manual_seed(seed)
    edges = torch.randint(N, (2, 30))
    before = Graph(edges, num_nodes=N).operator(kind)
    after = Graph(
        torch.cat([edges[:, 1:], torch.randint(N + 2, (2, 2))], dim=1), num_nodes=N + 2
    ).operator(kind)
    old, new = torch.zeros(N + 2, N + 2), after.matrix.to_dense()
    old[:N, :N] = before.matrix.to_dense()
    expected = (old != new).any(dim=1)
    expected[N:] = True
    assert find_changed_rows(before, after).tolist() == expected.tolist()


def test_the_degree_of_a_target_reaches_those_that_read_it():
    line = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    more = torch.cat([line, torch.tensor([[0], [2]])], dim=1)
    for kind, rows in {"mean": [2], "gcn": [2, 3]}.items():
        before, after = (Graph(edges, num_nodes=5).operator(kind) for edges in (line, more))
        assert np.flatnonzero(find_changed_rows(before, after)).tolist() == rows


def test_readers_are_the_targets_of_edges():
    operator = Graph(torch.tensor([[0, 0, 3, 1], [1, 2, 0, 1]]), num_nodes=5).operator("sum")
    assert np.flatnonzero(
        find_readers(operator, np.array([True, False, False, False, True]))
    ).tolist() == [1, 2]
