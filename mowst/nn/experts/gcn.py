r"""The graph convolutional network, with a constant matrix in place of message passing."""

from typing import Any

import torch_geometric.nn
from torch import Tensor
from torch_geometric.typing import OptTensor

from mowst.graph.adjacency import adjacency
from mowst.nn.experts.base import Expert, FastConv


class GCNConv(FastConv, torch_geometric.nn.GCNConv):
    r""":class:`torch_geometric.nn.GCNConv` with its normalized matrix built once per graph,

    .. math::
        \mathbf{X}^{\prime} = \mathbf{P}_{\mathrm{gcn}} \mathbf{X} \mathbf{\Theta} + \mathbf{b}, \qquad
        \mathbf{P}_{\mathrm{gcn}} = \mathbf{\hat{D}}^{-1/2} \mathbf{\hat{A}} \mathbf{\hat{D}}^{-1/2}

    Gradients of edge weights and PyG's explainers get PyG's own message passing.
    """

    propagate_type = {"x": Tensor, "edge_weight": OptTensor}

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, nodes: Tensor | None = None
    ) -> Tensor:
        learned = edge_weight is not None and edge_weight.requires_grad
        if learned or not self.normalize or not self.runs_fast(x, self.lin.weight):
            out = super().forward(x, edge_index, edge_weight)
            return out if nodes is None else out[nodes]
        graph = adjacency(edge_index, edge_weight, num_nodes=x.size(0))
        options = {"improved": self.improved, "add_self_loops": self.add_self_loops}
        return self.hop(graph, "gcn", x, self.lin.weight, self.bias, nodes, **options)


class GCN(Expert, torch_geometric.nn.GCN):
    __doc__ = r"""The GCN of `"Semi-supervised Classification with Graph Convolutional Networks"
    <https://arxiv.org/abs/1609.02907>`_: parameters, arguments and results of :class:`torch_geometric.nn.GCN`, faster.

    """ + (Expert.__doc__ or "").partition("\n\n")[2]

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> GCNConv:
        return GCNConv(in_channels, out_channels, **kwargs)
