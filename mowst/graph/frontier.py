r"""Which nodes each layer must compute for the answers of some nodes, and whether that is cheaper than all nodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mowst.graph.propagate import Operator, to_scipy

# Rough nanoseconds on two CPU cores: of a gathered and added element, of a multiplication in a dense product, and of
# taking one entry of the matrix out of its place. Only their ratios decide.
GATHER, MULTIPLY, TAKE = 0.4, 0.018, 12.0
# What a pruned plan must promise, as a part of the cost of all nodes: planning and errors of the promise cost too.
WORTH = 0.85


@dataclass(frozen=True, eq=False)
class Step:
    r"""One layer that computes some nodes only.

    Args:
        whole (Operator): The operator :math:`\mathbf{P}` of the layer on the whole graph.
        nodes (Tensor): The ids of the nodes that the layer computes.
        before (Tensor, optional): The ids of the nodes whose rows it reads; :obj:`None` for all.
        once (bool, optional): Whether what it could remember of the whole graph is not worth the memory.
            (default: :obj:`False`)

    Shapes:
        - **nodes:** :math:`(n)`; **before:** :math:`(m)`, sorted
    """

    whole: Operator
    nodes: Tensor
    before: Tensor | None
    once: bool = False

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

    def reads_from(self, x: Tensor) -> Tensor:
        r"""The rows that come in, of the rows :math:`(N, F)` of all nodes."""
        return x if self.before is None else x.index_select(0, self.before)

    def split(self, size: int) -> Iterator["Step"]:
        r"""The same layer in steps of at most `size` nodes, in which nothing of the whole graph is remembered."""
        for nodes in self.nodes.split(size):
            yield Step(self.whole, nodes, _reads(self.whole, nodes), once=True)


def plan(
    operator: Operator,
    nodes: Tensor,
    widths: Sequence[tuple[int, int]],
    known: Sequence[Tensor] | None = None,
    first_hop: bool = False,
) -> list[Step | None]:
    r"""The cheapest way to compute the last layer for `nodes`: for each layer a :class:`Step`, or :obj:`None` where
    it computes all nodes. With :math:`V_L` the given nodes and :math:`V_{l-1} = V_l \cup \mathcal{N}(V_l)`, layer
    :math:`l` needs the rows :math:`V_{l-1}` and computes :math:`V_l`; before some layer all nodes are cheaper.
    Remembered while `nodes` lives unchanged.

    Args:
        operator (Operator): The operator :math:`\mathbf{P}` of every layer.
        nodes (Tensor): The ids of the wanted nodes, :math:`(n)`.
        widths (list): The channels into and out of each layer.
        known (list, optional): By layer, of which nodes the rows that it computes are known, :math:`(N)`: layer
            :math:`l` then computes the unknown ones of :math:`V_l` only, and the layers before draw from those.
            (default: :obj:`None`)
        first_hop (bool, optional): Whether :math:`\mathbf{P} \mathbf{X}` is at hand, so that the first layer multiplies
            rows of it and no neighbours need to be found for it. (default: :obj:`False`)
    """
    if known is not None:
        return _plan(operator, nodes[~known[-1][nodes]], widths, known, first_hop)
    key = (tuple(widths), first_hop)
    return operator.plans.get((nodes,), lambda: _plan(operator, nodes, widths, None, first_hop), key)


def _plan(
    operator: Operator,
    nodes: Tensor,
    widths: Sequence[tuple[int, int]],
    known: Sequence[Tensor] | None,
    first_hop: bool,
) -> list[Step | None]:
    matrix = to_scipy(operator.matrix)
    num_nodes, entries = matrix.shape[0], [0 if first_hop and i == 0 else matrix.nnz for i in range(len(widths))]
    full = [_cost(count, num_nodes, num_nodes, *width) for count, width in zip(entries, widths, strict=True)]
    # Another view of the given nodes: a plan that held them would keep its own memory alive.
    wanted, pruned = nodes.detach().contiguous(), 0.0
    totals = [WORTH * sum(full)]  # by the number of pruned last layers
    steps: list[Step] = []
    for layer, width in reversed(list(enumerate(widths))):
        ids, at_hand = wanted.cpu().numpy(), first_hop and layer == 0
        count = 0 if at_hand else int((matrix.indptr[ids + 1] - matrix.indptr[ids]).sum())
        at_least = pruned + TAKE * count + _cost(count, ids.size, ids.size, *width)
        if at_least >= min(totals):
            break
        reads = None if at_hand else _reads(operator, wanted)
        # The first pruned layer reads the rows of all nodes, unless it is the first layer of all.
        totals.append(sum(full[:layer]) + pruned + TAKE * count + _cost(count, ids.size, num_nodes, *width))
        pruned += TAKE * count + _cost(count, ids.size, ids.size if reads is None else reads.numel(), *width)
        totals[-1] = totals[-1] if layer else pruned
        steps.append(Step(operator, wanted, reads, once=known is not None))
        if reads is not None:
            wanted = reads if known is None or layer == 0 else reads[~known[layer - 1][reads]]
    best = totals.index(min(totals))
    steps = steps[:best][::-1]
    if known is None and 0 < best < len(widths):
        steps[0] = Step(operator, steps[0].nodes, None)
    return [None] * (len(widths) - best) + steps


def aggregates_first(entries: int, rows: int, reads: int, into: int, out_of: int) -> bool:
    r"""Whether :math:`(\mathbf{P} \mathbf{X}) \mathbf{W}^{\top}` is cheaper than :math:`\mathbf{P} (\mathbf{X}
    \mathbf{W}^{\top})`, for a block :math:`\mathbf{P}` of so many entries, rows and columns and its channels.
    """
    return _multiplied(entries, rows, into, into, out_of) < _multiplied(entries, reads, out_of, into, out_of)


def equivalent_width(features: Operator) -> int:
    r"""The width of dense features whose linear map costs as much as that of these sparse ones."""
    return round(GATHER / MULTIPLY * features.num_entries / max(features.shape[0], 1))


def _cost(entries: int, rows: int, reads: int, into: int, out_of: int) -> float:
    return min(_multiplied(entries, rows, into, into, out_of), _multiplied(entries, reads, out_of, into, out_of))


def _multiplied(entries: int, rows: int, gathered: int, into: int, out_of: int) -> float:
    return GATHER * entries * gathered + MULTIPLY * rows * into * out_of


def _reads(operator: Operator, nodes: Tensor) -> Tensor:
    matrix, ids = to_scipy(operator.matrix), nodes.cpu().numpy()
    reached = np.bincount(matrix[ids].indices, minlength=matrix.shape[1])
    reached[ids] = 1
    return torch.from_numpy(np.flatnonzero(reached)).to(nodes.device)
