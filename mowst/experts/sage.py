r"""GraphSAGE, with a constant matrix in place of message passing."""

from typing import Any

import torch
import torch.nn.functional as F
import torch_geometric.nn
from torch import Tensor
from torch_geometric.nn.dense.linear import is_uninitialized_parameter
from torch_geometric.typing import OptPairTensor

from mowst.experts.base import Expert
from mowst.experts.conv import AnyGraph, FastConv
from mowst.sparse.features import Features, as_tensor
from mowst.sparse.graph import unwrap_graph
from mowst.sparse.partial import Step


class SAGEConv(FastConv, torch_geometric.nn.SAGEConv):
    r""":class:`torch_geometric.nn.SAGEConv` with its mean aggregation as a matrix built once per
    graph

    .. math::
        \mathbf{X}^{\prime} = \mathbf{P}_{\mathrm{mean}} \mathbf{X} \mathbf{W}_1^{\top} + \mathbf{b}
        + \mathbf{X} \mathbf{W}_2^{\top}, \qquad \mathbf{P}_{\mathrm{mean}} = \mathbf{D}^{-1}
        \mathbf{A}

    Other aggregations, projected or bipartite features and PyG's explainers get PyG's own message
    passing.
    """

    kind = "mean"
    propagate_type = {"x": OptPairTensor}
    takes_skip = True

    def is_product(self, x: Any, edge_weight: Tensor | None = None) -> bool:
        usual = self.aggr == "mean" and not self.project
        return usual and not is_uninitialized_parameter(self.lin_l.weight) and super().is_product(x)

    def forward(
        self,
        x: Features | Tensor,
        edge_index: AnyGraph,
        size: Any = None,
        step: Step | None = None,
        skip: torch.nn.Linear | None = None,
    ) -> Tensor:
        if size is not None or not self.is_product(x):
            out = super().forward(as_tensor(x), unwrap_graph(edge_index)[0], size)
            return out if skip is None else out + skip(as_tensor(x))
        out = self.multiply(x, edge_index, None, step, self.lin_l.weight, self.lin_l.bias)
        # The root weight and a skip multiply the same matrix: one product with their sum, if no
        # norm comes between.
        weight = self.lin_r.weight if self.root_weight else None
        bias = None
        if skip is not None and not self.normalize:
            weight = skip.weight if weight is None else weight + skip.weight
            bias, skip = skip.bias, None
        if weight is not None:
            out = self.add_own(out, x, step, weight, bias)
        if self.normalize:
            out = F.normalize(out, p=2.0, dim=-1)
        return out if skip is None else self.add_own(out, x, step, skip.weight, skip.bias)


class GraphSAGE(Expert, torch_geometric.nn.GraphSAGE):
    __doc__ = r"""The GraphSAGE of `"Inductive Representation Learning on Large Graphs"
    <https://arxiv.org/abs/1706.02216>`_: parameters, arguments and results of
    :class:`torch_geometric.nn.GraphSAGE`, faster for the mean aggregation.

    """ + (Expert.__doc__ or "").partition("\n\n")[2]

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> SAGEConv:
        return SAGEConv(in_channels, out_channels, **kwargs)
