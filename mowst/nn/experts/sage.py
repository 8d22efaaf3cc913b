r"""GraphSAGE, with a constant matrix in place of message passing."""

from typing import Any

import torch.nn.functional as F
import torch_geometric.nn
from torch import Tensor
from torch_geometric.typing import OptPairTensor

from mowst.graph.adjacency import adjacency
from mowst.graph.features import linear
from mowst.nn.experts.base import Expert, FastConv


class SAGEConv(FastConv, torch_geometric.nn.SAGEConv):
    r""":class:`torch_geometric.nn.SAGEConv` with its mean aggregation as a matrix built once per graph,

    .. math::
        \mathbf{X}^{\prime} = \mathbf{P}_{\mathrm{mean}} \mathbf{X} \mathbf{W}_1^{\top} + \mathbf{b}
        + \mathbf{X} \mathbf{W}_2^{\top}, \qquad \mathbf{P}_{\mathrm{mean}} = \mathbf{D}^{-1} \mathbf{A}

    Other aggregations, projected or bipartite features and PyG's explainers get PyG's own message passing.
    """

    propagate_type = {"x": OptPairTensor}

    def forward(self, x: Tensor, edge_index: Tensor, size: Any = None) -> Tensor:
        if self.aggr != "mean" or self.project or size is not None or not self.runs_fast(x, self.lin_l.weight):
            return super().forward(x, edge_index, size)
        graph = adjacency(edge_index, num_nodes=x.size(0))
        out = self.hop(graph, "mean", x, self.lin_l.weight, self.lin_l.bias)
        if self.root_weight:
            features = self.features(x)
            weight = self.lin_r.weight
            out = out.add_(F.linear(x, weight) if features is None else linear(features, weight))
        return F.normalize(out, p=2.0, dim=-1) if self.normalize else out


class GraphSAGE(Expert, torch_geometric.nn.GraphSAGE):
    __doc__ = r"""The GraphSAGE of `"Inductive Representation Learning on Large Graphs"
    <https://arxiv.org/abs/1706.02216>`_: parameters, arguments and results of :class:`torch_geometric.nn.GraphSAGE`,
    faster for the mean aggregation.

    """ + (Expert.__doc__ or "").partition("\n\n")[2]

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> SAGEConv:
        return SAGEConv(in_channels, out_channels, **kwargs)
