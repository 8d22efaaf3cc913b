r"""The graph convolutional network, with a constant matrix in place of message passing."""

from typing import Any

import torch_geometric.nn
from torch import Tensor
from torch_geometric.nn.dense.linear import is_uninitialized_parameter
from torch_geometric.typing import OptTensor

from mowst.experts.base import Expert
from mowst.experts.conv import SUMS, AnyGraph, FastConv
from mowst.sparse.features import Features, as_tensor
from mowst.sparse.graph import unwrap_graph
from mowst.sparse.partial import Step


class GCNConv(FastConv, torch_geometric.nn.GCNConv):
    r""":class:`torch_geometric.nn.GCNConv` with its normalized matrix built once per graph

    .. math::
        \mathbf{X}^{\prime} = \mathbf{P}_{\mathrm{gcn}} \mathbf{X} \mathbf{\Theta} + \mathbf{b},
        \qquad \mathbf{P}_{\mathrm{gcn}} = \mathbf{\hat{D}}^{-1/2} \mathbf{\hat{A}}
        \mathbf{\hat{D}}^{-1/2}

    Other aggregations, gradients of edge weights and PyG's explainers get PyG's own message
    passing.
    """

    kind = "gcn"
    propagate_type = {"x": Tensor, "edge_weight": OptTensor}

    def is_product(self, x: Any, edge_weight: Tensor | None = None) -> bool:
        learned = edge_weight is not None and edge_weight.requires_grad
        usual = self.normalize and self.aggr in SUMS and not learned
        return usual and not is_uninitialized_parameter(self.lin.weight) and super().is_product(x)

    def find_options(self) -> dict[str, float]:
        return {"improved": self.improved, "add_self_loops": self.add_self_loops}

    def forward(
        self,
        x: Features | Tensor,
        edge_index: AnyGraph,
        edge_weight: Tensor | None = None,
        step: Step | None = None,
    ) -> Tensor:
        if not self.is_product(x, edge_weight):
            self._cached_edge_index = self._cached_adj_t = None  # of another graph, perhaps
            return super().forward(as_tensor(x), *unwrap_graph(edge_index, edge_weight))
        return self.multiply(x, edge_index, edge_weight, step, self.lin.weight, self.bias)


class GCN(Expert, torch_geometric.nn.GCN):
    __doc__ = r"""The GCN of `"Semi-supervised Classification with Graph Convolutional Networks"
    <https://arxiv.org/abs/1609.02907>`_: parameters, arguments and results of
    :class:`torch_geometric.nn.GCN`, faster.

    """ + (Expert.__doc__ or "").partition("\n\n")[2]

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> GCNConv:
        return GCNConv(in_channels, out_channels, **kwargs)
