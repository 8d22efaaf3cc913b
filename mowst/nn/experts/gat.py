"""Graph attention: PyG's model under our constructor and our rules."""

from typing import Any

import torch_geometric.nn
from torch import Tensor
from torch_geometric.typing import SparseTensor
from torch_geometric.utils import is_torch_sparse_tensor

from mowst.graph.adjacency import adjacency
from mowst.nn.experts.base import Expert


class GAT(Expert, torch_geometric.nn.GAT):
    __doc__ = r"""The GAT of `"Graph Attention Networks" <https://arxiv.org/abs/1710.10903>`_, which is
    :class:`torch_geometric.nn.GAT` with eight heads by default. Its attention changes with the parameters, so the
    products run by PyG's message passing.

    """ + (Expert.__doc__ or "").partition("\n\n")[2]

    def __init__(
        self, in_channels: int, hidden_channels: int, num_layers: int, *args: Any, heads: int = 8, **kwargs: Any
    ):
        if hidden_channels % heads != 0:
            raise ValueError(
                f"hidden_channels must be a multiple of the {heads} attention heads, got {hidden_channels}: "
                f"choose {-(-hidden_channels // heads) * heads}, or other heads="
            )
        super().__init__(in_channels, hidden_channels, num_layers, *args, heads=heads, **kwargs)

    def forward(
        self, x: Tensor, edge_index: Tensor | SparseTensor, edge_weight: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Logits of all nodes.

        Raises:
            ValueError: If edge weights are given, among the arguments or in a sparse matrix.
        """
        if is_torch_sparse_tensor(edge_index) or isinstance(edge_index, SparseTensor):
            graph = adjacency(edge_index, num_nodes=x.size(0))
            edge_index, edge_weight = graph.edge_index, graph.edge_weight
        return super().forward(x, edge_index, edge_weight, **kwargs)
