r"""Layer-wise execution of a GNN on a subset of nodes, with cached activations."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mowst.sparse.changes import find_changed_rows, find_readers
from mowst.sparse.features import Features, as_tensor
from mowst.sparse.memory import make_empty
from mowst.sparse.partial import Step, plan
from mowst.sparse.propagate import Operator

# Of each layer that ran: how many nodes it computed, and how many entries of its operator it read
# for them.
Trace = list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Layers:
    r"""The layers of one GNN on one graph, as a rule in evaluation mode.

    Args:
        x (Features or torch.Tensor): The node features, :math:`(N, F)`.
        operator (Operator): The operator of every layer: row :math:`v` holds what layer :math:`l`
            reads for node :math:`v` in addition to that node's own row.
        widths (tuple): The channels into and out of each layer.
        layer (callable): :obj:`layer(l, rows, step)` returns the output of layer :math:`l`, counted
            from 0, for the nodes of the step (for all nodes without a step) from the rows that it
            reads. Layer 0 gets :obj:`x` as it is.
        head (callable): What follows the last layer, node by node.
        first_hop (bool, optional): Whether layer 0 multiplies rows of a product that is computed
            once for all nodes. (default: :obj:`False`)
        in_place (int, optional): The first layer that can read the rows of all nodes where they
            lie, at the cost of the nodes that it computes. :obj:`None` if no layer can. (default:
            :obj:`None`)
    """

    x: Features | Tensor
    operator: Operator
    widths: tuple[tuple[int, int], ...]
    layer: Callable[[int, Any, Step | None], Tensor]
    head: Callable[[Tensor], Tensor]
    first_hop: bool = False
    in_place: int | None = None

    def logits(self, nodes: Tensor, trace: Trace | None = None) -> Tensor | None:
        r"""Returns the output for the given nodes, :math:`(n, C)`, for which each layer computes
        the nodes that it must. Returns :obj:`None` if it is cheaper that all layers compute all
        nodes.
        """
        steps = plan(self.operator, nodes, self.widths, first_hop=self.first_hop)
        if steps[-1] is None:
            return None
        x: Any = self.x
        for i, step in enumerate(steps):
            x = self.layer(i, x, step)
            _record(trace, self, i, step)
        return self.head(x)


class LayerCache:
    r"""The rows that the layers of one GNN have computed. A row is computed again only if something
    that it depends on has changed: a new graph and new features are compared with those of the last
    call. Graph and features must be replaced, not changed in place, and the parameters must not
    change.

    Args:
        chunk_size (int, optional): How many nodes a layer computes at a time. All nodes that it
            must if :obj:`None`. (default: :obj:`None`)
        folder (str, optional): An existing folder for the rows, with one memory-mapped file per
            layer. The rows are in memory if :obj:`None`. (default: :obj:`None`)
        keep (bool, optional): If set to :obj:`False`, nothing is kept between calls, and the rows
            of a layer are freed as soon as the next layer is computed. (default: :obj:`True`)
    """

    def __init__(
        self,
        chunk_size: int | None = None,
        folder: str | PathLike[str] | None = None,
        keep: bool = True,
    ) -> None:
        self.chunk_size = chunk_size
        self.folder = folder
        self.keep = keep
        self.clear()

    def clear(self) -> None:
        r"""Forgets all rows."""
        self._layers: Layers | None = None
        self._graph: tuple = ()
        self._rows: list[Tensor] = []
        self._known: list[Tensor] = []

    def logits(
        self, layers: Layers, nodes: Tensor | None = None, trace: Trace | None = None
    ) -> Tensor:
        r"""Returns the output for the given nodes, :math:`(n, C)`, for which layers compute the
        unknown rows. Computes all rows without :obj:`nodes`.
        """
        self._follow(layers)
        self._layers = layers
        for i, step in enumerate(self._plan(layers, nodes)):
            if step is not None and step.nodes.numel() == 0:
                continue
            for part in self._split(i, step, layers):
                x: Any = layers.x
                if i > 0:
                    x = self._rows[i - 1] if part is None else part.reads_from(self._rows[i - 1])
                self._write(i, part, layers.layer(i, x, part))
                _record(trace, layers, i, part)
            self._known[i][_select(step)] = True
            if not self.keep and i > 0:
                self._forget(i - 1)
        last = self._rows[-1] if nodes is None else self._rows[-1].index_select(0, nodes)
        if not self.keep:
            self._forget(len(self._rows) - 1)
            self.clear()
        return torch.cat(
            [layers.head(part) for part in last.split(self.chunk_size or max(len(last), 1))]
        )

    def take_rows(
        self, compute: Callable[[], Tensor], graph: tuple, nodes: Tensor | None
    ) -> Tensor:
        r"""Returns rows of :obj:`compute()` for a GNN that cannot run layer by layer. All its rows
        are computed again if one of the objects in :obj:`graph` is another one than in the last
        call.
        """
        if not self.keep:
            return compute() if nodes is None else compute().index_select(0, nodes)
        if len(graph) != len(self._graph) or any(
            a is not b for a, b in zip(graph, self._graph, strict=True)
        ):
            self.clear()
            self._graph, self._rows = graph, [compute()]
        return self._rows[0] if nodes is None else self._rows[0].index_select(0, nodes)

    def _follow(self, layers: Layers) -> None:
        r"""Forgets what is stale on another graph or with other features: the rows of layer
        :math:`l` for which the row of the operator changed, or which read a stale row of layer
        :math:`l-1` (for layer 0, of the features).
        """
        before, self._layers = self._layers, None  # after an error, nothing is known
        x = as_tensor(layers.x)
        num_nodes = x.size(0)
        if before is None or before.widths != layers.widths or before.x.shape[0] > num_nodes:
            self._rows = [
                self._make_rows(i, num_nodes, width, x)
                for i, (_, width) in enumerate(layers.widths)
            ]
            self._known = [
                torch.zeros(num_nodes, dtype=torch.bool, device=x.device) for _ in layers.widths
            ]
            return
        old = as_tensor(before.x)
        if old is x and before.operator is layers.operator:
            return
        changed = find_changed_rows(before.operator, layers.operator)
        stale = np.ones(num_nodes, dtype=bool)
        stale[: old.size(0)] = (old != x[: old.size(0)]).any(dim=1).cpu().numpy()
        for i, known in enumerate(self._known):
            stale = stale | changed | find_readers(layers.operator, stale)
            self._known[i] = torch.from_numpy(~stale).to(x.device)
            self._known[i][: known.numel()] &= known
        self._rows = [self._grow(i, rows, num_nodes) for i, rows in enumerate(self._rows)]

    def _plan(self, layers: Layers, nodes: Tensor | None) -> Sequence[Step | None]:
        if nodes is None:
            return [None] * len(layers.widths)
        return plan(layers.operator, nodes, layers.widths, self._known, layers.first_hop)

    def _split(self, i: int, step: Step | None, layers: Layers) -> Iterable[Step | None]:
        if self.chunk_size is None:
            return [step]
        nodes = (
            torch.arange(layers.x.shape[0], device=layers.x.device) if step is None else step.nodes
        )
        if layers.in_place is None or i < layers.in_place:
            return Step(layers.operator, nodes, None).split(self.chunk_size)
        shared: dict[str, Tensor] = {}
        return [Step(layers.operator, part, None, shared) for part in nodes.split(self.chunk_size)]

    def _forget(self, i: int) -> None:
        self._rows[i] = self._rows[i].new_empty(0, self._rows[i].size(1))
        if self.folder is not None:
            self._find_file(i).unlink()

    def _write(self, i: int, step: Step | None, rows: Tensor) -> None:
        at = _select(step)
        if self.folder is None or not isinstance(at, slice):
            self._rows[i][at] = rows
            return
        # Written to the file, not through its mapping, whose every page would fault.
        with self._find_file(i).open("r+b") as file:
            file.seek((at.start or 0) * rows.size(1) * rows.element_size())
            file.write(rows.contiguous().view(torch.uint8).numpy().data)

    def _make_rows(self, i: int, num_rows: int, width: int, like: Tensor) -> Tensor:
        if self.folder is None:
            return make_empty(like, num_rows, width)
        file = torch.from_file(
            str(self._find_file(i)), shared=True, size=num_rows * width, dtype=like.dtype
        )
        return file.view(num_rows, width)

    def _find_file(self, i: int) -> Path:
        return Path(self.folder or "") / f"layer{i}.bin"

    def _grow(self, i: int, rows: Tensor, num_rows: int) -> Tensor:
        if num_rows == rows.size(0):
            return rows
        grown = self._make_rows(i, num_rows, rows.size(1), rows)
        if self.folder is None:
            grown[: rows.size(0)] = rows
        return grown


def _select(step: Step | None) -> slice | Tensor:
    return slice(None) if step is None else step.rows


def _record(trace: Trace | None, layers: Layers, i: int, step: Step | None) -> None:
    if trace is None:
        return
    operator = layers.operator
    rows, entries = operator.shape[0], operator.num_entries
    if step is not None:
        first = operator.matrix.crow_indices()
        rows, entries = step.nodes.numel(), int((first[step.nodes + 1] - first[step.nodes]).sum())
    if i == 0 and layers.first_hop:
        entries = 0
    trace.append((rows, entries))
