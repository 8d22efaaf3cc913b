r"""Which nodes each layer must compute for the answers of some nodes, and whether that is cheaper than all nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mowst.graph.propagate import Operator, to_scipy

# Rough nanoseconds on two CPU cores: of a gathered and added element, of a multiplication in a dense product, and of
# taking one entry of the matrix out of its place. Only their ratios decide.
GATHER, MULTIPLY, TAKE = 0.5, 0.012, 8.0


@dataclass(frozen=True, eq=False)
class Step:
    r"""One layer that computes some nodes only.

    Args:
        whole (Operator): The operator :math:`\mathbf{P}` of the layer on the whole graph.
        nodes (Tensor): The ids of the nodes that the layer computes.
        before (Tensor, optional): The ids of the nodes whose rows come in; :obj:`None` for all.

    Shapes:
        - **nodes:** :math:`(n)`; **before:** :math:`(m)`, sorted
    """

    whole: Operator
    nodes: Tensor
    before: Tensor | None

    @cached_property
    def operator(self) -> Operator:
        r"""The block of :math:`\mathbf{P}` from the rows that come in to those that go out, :math:`(n, m)`."""
        if self.before is None:
            return self.whole.rows(self.nodes)
        rows = to_scipy(self.whole.matrix)[self.nodes.cpu().numpy()]
        local = np.empty(self.whole.shape[1], dtype=np.int32)
        local[self.before.cpu().numpy()] = np.arange(self.before.numel(), dtype=np.int32)
        block = (rows.data, local[rows.indices], rows.indptr)
        return Operator(sp.csr_matrix(block, shape=(self.nodes.numel(), self.before.numel())), self.whole.matrix.device)

    @cached_property
    def at(self) -> Tensor:
        r"""Where the nodes that go out lie among the rows that come in, :math:`(n)`."""
        return self.nodes if self.before is None else torch.searchsorted(self.before, self.nodes)


def plan(operator: Operator, nodes: Tensor, widths: Sequence[tuple[int, int]]) -> list[Step | None]:
    r"""The cheapest way to compute the last layer for `nodes`: for each layer a :class:`Step`, or :obj:`None` where
    it computes all nodes. With :math:`V_L` the given nodes and :math:`V_{l-1} = V_l \cup \mathcal{N}(V_l)`, layer
    :math:`l` needs the rows :math:`V_{l-1}` and computes :math:`V_l`; before some layer all nodes are cheaper.
    Remembered while `nodes` lives unchanged.

    Args:
        operator (Operator): The operator :math:`\mathbf{P}` of every layer.
        nodes (Tensor): The ids of the wanted nodes, :math:`(n)`.
        widths (list): The channels into and out of each layer.
    """
    return operator.plans.get((nodes,), lambda: _plan(operator, nodes, widths), tuple(widths))


def _plan(operator: Operator, nodes: Tensor, widths: Sequence[tuple[int, int]]) -> list[Step | None]:
    matrix = to_scipy(operator.matrix)
    full = [_cost(matrix.nnz, matrix.shape[0], *width) for width in widths]
    frontiers, pruned, totals = [nodes.cpu().numpy()], 0.0, [sum(full)]  # by the number of pruned last layers
    for depth, width in enumerate(reversed(widths), start=1):
        wanted = frontiers[-1]
        entries = int((matrix.indptr[wanted + 1] - matrix.indptr[wanted]).sum())
        pruned += _cost(entries, len(wanted), *width) + TAKE * entries
        totals.append(sum(full[:-depth]) + pruned)
        if pruned >= totals[0]:
            break
        frontiers.append(_with_neighbours(matrix, wanted))
    best = totals.index(min(totals))
    # Another view of the given nodes: a plan that held them would keep its own memory alive.
    ids = [nodes.detach(), *(torch.from_numpy(part).to(nodes.device) for part in frontiers[1 : best + 1])]
    # The first pruned layer reads the rows of all nodes, unless it is the first layer of all.
    before = [*ids[1:best], ids[best] if best == len(widths) else None]
    steps = [Step(operator, *pair) for pair in zip(ids[:best], before, strict=True)] if best else []
    return [None] * (len(widths) - best) + steps[::-1]


def _cost(entries: int, rows: int, into: int, out_of: int) -> float:
    return GATHER * entries * min(into, out_of) + MULTIPLY * rows * into * out_of


def _with_neighbours(matrix: sp.csr_matrix, nodes: np.ndarray) -> np.ndarray:
    reached = np.zeros(matrix.shape[1], dtype=bool)
    reached[nodes] = True
    reached[matrix[nodes].indices] = True
    return np.flatnonzero(reached)
