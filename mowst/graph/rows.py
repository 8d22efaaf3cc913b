r"""Rows that remember which tensor they were taken from, so that what is known of the whole serves them too."""

from typing import NamedTuple

from torch import Tensor

from mowst.graph.memo import TensorMemo

_taken = TensorMemo()


class Source(NamedTuple):
    r"""Where rows were taken: at the positions `nodes` of the rows of `x`."""

    x: Tensor
    nodes: Tensor


def take_rows(x: Tensor, nodes: Tensor) -> Tensor:
    r"""The rows :math:`\mathbf{X}_B` of constant features, :math:`(n, F)`, with a known :func:`source_of`."""
    rows = x[nodes]
    _taken.get((rows,), lambda: Source(x, nodes))
    return rows


def source_of(rows: Tensor) -> Source | None:
    r"""Where :func:`take_rows` took these rows; :obj:`None` for all other tensors."""
    return _taken.get((rows,), lambda: None)
