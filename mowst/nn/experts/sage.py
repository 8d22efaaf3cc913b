r"""GraphSAGE, with a constant matrix in place of message passing."""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
import torch_geometric.nn
from torch import Tensor
from torch_geometric.nn.dense.linear import is_uninitialized_parameter
from torch_geometric.typing import OptPairTensor

from mowst.graph.frontier import Step
from mowst.nn.experts.base import Expert, FastConv


class SAGEConv(FastConv, torch_geometric.nn.SAGEConv):
    r""":class:`torch_geometric.nn.SAGEConv` with its mean aggregation as a matrix built once per graph,

    .. math::
        \mathbf{X}^{\prime} = \mathbf{P}_{\mathrm{mean}} \mathbf{X} \mathbf{W}_1^{\top} + \mathbf{b}
        + \mathbf{X} \mathbf{W}_2^{\top}, \qquad \mathbf{P}_{\mathrm{mean}} = \mathbf{D}^{-1} \mathbf{A}

    Other aggregations, projected or bipartite features and PyG's explainers get PyG's own message passing.
    """

    kind = "mean"
    propagate_type = {"x": OptPairTensor}
    takes_skip = True

    def multiplies(self, x: Tensor, edge_weight: Tensor | None = None) -> bool:
        plain = self.aggr == "mean" and not self.project
        return plain and not is_uninitialized_parameter(self.lin_l.weight) and super().multiplies(x)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        size: Any = None,
        step: Step | None = None,
        skip: torch.nn.Linear | None = None,
    ) -> Tensor:
        if size is not None or not self.multiplies(x):
            out = super().forward(x, edge_index, size)
            return out if skip is None else out + skip(x)
        out = self.hop(x, edge_index, None, step, self.lin_l.weight, self.lin_l.bias)
        # The root weight and a skip multiply the same matrix: one product with their sum, where no norm comes between.
        joined = None if self.normalize else skip
        maps = [lin.weight for lin in (self.lin_r if self.root_weight else None, joined) if lin is not None]
        if maps:
            out = self.own(x, step, reduce(torch.add, maps), None if joined is None else joined.bias).add_(out)
        out = F.normalize(out, p=2.0, dim=-1) if self.normalize else out
        return out if skip is None or joined else self.own(x, step, skip.weight, skip.bias).add_(out)


class GraphSAGE(Expert, torch_geometric.nn.GraphSAGE):
    __doc__ = r"""The GraphSAGE of `"Inductive Representation Learning on Large Graphs"
    <https://arxiv.org/abs/1706.02216>`_: parameters, arguments and results of :class:`torch_geometric.nn.GraphSAGE`,
    faster for the mean aggregation.

    """ + (Expert.__doc__ or "").partition("\n\n")[2]

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> SAGEConv:
        return SAGEConv(in_channels, out_channels, **kwargs)
