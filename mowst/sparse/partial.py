r"""Which nodes each layer must compute to predict some nodes, and whether that is cheaper."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mowst.sparse.propagate import Operator, find_slice

# Rough nanoseconds on two CPU cores: of a gathered and added element, of a multiplication in a
# dense product, and of taking one entry of the matrix out of its place. Only their ratios decide.
GATHER, MULTIPLY, TAKE = 0.4, 0.018, 12.0
# What a pruned plan must promise, as a part of the cost of all nodes: planning and errors of the
# promise cost too.
WORTH = 0.85


@dataclass(frozen=True, eq=False)
class Step:
    r"""One layer that computes some nodes only.

    Args:
        whole (Operator): The operator :math:`\mathbf{P}` of the layer on the whole graph.
        nodes (torch.Tensor): The ids of the nodes that the layer computes.
        before (torch.Tensor, optional): The ids of the nodes whose rows it reads. All nodes if
            :obj:`None`.
        shared (dict, optional): What the steps of one layer share that each compute a chunk of its
            nodes. (default: :obj:`None`)

    Shapes:
        - **nodes:** :math:`(n)`; **before:** :math:`(m)`, sorted
    """

    whole: Operator
    nodes: Tensor
    before: Tensor | None
    shared: dict[str, Tensor] | None = None

    @cached_property
    def operator(self) -> Operator:
        r"""The block of :math:`\mathbf{P}` from the rows that come in to those that go out,
        :math:`(n, m)`.
        """
        if self.before is None:
            return self.whole.take_rows(self.nodes)
        rows = self.whole.host[self.nodes.cpu().numpy()]
        local = np.empty(self.whole.shape[1], dtype=np.int32)
        local[self.before.cpu().numpy()] = np.arange(self.before.numel(), dtype=np.int32)
        block = (rows.data, local[rows.indices], rows.indptr)
        return Operator(
            sp.csr_matrix(block, shape=(self.nodes.numel(), self.before.numel())),
            self.whole.matrix.device,
        )

    @cached_property
    def at(self) -> Tensor:
        r"""Where the nodes that go out lie among the rows that come in, :math:`(n)`."""
        return self.nodes if self.before is None else torch.searchsorted(self.before, self.nodes)

    @cached_property
    def rows(self) -> Tensor | slice:
        r"""The nodes as an index of the rows of all nodes: a slice if they are consecutive."""
        return find_slice(self.nodes) or self.nodes

    def select_from(self, x: Tensor) -> Tensor:
        r"""Returns the rows of the nodes that go out, of the rows :math:`(N, F)` of all nodes: a
        view if they are consecutive.
        """
        return x[self.rows] if isinstance(self.rows, slice) else x.index_select(0, self.rows)

    def reads_from(self, x: Tensor) -> Tensor:
        r"""Returns the rows that come in, of the rows :math:`(N, F)` of all nodes."""
        return x if self.before is None else x.index_select(0, self.before)

    def split(self, size: int) -> Iterator["Step"]:
        r"""Yields the same layer in steps of at most `size` nodes."""
        for nodes in self.nodes.split(size):
            yield Step(self.whole, nodes, _find_reads(self.whole, nodes))


def plan(
    operator: Operator,
    nodes: Tensor,
    widths: Sequence[tuple[int, int]],
    known: Sequence[Tensor] | None = None,
    first_hop: bool = False,
) -> list[Step | None]:
    r"""Returns the cheapest way to compute the last layer for some nodes: for each layer a
    :class:`Step`, or :obj:`None` if it computes all nodes. With :math:`V_L` the given nodes and
    :math:`V_{l-1} = V_l \cup \mathcal{N}(V_l)`, layer :math:`l` needs the rows :math:`V_{l-1}` and
    computes :math:`V_l`; before some layer all nodes are cheaper. The last few plans of an operator
    are remembered.

    Args:
        operator (Operator): The operator :math:`\mathbf{P}` of every layer.
        nodes (torch.Tensor): The ids of the wanted nodes, :math:`(n)`.
        widths (list): The channels into and out of each layer.
        known (list, optional): By layer, of which nodes the rows that it computes are known,
            :math:`(N)`: layer :math:`l` then computes the unknown ones of :math:`V_l` only, and the
            layers before draw from those. (default: :obj:`None`)
        first_hop (bool, optional): Whether :math:`\mathbf{P} \mathbf{X}` is at hand, so that the
            first layer multiplies rows of it and no neighbours need to be found for it. (default:
            :obj:`False`)
    """
    if known is not None:
        return _plan(operator, nodes[~known[-1][nodes]], widths, known, first_hop)
    key = (tuple(widths), first_hop)
    return operator.plans.get(
        (nodes,), lambda kept: _plan(operator, kept, widths, None, first_hop), key
    )


def _plan(
    operator: Operator,
    nodes: Tensor,
    widths: Sequence[tuple[int, int]],
    known: Sequence[Tensor] | None,
    first_hop: bool,
) -> list[Step | None]:
    first, num_nodes = operator.host.indptr, operator.shape[0]
    full = [_estimate_cost(operator.num_entries, num_nodes, num_nodes, *width) for width in widths]
    if first_hop:
        full[0] = _estimate_cost(0, num_nodes, num_nodes, *widths[0])
    totals = [WORTH * sum(full)]  # by the number of pruned last layers
    steps: list[Step] = []
    wanted, pruned = nodes, 0.0
    for layer in reversed(range(len(widths))):
        width, at_hand = widths[layer], first_hop and layer == 0
        ids = wanted.cpu().numpy()
        count = 0 if at_hand else int((first[ids + 1] - first[ids]).sum())
        at_least = pruned + TAKE * count + _estimate_cost(count, ids.size, ids.size, *width)
        if at_least >= min(totals):
            break
        reads = None if at_hand else _find_reads(operator, wanted)
        behind_all = pruned + TAKE * count + _estimate_cost(count, ids.size, num_nodes, *width)
        num_read = ids.size if reads is None else reads.numel()
        pruned += TAKE * count + _estimate_cost(count, ids.size, num_read, *width)
        # The first pruned layer reads the rows of all nodes, unless it is the first layer of all.
        totals.append(sum(full[:layer]) + behind_all if layer > 0 else pruned)
        steps.append(Step(operator, wanted, reads))
        if reads is not None:
            wanted = reads
            if known is not None and layer > 0:
                wanted = reads[~known[layer - 1][reads]]
    best = totals.index(min(totals))
    steps = steps[:best][::-1]
    if known is None and 0 < best < len(widths):
        steps[0] = Step(operator, steps[0].nodes, None)
    return [None] * (len(widths) - best) + steps


def aggregates_first(entries: int, rows: int, reads: int, into: int, out_of: int) -> bool:
    r"""Returns whether :math:`(\mathbf{P} \mathbf{X}) \mathbf{W}^{\top}` is cheaper than
    :math:`\mathbf{P} (\mathbf{X} \mathbf{W}^{\top})`, for a block :math:`\mathbf{P}` of so many
    entries, rows and columns and its channels.
    """
    aggregated = _estimate_side(entries, rows, into, into, out_of)
    return aggregated < _estimate_side(entries, reads, out_of, into, out_of)


def find_equivalent_width(features: Operator) -> int:
    r"""Returns the width of dense features whose linear map costs as much as that of these."""
    return round(GATHER / MULTIPLY * features.num_entries / max(features.shape[0], 1))


def _estimate_cost(entries: int, rows: int, reads: int, into: int, out_of: int) -> float:
    return min(
        _estimate_side(entries, rows, into, into, out_of),
        _estimate_side(entries, reads, out_of, into, out_of),
    )


def _estimate_side(entries: int, rows: int, gathered: int, into: int, out_of: int) -> float:
    return GATHER * entries * gathered + MULTIPLY * rows * into * out_of


def _find_reads(operator: Operator, nodes: Tensor) -> Tensor:
    matrix, ids = operator.host, nodes.cpu().numpy()
    reached = np.bincount(matrix[ids].indices, minlength=matrix.shape[1])
    reached[ids] = 1
    return torch.from_numpy(np.flatnonzero(reached)).to(nodes.device)
