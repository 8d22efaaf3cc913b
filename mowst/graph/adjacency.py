r"""A graph as the constant matrices that GNN layers multiply by."""

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import SparseTensor
from torch_geometric.utils import is_torch_sparse_tensor, to_edge_index

from mowst.graph.memo import TensorMemo
from mowst.graph.propagate import Operator, propagate

Kind = Literal["gcn", "mean", "gin", "sum", "one-hop", "two-hop", "returns"]

# So many walks of two steps keep the exact two-hop graph at some ten times the edges, or below 40 MiB on a small graph.
WALKS_PER_EDGE = 10
WALKS = 5_000_000

logger = logging.getLogger(__name__)


class Adjacency:
    r"""The edges of one graph, validated once, and the operators of its propagation steps, each built when first asked
    for. With :math:`\mathbf{A}_{ij} = e_{j,i}`, the summed weight of the edges from source :math:`j` to target
    :math:`i`, in-degrees :math:`d_i = \sum_j \mathbf{A}_{ij}` and :math:`\mathbf{\hat{A}} = \mathbf{A} + \mathbf{I}`
    (self-loops added where missing), they are

    .. math::
        \mathbf{P}_{\mathrm{gcn}} = \mathbf{\hat{D}}^{-1/2} \mathbf{\hat{A}} \mathbf{\hat{D}}^{-1/2}, \qquad
        \mathbf{P}_{\mathrm{mean}} = \mathbf{D}^{-1} \mathbf{A}, \qquad
        \mathbf{P}_{\mathrm{gin}} = \mathbf{A} + (1 + \epsilon) \mathbf{I}, \qquad
        \mathbf{P}_{\mathrm{sum}} = \mathbf{A}

    as in PyG's :class:`GCNConv`, :class:`SAGEConv`, :class:`GINConv` and :class:`LINKX`. A node without in-edges has a
    zero row in the second. Three more see the graph as sets of neighbours, where loops and repeated edges count for
    nothing. With :math:`\mathbf{B}^{(k)}_{ij} = 1` where the shortest path from :math:`j` to :math:`i` has exactly
    :math:`k` edges, and with its row and column sums, they are

    .. math::
        \mathbf{P}_{\mathrm{one}\text{-}\mathrm{hop}} =
        \mathbf{D}_{\mathrm{in}}^{-1/2} \mathbf{B}^{(1)} \mathbf{D}_{\mathrm{out}}^{-1/2}, \qquad
        \mathbf{P}_{\mathrm{two}\text{-}\mathrm{hop}} =
        \mathbf{D}_{\mathrm{in}}^{-1/2} \mathbf{B}^{(2)} \mathbf{D}_{\mathrm{out}}^{-1/2}, \qquad
        \mathbf{P}_{\mathrm{returns}} = \mathrm{diag}(\mathbf{P}_{\mathrm{one}\text{-}\mathrm{hop}}^2)

    The edges must not be changed in place while an :class:`Adjacency` of them is in use.

    Args:
        edge_index (torch.Tensor or SparseTensor): Edge indices, or the transposed sparse adjacency matrix (torch CSR,
            CSC or COO, or a :class:`torch_sparse.SparseTensor`), which counts as the edges it lists.
        edge_weight (torch.Tensor, optional): Edge weights. (default: :obj:`None`)
        num_nodes (int, optional): The number of nodes, by default one more than the largest index.
            (default: :obj:`None`)

    Shapes:
        - **input:** edge_index :math:`(2, |\mathcal{E}|)` or :math:`(N, N)`, edge_weight :math:`(|\mathcal{E}|)`

    Raises:
        ValueError: If shapes, types or index ranges do not fit together.
    """

    def __init__(
        self, edge_index: Tensor | SparseTensor, edge_weight: Tensor | None = None, num_nodes: int | None = None
    ):
        self.edge_index, self.edge_weight, self.num_nodes = _edges(edge_index, edge_weight, num_nodes)
        self._operators: dict[tuple, Operator] = {}
        self._first_hops = TensorMemo(size=4)

    def operator(self, kind: Kind, dtype: torch.dtype = torch.float32, **options: float) -> Operator:
        """The operator in double or else single precision; `options` are `improved` and `add_self_loops` of "gcn" and
        `eps` of "gin".

        Raises:
            ValueError: If the edges have weights and the operator has no use for them (all but "gcn" and "sum"), or
                weights are negative or not finite, so that "gcn" cannot normalize by them.
        """
        if kind not in ("gcn", "sum") and self.edge_weight is not None:
            raise ValueError(f"the {kind!r} operator has no use for edge weights: leave them out, or choose a GCN")
        dtype = dtype if dtype == torch.float64 else torch.float32
        key = (kind, dtype, *sorted(options.items()))
        if key not in self._operators:
            matrix = _BUILDERS[kind](self, dtype, **options)
            self._operators[key] = Operator(matrix, self.edge_index.device)
        return self._operators[key]

    def first_hop(self, x: Tensor, kind: Kind, **options: float) -> Tensor:
        r""":math:`\mathbf{P} \mathbf{X}` of constant features, computed once while `x` lives unchanged."""
        operator = self.operator(kind, x.dtype, **options)
        return self._first_hops.get((x,), lambda: propagate(operator, x), (kind, *sorted(options.items())))

    def knows_first_hop(self, x: Tensor, kind: Kind, **options: float) -> bool:
        r"""Whether :meth:`first_hop` is at hand."""
        return not x.is_inference() and self._first_hops.knows((x,), (kind, *sorted(options.items())))

    @cached_property
    def edges_by_target(self) -> sp.csr_matrix:
        r"""The positions of the edges in their list, :math:`(N, N)`: row :math:`i` has those into node :math:`i`."""
        source, target = self.edge_index.cpu().numpy()
        count = target.size
        # Turning columns of one entry each into rows sorts the edges by target in linear time.
        columns = (np.ones(count, dtype=np.int8), target, np.arange(count + 1))
        by_target = sp.csc_matrix(columns, shape=(self.num_nodes, count)).tocsr()
        order, first = by_target.indices, by_target.indptr
        return sp.csr_matrix((order, source[order], first), shape=(self.num_nodes, self.num_nodes))

    @cached_property
    def two_hop_is_small(self) -> bool:
        r"""Whether the two-hop graph cannot be dense: its entries are at most the walks of two steps,
        :math:`\sum_v d^{\mathrm{in}}_v d^{\mathrm{out}}_v`, and these are few.
        """
        matrix = _neighbours(self)
        walks = int(np.diff(matrix.indptr).astype(np.int64) @ np.bincount(matrix.indices, minlength=self.num_nodes))
        small = walks <= WALKS_PER_EDGE * matrix.nnz + WALKS
        logger.info(
            "%d walks of two steps on %d edges: the two-hop graph is %s", walks, matrix.nnz, ("dense", "small")[small]
        )
        return small

    def __repr__(self) -> str:
        weighted = ", weighted" if self.edge_weight is not None else ""
        return f"{type(self).__name__}(nodes={self.num_nodes}, edges={self.edge_index.size(1)}{weighted})"


_known = TensorMemo()


def adjacency(
    edge_index: Tensor | SparseTensor, edge_weight: Tensor | None = None, num_nodes: int | None = None
) -> Adjacency:
    """The :class:`Adjacency` of these edges, rebuilt only for other tensors or after a change in place."""
    return _remembered(lambda: Adjacency(edge_index, edge_weight, num_nodes), edge_index, edge_weight, num_nodes)


def edges_of(graph: Adjacency) -> tuple[Tensor, Tensor | None]:
    """Edges and weights for which :func:`adjacency` gives this very graph, told its number of nodes."""
    # Views: the memo recognises them weakly, and the graph holds its own.
    edge_index, weight = graph.edge_index.detach(), graph.edge_weight
    weight = None if weight is None else weight.detach()
    _remembered(lambda: graph, edge_index, weight, graph.num_nodes)
    return edge_index, weight


def _remembered(
    build: Callable[[], Adjacency],
    edge_index: Tensor | SparseTensor,
    edge_weight: Tensor | None,
    num_nodes: int | None,
) -> Adjacency:
    keys: tuple[Tensor | None, ...]
    if isinstance(edge_index, SparseTensor):
        keys = (edge_index.storage.rowptr(), edge_index.storage.col(), edge_index.storage.value())
    else:
        keys = (edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index,)
    return _known.get((*keys, edge_weight), build, num_nodes)


def _gcn(adjacency: Adjacency, dtype: torch.dtype, **options: float) -> sp.csr_matrix:
    weight = None if adjacency.edge_weight is None else adjacency.edge_weight.to(dtype)
    edge_index, weight = gcn_norm(adjacency.edge_index, weight, adjacency.num_nodes, dtype=dtype, **options)
    if not weight.isfinite().all():
        source, target = edge_index[:, ~weight.isfinite()][:, 0].tolist()
        raise ValueError(
            "edge weights cannot be normalized where those into a node sum to less than zero, or are not finite: "
            f"look at those into nodes {source} and {target}"
        )
    return _csr(adjacency, edge_index, weight)


def _mean(adjacency: Adjacency, dtype: torch.dtype) -> sp.csr_matrix:
    # Scaled once the entries lie in rows: weights in the order of the edges would be one more array of their length.
    matrix = _csr(adjacency, adjacency.edge_index, torch.ones(adjacency.edge_index.size(1), dtype=dtype))
    degrees = np.bincount(adjacency.edge_index[1].cpu().numpy(), minlength=adjacency.num_nodes)
    matrix.data *= np.repeat(1 / np.maximum(degrees, 1).astype(matrix.dtype), np.diff(matrix.indptr))
    return matrix


def _gin(adjacency: Adjacency, dtype: torch.dtype, eps: float = 0.0) -> sp.csr_matrix:
    loop = torch.arange(adjacency.num_nodes, device=adjacency.edge_index.device).expand(2, -1)
    weight = torch.ones(adjacency.edge_index.size(1), dtype=dtype, device=loop.device)
    edge_index = torch.cat([adjacency.edge_index, loop], dim=1)
    return _csr(adjacency, edge_index, torch.cat([weight, weight.new_full((adjacency.num_nodes,), 1 + eps)]))


def _sum(adjacency: Adjacency, dtype: torch.dtype) -> sp.csr_matrix:
    weight = adjacency.edge_weight
    weight = torch.ones(adjacency.edge_index.size(1)) if weight is None else weight
    return _csr(adjacency, adjacency.edge_index, weight.to(dtype))


def _one_hop(adjacency: Adjacency, dtype: torch.dtype) -> sp.csr_matrix:
    return _normalized(_neighbours(adjacency), dtype)


def _two_hop(adjacency: Adjacency, dtype: torch.dtype) -> sp.csr_matrix:
    near = _neighbours(adjacency)
    return _normalized((near @ near) > (near + _identity(adjacency)), dtype)


def _returns(adjacency: Adjacency, dtype: torch.dtype) -> sp.csr_matrix:
    step = _one_hop(adjacency, dtype)
    return sp.diags(np.asarray(step.multiply(step.T).sum(axis=1)).ravel(), format="csr")


_BUILDERS: dict[str, Callable[..., sp.csr_matrix]] = {
    "gcn": _gcn,
    "mean": _mean,
    "gin": _gin,
    "sum": _sum,
    "one-hop": _one_hop,
    "two-hop": _two_hop,
    "returns": _returns,
}


def _csr(adjacency: Adjacency, edge_index: Tensor, weight: Tensor) -> sp.csr_matrix:
    source, target = edge_index.cpu().numpy()
    shape = (adjacency.num_nodes, adjacency.num_nodes)
    return sp.coo_matrix((weight.cpu().numpy(), (target, source)), shape).tocsr()


def _neighbours(adjacency: Adjacency) -> sp.csr_matrix:
    present = torch.ones(adjacency.edge_index.size(1), dtype=torch.bool)
    return _csr(adjacency, adjacency.edge_index, present) > _identity(adjacency)


def _identity(adjacency: Adjacency) -> sp.csr_matrix:
    return sp.identity(adjacency.num_nodes, dtype=bool, format="csr")


def _normalized(matrix: sp.csr_matrix, dtype: torch.dtype) -> sp.csr_matrix:
    matrix = matrix.astype(np.float64 if dtype == torch.float64 else np.float32)
    into, out_of = (np.asarray(matrix.sum(axis=axis)).ravel().clip(min=1) ** -0.5 for axis in (1, 0))
    matrix.data *= np.repeat(into, np.diff(matrix.indptr)) * out_of[matrix.indices]
    return matrix


def _edges(
    edge_index: Tensor | SparseTensor, edge_weight: Tensor | None, num_nodes: int | None
) -> tuple[Tensor, Tensor | None, int]:
    if isinstance(edge_index, SparseTensor) or is_torch_sparse_tensor(edge_index):
        if edge_weight is not None:
            raise ValueError("edge_weight was given beside a sparse matrix: put the weights into the matrix")
        size = edge_index.sizes() if isinstance(edge_index, SparseTensor) else edge_index.shape
        if size[0] != size[1]:
            raise ValueError(f"the sparse adjacency matrix must be square, got shape {tuple(size)}")
        if num_nodes not in (None, size[0]):
            raise ValueError(f"the sparse adjacency matrix has {size[0]} nodes, but {num_nodes} were announced")
        num_nodes = size[0]
        if getattr(edge_index, "layout", None) == torch.sparse_coo:
            edge_index = edge_index.coalesce().to_sparse_csr()
        target_source, edge_weight = to_edge_index(edge_index)
        edge_index = target_source.flip(0)
        edge_weight = None if bool((edge_weight == 1).all()) else edge_weight
    if isinstance(edge_index, EdgeIndex):
        edge_index = edge_index.as_tensor()
    _check(edge_index, edge_weight)
    if num_nodes is None:
        num_nodes = int(edge_index.max()) + 1 if edge_index.numel() else 0
    _check_range(edge_index, num_nodes)
    # Views of the same storage: the memo recognises the caller's objects weakly, so they may not be held here.
    return edge_index.detach().long(), None if edge_weight is None else edge_weight.detach(), num_nodes


def _check(edge_index: Tensor, edge_weight: Tensor | None) -> None:
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"edge_index must have shape [2, num_edges], got {list(edge_index.shape)}")
    if edge_index.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"edge_index must be int64 or int32, got {edge_index.dtype}")
    if edge_weight is None:
        return
    if edge_weight.shape != edge_index.shape[1:]:
        raise ValueError(
            f"edge_weight must have shape [{edge_index.size(1)}], one weight per edge, got {list(edge_weight.shape)}"
        )
    if not edge_weight.is_floating_point():
        raise ValueError(f"edge_weight must be floating point, got {edge_weight.dtype}")


def _check_range(edge_index: Tensor, num_nodes: int) -> None:
    # The two ends of the range tell without masks as long as the edges.
    if not edge_index.numel() or (edge_index.min() >= 0 and edge_index.max() < num_nodes):
        return
    outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(dim=0)
    example = edge_index[:, outside][:, 0].tolist()
    raise ValueError(
        f"edge_index must lie in [0, {num_nodes}): {int(outside.sum())} edges do not, for example {example}"
    )
