r"""A part of a graph on which layers compute what they would on the whole graph, as far as its
nodes allow.
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mowst.sparse.features import Features
from mowst.sparse.graph import Graph
from mowst.sparse.operators import Kind
from mowst.sparse.propagate import Operator


class Subgraph(Graph):
    r"""The subgraph that nodes :math:`B` induce, with the operators of the whole graph: of an
    operator :math:`\mathbf{P}`, row :math:`v` keeps the entries :math:`\mathcal{N}_B(v)` off the
    diagonal that lie in :math:`B`, out of :math:`\mathcal{N}(v)`, and is

    .. math::
        \mathbf{P}^{(B)}_{vv} = \mathbf{P}_{vv}, \qquad
        \mathbf{P}^{(B)}_{vu} = \frac{|\mathcal{N}(v)|}{|\mathcal{N}_B(v)|} \, \mathbf{P}_{vu}
        \quad \text{for } u \in \mathcal{N}_B(v)

    So degrees are those of the whole graph. If each neighbour is as likely in :math:`B` as any
    other, the product is unbiased for every row that keeps one:
    :math:`\mathbb{E} \, [\mathbf{P}^{(B)} \mathbf{X}_B]_v = [\mathbf{P} \mathbf{X}]_v`. Rows that
    keep all neighbours are exact. The first hop of constant features is exact in every row if these
    are :meth:`~mowst.sparse.features.Features.rows` for the same nodes, since their product with
    the whole :math:`\mathbf{P}` is computed once. Tensors keep the rows of the nodes and edges.

    Args:
        whole (Graph): The graph.
        nodes (torch.Tensor): The ids of the nodes :math:`B`, sorted.

    Shapes:
        - **nodes:** :math:`(n)`
    """

    def __init__(self, whole: Graph, nodes: Tensor) -> None:
        self.whole = whole
        self.nodes = nodes.clone()
        self._ids = self.nodes.cpu().numpy()
        self._local = np.full(whole.num_nodes, -1, dtype=np.int32)
        self._local[self._ids] = np.arange(self._ids.size, dtype=np.int32)
        target, source, edges = self._cut(whole.edges_by_target)
        # In the order of the whole graph's list.
        order = np.argsort(edges)
        edge_index = torch.from_numpy(np.stack([source, target])[:, order].astype(np.int64)).to(
            nodes.device
        )
        kept = torch.from_numpy(edges[order]).to(nodes.device)
        weight = None if whole.edge_weight is None else whole.edge_weight[kept]
        tensors = dict(whole.tensors)
        for name, value in whole.tensors.items():
            level = whole.find_level(name)
            if level is not None:
                tensors[name] = value[self.nodes if level == "node" else kept]
        super().__init__(edge_index, weight, num_nodes=self._ids.size, tensors=tensors)

    @property
    def two_hop_is_small(self) -> bool:
        return self.whole.two_hop_is_small

    def first_hop(self, x: Features, kind: Kind, **options: float) -> Tensor:
        if x.whole is None or x.nodes is None or not x.nodes.equal(self.nodes):
            return super().first_hop(x, kind, **options)
        x.check_unchanged()
        return self.whole.first_hop(x.whole, kind, **options).index_select(0, self.nodes)

    def _build(self, kind: Kind, dtype: torch.dtype, **options: float) -> Operator:
        whole = self.whole.operator(kind, dtype, **options)
        return Operator(self._cut_block(whole.host), self.nodes.device)

    def _cut_block(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        row, column, value = self._cut(matrix)
        size, others = self._ids.size, row != column
        kept = np.bincount(row[others], minlength=size)
        before = (
            matrix.indptr[self._ids + 1]
            - matrix.indptr[self._ids]
            - np.bincount(row[~others], minlength=size)
        )
        factor = (before / np.maximum(kept, 1)).astype(value.dtype)
        value = np.where(others, factor[row] * value, value)
        first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=size))])
        return sp.csr_matrix((value, column, first), shape=(size, size))

    def _cut(self, matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # The entries between the nodes: their rows, columns and values, row by row.
        rows = matrix[self._ids]
        column = self._local[rows.indices]
        kept = column >= 0
        row = np.repeat(np.arange(self._ids.size, dtype=np.int32), np.diff(rows.indptr))
        return row[kept], column[kept], rows.data[kept]
