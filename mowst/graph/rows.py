r"""Rows that remember which tensor they were taken from, so that what is known of the whole serves them too."""

from typing import NamedTuple

import torch
from torch import Tensor

from mowst.graph.memo import TensorMemo

_taken = TensorMemo()


class Source(NamedTuple):
    r"""Where rows were taken: at the positions `nodes` of the rows of `x`."""

    x: Tensor
    nodes: Tensor


class RowTaker:
    r"""Takes rows :math:`\mathbf{X}_B` of constant features, again and again into the same memory: what was taken is
    right until the next is. Fresh memory would cost more than the copy.

    Args:
        x (torch.Tensor): The features, :math:`(N, F)`.
    """

    def __init__(self, x: Tensor):
        self.x = x
        self._memory = x.new_empty(0, x.size(1))

    def __call__(self, nodes: Tensor) -> Tensor:
        r"""The rows of the given nodes, :math:`(n, F)`, with a known :func:`source_of`."""
        if self._memory.size(0) < nodes.numel():
            self._memory = self.x.new_empty(nodes.numel(), self.x.size(1))
        rows = self._memory[: nodes.numel()]
        torch.index_select(self.x, 0, nodes, out=rows)
        x = self.x
        _taken.get((rows,), lambda: Source(x, nodes))
        return rows


def source_of(rows: Tensor) -> Source | None:
    r"""Where a :class:`RowTaker` took these rows; :obj:`None` for all other tensors."""
    return _taken.get((rows,), lambda: None) if _taken.knows((rows,)) else None
