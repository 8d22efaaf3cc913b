r"""GraphSAGE, with a constant matrix in place of message passing."""

from functools import reduce
from typing import Any

import torch
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

    takes_skip = True

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        size: Any = None,
        nodes: Tensor | None = None,
        skip: torch.nn.Linear | None = None,
    ) -> Tensor:
        plain = self.aggr == "mean" and not self.project and size is None and not (self.normalize and skip)
        if not plain or not self.runs_fast(x, self.lin_l.weight):
            out = super().forward(x, edge_index, size)
            out = out if skip is None else out + skip(x)
            return out if nodes is None else out[nodes]
        graph = adjacency(edge_index, num_nodes=x.size(0))
        out = self.hop(graph, "mean", x, self.lin_l.weight, self.lin_l.bias, nodes)
        # The root weight and a skip multiply the same matrix: one product with their sum.
        maps = [lin for lin in (self.lin_r if self.root_weight else None, skip) if lin is not None]
        if maps:
            weight = reduce(torch.add, (lin.weight for lin in maps))
            bias = skip.bias if skip is not None else None
            features = self.features(x)
            if features is None:
                out = out.add_(F.linear(x if nodes is None else x[nodes], weight, bias))
            else:
                root = linear(features, weight, bias)
                out = out.add_(root if nodes is None else root[nodes])
        return F.normalize(out, p=2.0, dim=-1) if self.normalize else out


class GraphSAGE(Expert, torch_geometric.nn.GraphSAGE):
    __doc__ = r"""The GraphSAGE of `"Inductive Representation Learning on Large Graphs"
    <https://arxiv.org/abs/1706.02216>`_: parameters, arguments and results of :class:`torch_geometric.nn.GraphSAGE`,
    faster for the mean aggregation.

    """ + (Expert.__doc__ or "").partition("\n\n")[2]

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> SAGEConv:
        return SAGEConv(in_channels, out_channels, **kwargs)
