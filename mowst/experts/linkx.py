r"""LINKX, with a constant matrix in place of message passing and a sparse first layer where
features are sparse.
"""

from typing import Any

import torch_geometric.nn
from torch import Tensor
from torch_geometric.nn.models import linkx
from torch_geometric.typing import OptTensor

from mowst.experts.conv import AnyGraph, FastConv
from mowst.experts.mlp import MLP
from mowst.sparse.features import Features
from mowst.sparse.graph import as_graph, unwrap_graph
from mowst.sparse.propagate import propagate


class SparseLinear(FastConv, linkx.SparseLinear):
    r"""The linear map of the adjacency matrix with that matrix built once per graph,

    .. math::
        \mathbf{X}^{\prime} = \mathbf{P}_{\mathrm{sum}} \mathbf{W} + \mathbf{b}, \qquad
        \mathbf{P}_{\mathrm{sum}} = \mathbf{A}

    Gradients of edge weights and PyG's explainers get PyG's own message passing.
    """

    propagate_type = {"weight": Tensor, "edge_weight": OptTensor}

    def forward(self, edge_index: AnyGraph, edge_weight: Tensor | None = None) -> Tensor:
        if self.explain or (edge_weight is not None and edge_weight.requires_grad):
            return super().forward(*unwrap_graph(edge_index, edge_weight))
        graph = as_graph(edge_index, edge_weight, num_nodes=self.in_channels)
        return propagate(graph.operator("sum", self.weight.dtype), self.weight).add_(self.bias)


class LINKX(torch_geometric.nn.LINKX):
    r"""The LINKX of `"Large Scale Learning on Non-Homophilous Graphs: New Benchmarks and Strong
    Simple Methods" <https://arxiv.org/abs/2110.14446>`_,

    .. math::
        \mathbf{H}_{\mathbf{A}} = \mathrm{MLP}_{\mathbf{A}}(\mathbf{A}), \qquad
        \mathbf{H}_{\mathbf{X}} = \mathrm{MLP}_{\mathbf{X}}(\mathbf{X}), \qquad
        \mathbf{Z} = \mathrm{MLP}_f(\mathrm{ReLU}([\mathbf{H}_{\mathbf{A}} \, \Vert \,
        \mathbf{H}_{\mathbf{X}}] \mathbf{W}^{\top} + \mathbf{H}_{\mathbf{A}} +
        \mathbf{H}_{\mathbf{X}}))

    with the parameters and results of :class:`torch_geometric.nn.LINKX`, faster. Its first layer
    has a row of weights per node, so it answers for the nodes of its own graph alone.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each hidden sample.
        num_layers (int): Number of layers of :math:`\mathrm{MLP}_f`.
        out_channels (int): Size of each output sample.
        dropout (float): Dropout probability in :math:`\mathrm{MLP}_f`. (default: :obj:`0.0`)
        num_nodes (int): Number of nodes of the graph.
        num_edge_layers (int): Number of layers of :math:`\mathrm{MLP}_{\mathbf{A}}`. (default:
            :obj:`1`)
        num_node_layers (int): Number of layers of :math:`\mathrm{MLP}_{\mathbf{X}}`. (default:
            :obj:`1`)
        sparse_features (bool, optional): Whether the features run as a sparse matrix, by default
            where their density makes that faster. (default: :obj:`None`)

    Shapes:
        - **input:** x :math:`(N, F_{in})`, edge_index :math:`(2, |\mathcal{E}|)`, edge_weight
          :math:`(|\mathcal{E}|)`
        - **output:** logits :math:`(N, F_{out})`

    Raises:
        ValueError: If a number of layers is below one.
    """

    edge_lin: linkx.SparseLinear
    node_mlp: torch_geometric.nn.MLP
    final_mlp: torch_geometric.nn.MLP

    inductive = False
    takes_graph = True
    supports_edge_weight = True

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int,
        out_channels: int,
        dropout: float = 0.0,
        *,
        num_nodes: int,
        num_edge_layers: int = 1,
        num_node_layers: int = 1,
        sparse_features: bool | None = None,
    ):
        depths = {
            "num_layers": num_layers,
            "num_edge_layers": num_edge_layers,
            "num_node_layers": num_node_layers,
        }
        for name, depth in depths.items():
            if depth < 1:
                raise ValueError(f"{name} must be at least 1, got {depth}")
        sizes = {
            "in_channels": in_channels,
            "hidden_channels": hidden_channels,
            "out_channels": out_channels,
        }
        super().__init__(**sizes, **depths, num_nodes=num_nodes, dropout=float(dropout))
        self._args = {
            **sizes,
            **depths,
            "num_nodes": num_nodes,
            "dropout": dropout,
            "sparse_features": sparse_features,
        }
        edge_lin = SparseLinear(num_nodes, hidden_channels)
        edge_lin.weight, edge_lin.bias = self.edge_lin.weight, self.edge_lin.bias
        self.edge_lin = edge_lin
        self.node_mlp = self._rebuild_mlp(self.node_mlp, sparse_features=sparse_features)
        self.final_mlp = self._rebuild_mlp(self.final_mlp, dropout=dropout)
        self.dropout = self.final_mlp.dropout

    @staticmethod
    def _rebuild_mlp(theirs: torch_geometric.nn.MLP, **kwargs: Any) -> MLP:
        r"""Returns our perceptron around the parameters that PyG has drawn."""
        sizes = theirs.channel_list
        ours = MLP(
            in_channels=sizes[0],
            hidden_channels=sizes[1],
            out_channels=sizes[-1],
            num_layers=len(sizes) - 1,
            norm="batch_norm",
            act_first=True,
            **kwargs,
        )
        ours.lins = theirs.lins
        return ours

    def constructor_args(self) -> dict[str, Any]:
        r"""Returns the arguments that construct this module again."""
        return dict(self._args)

    def forward(
        self, x: Features | Tensor, edge_index: AnyGraph, edge_weight: Tensor | None = None
    ) -> Tensor:
        r"""Returns the logits of all nodes.

        Raises:
            ValueError: If the number of nodes is not that of the constructor.
        """
        if x.shape[0] != self.num_nodes:
            raise ValueError(
                f"{type(self).__name__} has weights for {self.num_nodes} nodes, got features of "
                f"{x.shape[0]}: build it with num_nodes={x.shape[0]}, or choose an inductive expert"
            )
        return super().forward(x, edge_index, edge_weight)
