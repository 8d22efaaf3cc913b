r"""The product with a constant sparse matrix, forward and backward."""

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mowst.sparse.memo import ContentMemo
from mowst.sparse.memory import make_empty


class Operator:
    r"""A constant sparse matrix :math:`\mathbf{P}` in CSR form that keeps its transpose.

    torch derives the transpose by sorting in every backward pass. Here it is built once, on the
    first backward pass, and a symmetric matrix is its own transpose. Indices are 32-bit where they
    fit, which MKL multiplies without a copy.

    Args:
        matrix (scipy.sparse.csr_matrix or torch.Tensor): The matrix, of shape :math:`(N, M)`. A
            torch CSR tensor is taken as it is.
        device (torch.device, optional): Where the products are computed. (default: :obj:`"cpu"`)

    Attributes:
        plans (ContentMemo): The plans of :func:`mowst.sparse.partial.plan`.
    """

    def __init__(self, matrix: sp.csr_matrix | Tensor, device: torch.device | str = "cpu") -> None:
        self.matrix = matrix if isinstance(matrix, Tensor) else _to_torch(matrix, device)
        self._transposed: Tensor | None = None
        self._rows = ContentMemo()
        self.plans = ContentMemo()

    @property
    def shape(self) -> torch.Size:
        return self.matrix.shape

    @property
    def num_entries(self) -> int:
        return self.matrix.values().numel()

    @cached_property
    def host(self) -> sp.csr_matrix:
        r"""The matrix for scipy: a view, or one copy if it is on another device."""
        return to_scipy(self.matrix)

    @property
    def transposed(self) -> Tensor:
        r""":math:`\mathbf{P}^{\top}` as torch CSR: the same object as :attr:`matrix` if that is
        symmetric.
        """
        if self._transposed is None:
            matrix = to_scipy(self.matrix)
            transposed = matrix.T.tocsr()
            if _is_close(matrix, transposed):
                self._transposed = self.matrix
            else:
                self._transposed = _to_torch(transposed, self.matrix.device)
        return self._transposed

    def rows(self, nodes: Tensor) -> "Operator":
        r"""Returns :meth:`take_rows` of these nodes. The last few results are remembered."""
        return self._rows.get((nodes,), self.take_rows)

    @torch.inference_mode(False)
    def take_rows(self, nodes: Tensor) -> "Operator":
        r"""Returns the rows of these nodes, :math:`(n, M)`. Those of consecutive nodes are views of
        the matrix.
        """
        rows = find_slice(nodes)
        if rows is None:
            return Operator(self.host[nodes.cpu().numpy()], self.matrix.device)
        bounds = self.matrix.crow_indices()[rows.start : rows.stop + 1]
        entries = slice(int(bounds[0]), int(bounds[-1]))
        columns, values = self.matrix.col_indices()[entries], self.matrix.values()[entries]
        return Operator(
            _csr(bounds - bounds[0], columns, values, (nodes.numel(), self.matrix.size(1)))
        )


def find_slice(nodes: Tensor) -> slice | None:
    r"""Returns the slice of consecutive nodes, or :obj:`None` if these are not or there are
    none.
    """
    if nodes.numel() == 0 or not bool((nodes.diff() == 1).all()):
        return None
    return slice(int(nodes[0]), int(nodes[-1]) + 1)


def propagate(operator: Operator, x: Tensor) -> Tensor:
    r"""Returns the propagation step

    .. math::
        \mathbf{X}^{\prime} = \mathbf{P} \mathbf{X}, \qquad
        \frac{\partial L}{\partial \mathbf{X}} = \mathbf{P}^{\top} \frac{\partial L}{\partial
        \mathbf{X}^{\prime}}

    Args:
        operator (Operator): The constant :math:`\mathbf{P}`. It receives no gradient.
        x (torch.Tensor): Dense features.

    Shapes:
        - **input:** operator :math:`(N, M)`, x :math:`(M, F)`
        - **output:** :math:`(N, F)`
    """
    return _Propagate.apply(x, operator)


def matmul(matrix: Tensor, x: Tensor) -> Tensor:
    r"""Returns CSR times dense, computed in the precision of the matrix, in that of :obj:`x`."""
    dense = x.to(matrix.dtype).contiguous()
    if not has_torch_kernel(x.device):
        return torch.from_numpy(to_scipy(matrix) @ dense.cpu().numpy()).to(x)
    # `matrix @ dense` would write zeros and copy them before the product; beta=0 into `out` does
    # neither.
    out = make_empty(dense, matrix.size(0), dense.size(1))
    return torch.addmm(out, matrix, dense, beta=0, out=out).to(x.dtype)


def has_torch_kernel(device: torch.device) -> bool:
    r"""Returns whether torch multiplies CSR matrices fast on a device: CUDA, or a CPU with MKL."""
    return device.type == "cuda" or (device.type == "cpu" and torch.backends.mkl.is_available())


def to_scipy(matrix: Tensor) -> sp.csr_matrix:
    r"""Returns a torch CSR matrix for scipy, sharing its memory on CPU."""
    parts = (matrix.values(), matrix.col_indices(), matrix.crow_indices())
    return sp.csr_matrix(tuple(part.cpu().numpy() for part in parts), shape=tuple(matrix.shape))


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: Operator) -> Tensor:
        ctx.operator = operator
        return matmul(operator.matrix, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return matmul(ctx.operator.transposed, grad), None


@torch.inference_mode(False)
def _to_torch(matrix: sp.csr_matrix, device: torch.device | str) -> Tensor:
    fits = max(*matrix.shape, matrix.nnz) <= np.iinfo(np.int32).max
    index = np.int32 if fits else np.int64
    pointers, columns = (
        torch.from_numpy(part.astype(index, copy=False)) for part in (matrix.indptr, matrix.indices)
    )
    return _csr(pointers, columns, torch.from_numpy(matrix.data), matrix.shape).to(device)


def _csr(pointers: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
        return torch.sparse_csr_tensor(pointers, columns, values, shape, check_invariants=False)


def _is_close(a: sp.csr_matrix, b: sp.csr_matrix) -> bool:
    r"""Returns whether two matrices are equal up to the rounding of a product in another order."""
    return (
        a.shape == b.shape
        and np.array_equal(a.indptr, b.indptr)
        and np.array_equal(a.indices, b.indices)
        and np.allclose(a.data, b.data, rtol=4 * np.finfo(a.dtype).eps, atol=0)
    )
