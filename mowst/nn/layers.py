r"""A GNN taken apart into its layers, run for some nodes, and what those left behind."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mowst.graph.changes import changed_rows, readers
from mowst.graph.frontier import Step, plan
from mowst.graph.propagate import Operator

# Of each layer that ran: how many nodes it computed, and how many entries of its operator it read for them.
Trace = list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Layers:
    r"""The layers of one GNN on one graph, in evaluation mode as a rule.

    Args:
        x (Tensor): The node features, :math:`(N, F)`.
        operator (Operator): The operator of every layer: row :math:`v` holds what layer :math:`l` reads for node
            :math:`v`, which is that node's row beside.
        widths (tuple): The channels into and out of each layer.
        layer (callable): :obj:`layer(l, rows, step)`: the output of layer :math:`l`, counted from 0, for the nodes of
            the step (for all, if that is :obj:`None`) from the rows that it reads; layer 0 gets :obj:`x` as it is.
        head (callable): What follows the last layer, node by node.
        first_hop (bool, optional): Whether layer 0 multiplies rows of a product that is computed once for all nodes.
            (default: :obj:`False`)
        multiplies (bool, optional): Whether a layer is a product that reads the rows of all nodes where they lie, at
            the cost of the nodes that it computes; layer 0 only where it has a first hop. (default: :obj:`False`)
    """

    x: Tensor
    operator: Operator
    widths: tuple[tuple[int, int], ...]
    layer: Callable[[int, Tensor, Step | None], Tensor]
    head: Callable[[Tensor], Tensor]
    first_hop: bool = False
    multiplies: bool = False

    def logits(self, nodes: Tensor, trace: Trace | None = None) -> Tensor | None:
        r"""The output for the given nodes, :math:`(n, C)`, each layer computing the nodes that it must;
        :obj:`None` where all layers had better compute all nodes.
        """
        steps, x = plan(self.operator, nodes, self.widths, first_hop=self.first_hop), self.x
        if steps[-1] is None:
            return None
        for i, step in enumerate(steps):
            x = self.layer(i, x, step)
            _record(trace, self.operator, step, at_hand=i == 0 and self.first_hop)
        return self.head(x)


class LayerCache:
    r"""The rows that the layers of one GNN have computed, each computed once as long as nothing that it was computed
    from changes. The parameters must not change.

    Args:
        chunk_size (int, optional): How many nodes a layer computes at a time, by default all that it must.
            (default: :obj:`None`)
        folder (str, optional): An existing folder for the rows, one memory-mapped file per layer; by default they are
            in memory. (default: :obj:`None`)
        keep (bool, optional): If set to :obj:`False`, nothing outlives a call, and the rows of a layer go as soon as
            the next layer is there. (default: :obj:`True`)
    """

    def __init__(
        self, chunk_size: int | None = None, folder: str | PathLike[str] | None = None, keep: bool = True
    ) -> None:
        self.chunk_size = chunk_size
        self.folder = folder
        self.keep = keep
        self.clear()

    def clear(self) -> None:
        r"""Forgets everything."""
        self._layers: Layers | None = None
        self._graph: tuple = ()
        self._rows: list[Tensor] = []
        self._known: list[Tensor] = []

    def logits(self, layers: Layers, nodes: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        r"""The output for the given nodes, :math:`(n, C)`, of which layers compute the rows that are not known; or for
        all, anew.
        """
        self._follow(layers)
        for i, step in enumerate(self._plan(layers, nodes)):
            if step is not None and step.nodes.numel() == 0:
                continue
            for part in self._parts(i, step, layers):
                x = layers.x if i == 0 else self._rows[i - 1]
                rows = layers.layer(i, x if part is None or i == 0 else part.reads_from(x), part)
                self._rows[i][slice(None) if part is None else part.nodes] = rows
                _record(trace, layers.operator, part)
            self._known[i][slice(None) if step is None else step.nodes] = True
            if not self.keep and i > 0:
                self._forget(i - 1)
        last = self._rows[-1] if nodes is None else self._rows[-1].index_select(0, nodes)
        if not self.keep:
            self._forget(len(self._rows) - 1)
            self.clear()
        return torch.cat([layers.head(part) for part in last.split(self.chunk_size or max(len(last), 1))])

    def of_all(self, compute: Callable[[], Tensor], graph: tuple, nodes: Tensor | None) -> Tensor:
        r"""Rows of what :obj:`compute()` returns for all nodes of a graph, for a GNN that does not come apart."""
        if not self.keep:
            return compute() if nodes is None else compute().index_select(0, nodes)
        if len(graph) != len(self._graph) or any(a is not b for a, b in zip(graph, self._graph, strict=True)):
            self.clear()
            self._graph, self._rows = graph, [compute()]
        return self._rows[0] if nodes is None else self._rows[0].index_select(0, nodes)

    def _follow(self, layers: Layers) -> None:
        r"""Forgets what is stale on another graph or other features: the rows of layer :math:`l` for which the row of
        the operator changed, or which read a stale row of layer :math:`l-1`, at first of the features.
        """
        before, self._layers = self._layers, layers
        num_nodes, device = layers.x.shape[0], layers.x.device
        if before is None or before.widths != layers.widths or before.x.size(0) > num_nodes:
            self._rows = [self._empty(i, num_nodes, width, layers.x) for i, (_, width) in enumerate(layers.widths)]
            self._known = [torch.zeros(num_nodes, dtype=torch.bool, device=device) for _ in layers.widths]
        elif before.x is not layers.x or before.operator is not layers.operator:
            changed = changed_rows(before.operator, layers.operator)
            stale = np.ones(num_nodes, dtype=bool)
            stale[: before.x.size(0)] = (before.x != layers.x[: before.x.size(0)]).any(dim=1).cpu().numpy()
            for i, known in enumerate(self._known):
                stale = stale | changed | readers(layers.operator, stale)
                self._known[i] = torch.from_numpy(~stale).to(device)
                self._known[i][: known.numel()] &= known
            self._rows = [self._grown(i, rows, num_nodes) for i, rows in enumerate(self._rows)]

    def _plan(self, layers: Layers, nodes: Tensor | None) -> Sequence[Step | None]:
        if nodes is None:
            return [None] * len(layers.widths)
        return plan(layers.operator, nodes, layers.widths, self._known)

    def _parts(self, i: int, step: Step | None, layers: Layers) -> Iterable[Step | None]:
        if self.chunk_size is None:
            return [step]
        nodes = torch.arange(layers.x.size(0), device=layers.x.device) if step is None else step.nodes
        if layers.multiplies and (i > 0 or layers.first_hop):
            return (Step(layers.operator, part, None, once=True) for part in nodes.split(self.chunk_size))
        return Step(layers.operator, nodes, None).split(self.chunk_size)

    def _forget(self, i: int) -> None:
        self._rows[i] = self._rows[i].new_empty(0, self._rows[i].size(1))
        if self.folder is not None:
            self._file(i).unlink()

    def _empty(self, i: int, num_rows: int, width: int, like: Tensor) -> Tensor:
        if self.folder is None:
            return like.new_empty(num_rows, width)
        file = torch.from_file(str(self._file(i)), shared=True, size=num_rows * width, dtype=like.dtype)
        return file.view(num_rows, width)

    def _file(self, i: int) -> Path:
        return Path(self.folder or "") / f"layer{i}.bin"

    def _grown(self, i: int, rows: Tensor, num_rows: int) -> Tensor:
        if num_rows == rows.size(0):
            return rows
        grown = self._empty(i, num_rows, rows.size(1), rows)
        if self.folder is None:
            grown[: rows.size(0)] = rows
        return grown


def _record(trace: Trace | None, operator: Operator, step: Step | None, at_hand: bool = False) -> None:
    if trace is None:
        return
    rows, entries = operator.shape[0], operator.num_entries
    if step is not None:
        first = operator.matrix.crow_indices()
        rows, entries = step.nodes.numel(), int((first[step.nodes + 1] - first[step.nodes]).sum())
    trace.append((rows, 0 if at_hand else entries))
