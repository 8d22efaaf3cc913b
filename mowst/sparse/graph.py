r"""A graph as the constant matrices that GNN layers multiply by."""

import logging
import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.typing import SparseTensor
from torch_geometric.utils import is_torch_sparse_tensor, to_edge_index, to_torch_csr_tensor

from mowst.sparse.features import Features
from mowst.sparse.memo import ContentMemo
from mowst.sparse.operators import BUILDERS, Kind, find_neighbors
from mowst.sparse.propagate import Operator

# So many walks of two steps keep the exact two-hop graph at some ten times the edges, or below 40
# MiB on a small graph.
WALKS_PER_EDGE = 10
WALKS = 5_000_000
# Below this, on CPU, gathering and scattering along the edges costs no more than a sparse product.
MIN_EDGES = 20_000
# Plain edges of larger graphs are not remembered, since a private copy of them takes 1 GiB and
# more.
MAX_EDGES = 2**26

logger = logging.getLogger(__name__)


class Graph:
    r"""The edges of one graph, validated once, and the operators of its propagation steps, each
    built on first use. Goes wherever a model of this package takes :obj:`edge_index`. With
    :math:`\mathbf{A}_{ij} = e_{j,i}`, the summed weight of the edges from source :math:`j` to
    target :math:`i`, in-degrees :math:`d_i = \sum_j \mathbf{A}_{ij}` and
    :math:`\mathbf{\hat{A}} = \mathbf{A} + \mathbf{I}` (self-loops added where missing), they are

    .. math::
        \mathbf{P}_{\mathrm{gcn}} = \mathbf{\hat{D}}^{-1/2} \mathbf{\hat{A}}
        \mathbf{\hat{D}}^{-1/2}, \qquad \mathbf{P}_{\mathrm{mean}} = \mathbf{D}^{-1} \mathbf{A},
        \qquad \mathbf{P}_{\mathrm{gin}} = \mathbf{A} + (1 + \epsilon) \mathbf{I}, \qquad
        \mathbf{P}_{\mathrm{sum}} = \mathbf{A}

    as in PyG's :class:`GCNConv`, :class:`SAGEConv`, :class:`GINConv` and :class:`LINKX`. A node
    without in-edges has a zero row in the second. Three more see the graph as sets of neighbours,
    without loops and repeated edges. With :math:`\mathbf{B}^{(k)}_{ij} = 1` where the shortest path
    from :math:`j` to :math:`i` has exactly :math:`k` edges, and with its row and column sums, they
    are

    .. math::
        \mathbf{P}_{\mathrm{one}\text{-}\mathrm{hop}} =
        \mathbf{D}_{\mathrm{in}}^{-1/2} \mathbf{B}^{(1)} \mathbf{D}_{\mathrm{out}}^{-1/2}, \qquad
        \mathbf{P}_{\mathrm{two}\text{-}\mathrm{hop}} =
        \mathbf{D}_{\mathrm{in}}^{-1/2} \mathbf{B}^{(2)} \mathbf{D}_{\mathrm{out}}^{-1/2}, \qquad
        \mathbf{P}_{\mathrm{returns}} =
        \mathrm{diag}(\mathbf{P}_{\mathrm{one}\text{-}\mathrm{hop}}^2)

    The edges are not copied. They must not be changed in place while a :class:`Graph` of them is in
    use.

    Args:
        edge_index (torch.Tensor or SparseTensor): Edge indices, or the transposed sparse adjacency
            matrix (torch CSR, CSC or COO, or a :class:`torch_sparse.SparseTensor`), which stands
            for the edges it lists.
        edge_weight (torch.Tensor, optional): Edge weights. (default: :obj:`None`)
        num_nodes (int, optional): The number of nodes. If :obj:`None`, one more than the largest
            index. (default: :obj:`None`)
        tensors (dict, optional): Further inputs of experts by name, such as :obj:`edge_attr`. An
            expert gets those that its forward names. (default: :obj:`None`)

    Shapes:
        - **input:** edge_index :math:`(2, |\mathcal{E}|)` or :math:`(N, N)`, edge_weight
          :math:`(|\mathcal{E}|)`

    Raises:
        ValueError: If shapes, types or index ranges do not fit together.
    """

    def __init__(
        self,
        edge_index: Tensor | SparseTensor,
        edge_weight: Tensor | None = None,
        num_nodes: int | None = None,
        tensors: Mapping[str, Any] | None = None,
    ) -> None:
        edge_index, edge_weight, num_nodes = _read_edges(edge_index, edge_weight, num_nodes)
        _check_edges(edge_index, edge_weight)
        if num_nodes is None:
            num_nodes = int(edge_index.max()) + 1 if edge_index.numel() else 0
        _check_range(edge_index, num_nodes)
        self.edge_index = edge_index.detach().long()
        self.edge_weight = None if edge_weight is None else edge_weight.detach()
        self._versions = self._read_versions()
        self.num_nodes = num_nodes
        self.tensors = dict(tensors or {})
        self._operators: dict[tuple, Operator] = {}
        for name, value in self.tensors.items():
            if name.startswith("edge_") and self.find_level(name) is None:
                got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f"{name} must have {self.num_edges} rows, one for each edge, got {got}"
                )

    def find_level(self, name: str) -> str | None:
        r"""Returns whether a tensor has a row for each :obj:`"node"` or for each :obj:`"edge"`, or
        :obj:`None` if it has neither. With as many nodes as edges, it is one for each edge if its
        name begins with "edge_".
        """
        value = self.tensors[name]
        if not isinstance(value, Tensor) or value.dim() == 0:
            return None
        if value.size(0) == self.num_nodes and not name.startswith("edge_"):
            return "node"
        return "edge" if value.size(0) == self.num_edges else None

    @property
    def num_edges(self) -> int:
        return self.edge_index.size(1)

    def operator(
        self, kind: Kind, dtype: torch.dtype = torch.float32, **options: float
    ) -> Operator:
        r"""Returns an operator, built on first use.

        Args:
            kind (str): The name of the operator in the formulas above.
            dtype (torch.dtype, optional): Double precision, or anything else for single precision.
                (default: :obj:`torch.float32`)
            **options (optional): :obj:`improved` and :obj:`add_self_loops` of "gcn", :obj:`eps` of
                "gin".

        Raises:
            ValueError: If the edges have weights and the operator cannot use them (all but "gcn"
                and "sum"), or if weights are negative or not finite, so that "gcn" cannot normalize
                by them.
        """
        if kind not in ("gcn", "sum") and self.edge_weight is not None:
            raise ValueError(
                f"the {kind!r} operator has no use for edge weights: leave them out, or choose a "
                "GCN"
            )
        self.check_unchanged()
        dtype = dtype if dtype == torch.float64 else torch.float32
        key = (kind, dtype, *sorted(options.items()))
        if key not in self._operators:
            self._operators[key] = self._build(kind, dtype, **options)
        return self._operators[key]

    def check_unchanged(self) -> None:
        r"""Raises a :class:`ValueError` if edges or weights were changed in place."""
        if self._versions != self._read_versions():
            raise ValueError(f"{self} was changed in place: build a new Graph after a change")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._versions = self._read_versions()  # a copy counts its changes from zero

    def _read_versions(self) -> list[int]:
        tensors = [self.edge_index, self.edge_weight]
        return [t._version for t in tensors if t is not None and not t.is_inference()]

    def _build(self, kind: Kind, dtype: torch.dtype, **options: float) -> Operator:
        return Operator(BUILDERS[kind](self, dtype, **options), self.edge_index.device)

    def first_hop(self, x: Features, kind: Kind, **options: float) -> Tensor:
        r"""Returns :math:`\mathbf{P} \mathbf{X}` of constant features, computed once while both
        objects live.
        """
        return x.propagate(self.operator(kind, x.dtype, **options))

    @cached_property
    def edges_by_target(self) -> sp.csr_matrix:
        r"""The positions of the edges in their list, :math:`(N, N)`: row :math:`i` has those into
        node :math:`i`.
        """
        source, target = self.edge_index.cpu().numpy()
        count = target.size
        # Turning columns of one entry each into rows sorts the edges by target in linear time.
        columns = (np.ones(count, dtype=np.int8), target, np.arange(count + 1))
        by_target = sp.csc_matrix(columns, shape=(self.num_nodes, count)).tocsr()
        order, first = by_target.indices, by_target.indptr
        return sp.csr_matrix((order, source[order], first), shape=(self.num_nodes, self.num_nodes))

    @cached_property
    def two_hop_is_small(self) -> bool:
        r"""Whether the two-hop graph cannot be dense: its entries are at most the walks of two
        steps, :math:`\sum_v d^{\mathrm{in}}_v d^{\mathrm{out}}_v`, and these are few.
        """
        matrix = find_neighbors(self)
        walks = int(
            np.diff(matrix.indptr).astype(np.int64)
            @ np.bincount(matrix.indices, minlength=self.num_nodes)
        )
        small = walks <= WALKS_PER_EDGE * matrix.nnz + WALKS
        logger.info(
            "%d walks of two steps on %d edges: the two-hop graph is %s",
            walks,
            matrix.nnz,
            ("dense", "small")[small],
        )
        return small

    @cached_property
    def transposed_csr(self) -> Tensor | None:
        r"""The transposed adjacency matrix :math:`(N, N)` as torch CSR, on which PyG's layers with
        a sparse product run several times faster on CPU.

        It is :obj:`None` if :obj:`edge_index` is the better form (few edges, other devices), or if
        a layer would compute something else on a matrix: for repeated edges, which a matrix merges,
        and for self-loops, since PyG's GCN adds its own to those of a matrix, but not to those
        among edges.
        """
        if self.edge_index.device.type != "cpu" or self.num_edges < MIN_EDGES:
            return None
        if (self.edge_index[0] == self.edge_index[1]).any():
            return None
        with torch.inference_mode(False), warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Sparse (CSR tensor support|invariant checks)"
            )
            weight = self.edge_weight
            if weight is None:
                weight = torch.ones(self.num_edges)
            matrix = to_torch_csr_tensor(
                self.edge_index.flip(0), weight, size=(self.num_nodes, self.num_nodes)
            )
        return matrix if matrix.values().numel() == self.num_edges else None

    def __repr__(self) -> str:
        weighted = ", weighted" if self.edge_weight is not None else ""
        return f"{type(self).__name__}(nodes={self.num_nodes}, edges={self.num_edges}{weighted})"


_graphs = ContentMemo()


def as_graph(
    edge_index: Graph | Tensor | SparseTensor,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
) -> Graph:
    r"""Returns a :class:`Graph` as it is, and wraps plain edges.

    The last few graphs of plain edges are remembered with private copies of their edges, and found
    again only by equal edges and weights. Pass a :class:`Graph` to save the copy and the
    comparison.

    Args:
        edge_index, edge_weight, num_nodes: See :class:`Graph`.

    Raises:
        ValueError: If weights are given next to a :class:`Graph`, or it has another number of
            nodes.
    """
    if isinstance(edge_index, Graph):
        if edge_weight is not None:
            raise ValueError(
                "edge_weight was given next to a Graph: build it as Graph(edge_index, edge_weight)"
            )
        if num_nodes not in (None, edge_index.num_nodes):
            raise ValueError(
                f"the graph has {edge_index.num_nodes} nodes, the features have {num_nodes} rows"
            )
        return edge_index
    edge_index, edge_weight, num_nodes = _read_edges(edge_index, edge_weight, num_nodes)
    if edge_index.dim() == 2 and edge_index.size(1) > MAX_EDGES:
        return Graph(edge_index, edge_weight, num_nodes)
    tensors = (edge_index, None if edge_weight is None else edge_weight.detach())
    return _graphs.get(
        tensors, lambda edges, weight: Graph(edges, weight, num_nodes), extra=num_nodes
    )


def unwrap_graph(edge_index: Any, edge_weight: Tensor | None = None) -> tuple[Any, Tensor | None]:
    r"""Returns edges and weights as PyG's layers take them: plain ones of a :class:`Graph`, and
    64-bit indices, since its scatter would read the memory of 32-bit ones as such.
    """
    if isinstance(edge_index, Graph):
        return edge_index.edge_index, edge_index.edge_weight
    if isinstance(edge_index, Tensor) and edge_index.dtype == torch.int32:
        return edge_index.long(), edge_weight
    return edge_index, edge_weight


def _read_edges(
    edge_index: Tensor | SparseTensor, edge_weight: Tensor | None, num_nodes: int | None
) -> tuple[Tensor, Tensor | None, int | None]:
    if isinstance(edge_index, EdgeIndex):
        return edge_index.as_tensor(), edge_weight, num_nodes
    if not isinstance(edge_index, SparseTensor) and not is_torch_sparse_tensor(edge_index):
        return edge_index, edge_weight, num_nodes
    if edge_weight is not None:
        raise ValueError(
            "edge_weight was given next to a sparse matrix: put the weights into the matrix"
        )
    size = edge_index.sizes() if isinstance(edge_index, SparseTensor) else edge_index.shape
    if size[0] != size[1]:
        raise ValueError(f"the sparse adjacency matrix must be square, got shape {tuple(size)}")
    if num_nodes not in (None, size[0]):
        raise ValueError(
            f"the sparse adjacency matrix has {size[0]} nodes, but {num_nodes} were announced"
        )
    if getattr(edge_index, "layout", None) == torch.sparse_coo:
        edge_index = edge_index.coalesce().to_sparse_csr()
    target_source, edge_weight = to_edge_index(edge_index)
    if bool((edge_weight == 1).all()):
        edge_weight = None
    return target_source.flip(0), edge_weight, size[0]


def _check_edges(edge_index: Tensor, edge_weight: Tensor | None) -> None:
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"edge_index must have shape [2, num_edges], got {list(edge_index.shape)}")
    if edge_index.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"edge_index must be int64 or int32, got {edge_index.dtype}")
    if edge_weight is None:
        return
    if edge_weight.shape != edge_index.shape[1:]:
        raise ValueError(
            f"edge_weight must have shape [{edge_index.size(1)}], one weight per edge, got "
            f"{list(edge_weight.shape)}"
        )
    if not edge_weight.is_floating_point():
        raise ValueError(f"edge_weight must be floating point, got {edge_weight.dtype}")


def _check_range(edge_index: Tensor, num_nodes: int) -> None:
    # The two ends of the range need no masks as long as the edges.
    if not edge_index.numel() or (edge_index.min() >= 0 and edge_index.max() < num_nodes):
        return
    outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(dim=0)
    example = edge_index[:, outside][:, 0].tolist()
    raise ValueError(
        f"edge_index must lie in [0, {num_nodes}): {int(outside.sum())} edges do not, for example "
        f"{example}"
    )
