import numpy as np
import pytest
import scipy.sparse as sp
import torch

import mowst.sparse.propagate as module
from mowst.sparse.propagate import Operator, propagate


def random_matrix(rows, columns, dtype=np.float64, seed=0):
    return sp.random(
        rows, columns, density=0.3, format="csr", dtype=dtype, rng=np.random.default_rng(seed)
    )


@pytest.fixture(params=["torch", "scipy"])
def kernel(request, monkeypatch):
    if request.param == "scipy":
        monkeypatch.setattr(module, "has_torch_kernel", lambda device: False)
    elif not module.has_torch_kernel(torch.device("cpu")):
        pytest.skip("torch has no fast CSR product on this CPU")


def test_is_the_dense_product(kernel):
    matrix = random_matrix(6, 9)
    x = torch.randn(9, 4, dtype=torch.float64)
    torch.testing.assert_close(
        propagate(Operator(matrix), x), torch.from_numpy(matrix.toarray()) @ x
    )


def test_gradient(kernel):
    operator = Operator(random_matrix(6, 9))
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: propagate(operator, x), x)


def test_gradient_of_transposed_input_and_expanded_output(kernel):
    matrix = random_matrix(6, 9)
    weight = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    propagate(Operator(matrix), weight.t()).sum().backward()
    torch.testing.assert_close(
        weight.grad, torch.from_numpy(matrix.toarray()).sum(dim=0).expand(4, 9)
    )


def test_half_precision_is_computed_in_single(kernel):
    matrix = random_matrix(6, 9, np.float32)
    x = torch.randn(9, 4, dtype=torch.bfloat16)
    out = propagate(Operator(matrix), x)
    assert out.dtype == torch.bfloat16
    assert out.equal((torch.from_numpy(matrix.toarray()) @ x.float()).bfloat16())


def test_uninitialised_memory_does_not_leak_in(monkeypatch):
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda self, size: self.new_full(size, float("nan"))
    )
    assert (
        propagate(Operator(random_matrix(6, 9)), torch.randn(9, 4, dtype=torch.float64))
        .isfinite()
        .all()
    )


def test_transpose_of_symmetric_matrix_is_itself():
    matrix = random_matrix(7, 7)
    symmetric, directed = Operator((matrix + matrix.T).tocsr()), Operator(matrix)
    assert symmetric.transposed is symmetric.matrix
    assert directed.transposed is directed.transposed
    assert directed.transposed.to_dense().equal(directed.matrix.to_dense().t())


def test_indices_are_32_bit():
    assert Operator(random_matrix(6, 9)).matrix.col_indices().dtype == torch.int32


@pytest.mark.parametrize("nodes", [[2, 3, 4], [0], [5], [4, 3], [1, 3], [2, 2], []], ids=str)
def test_rows_are_those_of_the_matrix_and_views_where_they_are_consecutive(nodes):
    matrix = random_matrix(6, 9)
    operator = Operator(matrix)
    rows = operator.rows(torch.tensor(nodes, dtype=torch.long))
    assert np.array_equal(rows.matrix.to_dense().numpy(), matrix.toarray()[nodes])
    values = (part.matrix.values().untyped_storage().data_ptr() for part in (rows, operator))
    assert (len(set(values)) == 1) == (
        len(nodes) > 0 and nodes == list(range(nodes[0], nodes[0] + len(nodes)))
    )
