r"""A graph as the constant matrices that GNN layers multiply by."""

from typing import Literal

import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import SparseTensor
from torch_geometric.utils import degree, is_torch_sparse_tensor, to_edge_index

from mowst.graph.memo import TensorMemo
from mowst.graph.propagate import Operator, propagate

Kind = Literal["gcn", "mean", "gin"]


class Adjacency:
    r"""The edges of one graph, validated once, and the operators of its propagation steps, each built when first asked
    for. With :math:`\mathbf{A}_{ij} = e_{j,i}`, the summed weight of the edges from source :math:`j` to target
    :math:`i`, in-degrees :math:`d_i = \sum_j \mathbf{A}_{ij}` and :math:`\mathbf{\hat{A}} = \mathbf{A} + \mathbf{I}`
    (self-loops added where missing), they are

    .. math::
        \mathbf{P}_{\mathrm{gcn}} = \mathbf{\hat{D}}^{-1/2} \mathbf{\hat{A}} \mathbf{\hat{D}}^{-1/2}, \qquad
        \mathbf{P}_{\mathrm{mean}} = \mathbf{D}^{-1} \mathbf{A}, \qquad
        \mathbf{P}_{\mathrm{gin}} = \mathbf{A} + (1 + \epsilon) \mathbf{I}

    as in PyG's :class:`GCNConv`, :class:`SAGEConv` and :class:`GINConv`. A node without in-edges has a zero row in
    the second. The edges must not be changed in place while an :class:`Adjacency` of them is in use.

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
            ValueError: If the edges have weights and the operator has no use for them ("mean" and "gin").
        """
        if kind != "gcn" and self.edge_weight is not None:
            raise ValueError(f"the {kind!r} operator has no use for edge weights: leave them out, or choose a GCN")
        dtype = dtype if dtype == torch.float64 else torch.float32
        key = (kind, dtype, *sorted(options.items()))
        if key not in self._operators:
            edge_index, weight = {"gcn": _gcn, "mean": _mean, "gin": _gin}[kind](self, dtype, **options)
            source, target = edge_index.cpu().numpy()
            matrix = sp.coo_matrix((weight.cpu().numpy(), (target, source)), (self.num_nodes, self.num_nodes))
            self._operators[key] = Operator(matrix.tocsr(), self.edge_index.device)
        return self._operators[key]

    def first_hop(self, x: Tensor, kind: Kind, **options: float) -> Tensor:
        r""":math:`\mathbf{P} \mathbf{X}` of constant features, computed once while `x` lives unchanged."""
        operator = self.operator(kind, x.dtype, **options)
        return self._first_hops.get((x,), lambda: propagate(operator, x), (kind, *sorted(options.items())))

    def __repr__(self) -> str:
        weighted = ", weighted" if self.edge_weight is not None else ""
        return f"{type(self).__name__}(nodes={self.num_nodes}, edges={self.edge_index.size(1)}{weighted})"


_known = TensorMemo()


def adjacency(
    edge_index: Tensor | SparseTensor, edge_weight: Tensor | None = None, num_nodes: int | None = None
) -> Adjacency:
    """The :class:`Adjacency` of these edges, rebuilt only for other tensors or after a change in place."""
    keys: tuple[Tensor | None, ...]
    if isinstance(edge_index, SparseTensor):
        keys = (edge_index.storage.rowptr(), edge_index.storage.col(), edge_index.storage.value())
    else:
        keys = (edge_index.as_tensor() if isinstance(edge_index, EdgeIndex) else edge_index,)
    return _known.get((*keys, edge_weight), lambda: Adjacency(edge_index, edge_weight, num_nodes), num_nodes)


def _gcn(adjacency: Adjacency, dtype: torch.dtype, **options: float) -> tuple[Tensor, Tensor]:
    weight = None if adjacency.edge_weight is None else adjacency.edge_weight.to(dtype)
    return gcn_norm(adjacency.edge_index, weight, adjacency.num_nodes, dtype=dtype, **options)


def _mean(adjacency: Adjacency, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    target = adjacency.edge_index[1]
    return adjacency.edge_index, (1 / degree(target, adjacency.num_nodes, dtype))[target]


def _gin(adjacency: Adjacency, dtype: torch.dtype, eps: float = 0.0) -> tuple[Tensor, Tensor]:
    loop = torch.arange(adjacency.num_nodes, device=adjacency.edge_index.device).expand(2, -1)
    weight = torch.ones(adjacency.edge_index.size(1), dtype=dtype, device=loop.device)
    edge_index = torch.cat([adjacency.edge_index, loop], dim=1)
    return edge_index, torch.cat([weight, weight.new_full((adjacency.num_nodes,), 1 + eps)])


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
    outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(dim=0)
    if outside.any():
        example = edge_index[:, outside][:, 0].tolist()
        raise ValueError(
            f"edge_index must lie in [0, {num_nodes}): {int(outside.sum())} edges do not, for example {example}"
        )
