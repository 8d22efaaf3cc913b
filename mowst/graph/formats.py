r"""The form of a graph that a module of PyG runs fastest on."""

import warnings

import torch
from torch import Tensor
from torch_geometric.utils import to_torch_csr_tensor

from mowst.graph.memo import TensorMemo

# Below this, on CPU, gathering and scattering along the edges costs no more than a sparse product.
MIN_EDGES = 20_000

_known = TensorMemo()


def transposed_csr(edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int) -> Tensor | None:
    r"""The transposed adjacency matrix :math:`(N, N)` as torch CSR, which PyG's layers with a sparse product take in
    place of :obj:`edge_index` and run several times faster on CPU. Made once per graph.

    :obj:`None` where :obj:`edge_index` is the better form (graphs of few edges, other devices), or where a layer would
    compute something else on a matrix: weights that learn, repeated edges (a matrix merges them), and self-loops (PyG's
    GCN adds its own to those of a matrix, but not to those among edges).

    Shapes:
        - **input:** edge_index :math:`(2, E)`, edge_weight :math:`(E)`
    """
    if edge_index.device.type != "cpu" or edge_index.layout != torch.strided or edge_index.size(1) < MIN_EDGES:
        return None
    if edge_weight is not None and edge_weight.requires_grad:
        return None
    return _known.get((edge_index, edge_weight), lambda: _convert(edge_index, edge_weight, num_nodes), num_nodes)


def _convert(edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int) -> Tensor | None:
    if (edge_index[0] == edge_index[1]).any():
        return None
    weight = torch.ones(edge_index.size(1)) if edge_weight is None else edge_weight
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
        matrix = to_torch_csr_tensor(edge_index.flip(0), weight, size=(num_nodes, num_nodes))
    return matrix if matrix.values().numel() == edge_index.size(1) else None
