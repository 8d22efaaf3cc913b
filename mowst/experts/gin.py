r"""The graph isomorphism network, with a constant matrix in place of message passing."""

from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor
from torch_geometric.nn.dense.linear import is_uninitialized_parameter
from torch_geometric.typing import OptPairTensor

from mowst.experts.base import Expert
from mowst.experts.conv import SUMS, AnyGraph, FastConv
from mowst.experts.mlp import MLP
from mowst.sparse.features import Features, as_tensor
from mowst.sparse.graph import unwrap_graph
from mowst.sparse.partial import Step


class GINConv(FastConv, torch_geometric.nn.GINConv):
    r""":class:`torch_geometric.nn.GINConv` around an :class:`MLP` :math:`h` with its sum as a
    matrix built once per graph

    .. math::
        \mathbf{X}^{\prime} = h(\mathbf{P}_{\mathrm{gin}} \mathbf{X}), \qquad
        \mathbf{P}_{\mathrm{gin}} = \mathbf{A} + (1 + \epsilon) \mathbf{I}

    whose first linear map runs on the cheaper side of the product. A trained :math:`\epsilon`,
    other aggregations, bipartite features and PyG's explainers get PyG's own message passing.
    """

    kind = "gin"
    propagate_type = {"x": OptPairTensor}

    def is_product(self, x: Any, edge_weight: Tensor | None = None) -> bool:
        usual = self.aggr in SUMS and not isinstance(self.eps, torch.nn.Parameter)
        return (
            usual
            and not is_uninitialized_parameter(self.nn.lins[0].weight)
            and super().is_product(x)
        )

    def find_options(self) -> dict[str, float]:
        return {"eps": float(self.eps)}

    def forward(
        self, x: Features | Tensor, edge_index: AnyGraph, size: Any = None, step: Step | None = None
    ) -> Tensor:
        if size is not None or not self.is_product(x):
            return super().forward(as_tensor(x), unwrap_graph(edge_index)[0], size)
        lin = self.nn.lins[0]
        return self.nn.finish(self.multiply(x, edge_index, None, step, lin.weight, lin.bias))


class GIN(Expert, torch_geometric.nn.GIN):
    __doc__ = r"""The GIN of `"How Powerful are Graph Neural Networks?"
    <https://arxiv.org/abs/1810.00826>`_: parameters, arguments and results of
    :class:`torch_geometric.nn.GIN`, faster.

    """ + (Expert.__doc__ or "").partition("\n\n")[2]

    def init_conv(self, in_channels: int, out_channels: int, **kwargs: Any) -> GINConv:
        mlp = MLP(
            in_channels=in_channels,
            hidden_channels=out_channels,
            out_channels=out_channels,
            norm=self._args["norm"],
            norm_kwargs=self.norm_kwargs,
            act=self.act,
            act_first=self.act_first,
        )
        return GINConv(mlp, **kwargs)
