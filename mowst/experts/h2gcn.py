r"""H2GCN: the node itself, its neighbours and theirs, kept apart until the last layer."""

from typing import Any, Literal

import torch
from torch import Tensor

from mowst.experts.blocks import apply_linear
from mowst.experts.conv import AnyGraph
from mowst.sparse.dropout import Dropout
from mowst.sparse.features import Features
from mowst.sparse.graph import Graph, as_graph
from mowst.sparse.propagate import propagate

TwoHop = Literal["auto", "exact", "product"]


class H2GCN(torch.nn.Module):
    r"""The H2GCN of `"Beyond Homophily in Graph Neural Networks: Current Limitations and Effective
    Designs" <https://arxiv.org/abs/2006.11468>`_,

    .. math::
        \mathbf{R}_0 = \mathrm{ReLU}(\mathbf{X} \mathbf{W}_0^{\top} + \mathbf{b}_0), \qquad
        \mathbf{R}_k = [\mathbf{A}_1 \mathbf{R}_{k-1} \, \Vert \, \mathbf{A}_2 \mathbf{R}_{k-1}],
        \qquad \mathbf{Z} = \mathrm{dropout}([\mathbf{R}_0 \, \Vert \cdots \Vert \, \mathbf{R}_K])
        \mathbf{W}^{\top} + \mathbf{b}

    with the one-hop and strict two-hop operators of :class:`~mowst.sparse.graph.Graph`. Where the
    two-hop graph would be dense, two steps and no return stand for it,

    .. math::
        \mathbf{A}_2 \mathbf{R} \approx \mathbf{A}_1 (\mathbf{A}_1 \mathbf{R}) -
        \mathrm{diag}(\mathbf{A}_1^2) \mathbf{R}

    which weighs a node by its walks and not once, and keeps the neighbours that a triangle reaches.
    Hidden samples double their width in each layer. The graph enters as constant matrices: PyG's
        edge explainers find no messages.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each hidden sample before the first layer.
        num_layers (int): Number of propagation steps :math:`K`.
        out_channels (int): Size of each output sample.
        dropout (float): Dropout probability before the last linear map. (default: :obj:`0.0`)
        two_hop (str): "exact", "product", or "auto" for the exact two-hop graph where it is known
            to be small. (default: :obj:`"auto"`)
        sparse_features (bool, optional): Whether the input runs as a sparse matrix, by default
            where its density makes that faster. (default: :obj:`None`)

    Shapes:
        - **input:** x :math:`(N, F_{in})`, edge_index :math:`(2, |\mathcal{E}|)`
        - **output:** logits :math:`(N, F_{out})`

    Raises:
        ValueError: If `num_layers` is below one, or `two_hop` is unknown.
    """

    inductive = True
    takes_graph = True
    supports_edge_weight = False

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int,
        out_channels: int,
        dropout: float = 0.0,
        *,
        two_hop: TwoHop = "auto",
        sparse_features: bool | None = None,
    ):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if two_hop not in ("auto", "exact", "product"):
            raise ValueError(f"two_hop must be auto, exact or product, got {two_hop!r}")
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.out_channels = out_channels
        self.two_hop = two_hop
        self.sparse_features = sparse_features
        self.dropout = Dropout(dropout)
        self.lin_in = torch.nn.Linear(in_channels, hidden_channels)
        self.lin_out = torch.nn.Linear((2 ** (num_layers + 1) - 1) * hidden_channels, out_channels)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        self.lin_in.reset_parameters()
        self.lin_out.reset_parameters()

    def constructor_args(self) -> dict[str, Any]:
        r"""Returns the arguments that construct this module again."""
        names = (
            "in_channels",
            "hidden_channels",
            "num_layers",
            "out_channels",
            "two_hop",
            "sparse_features",
        )
        return {name: getattr(self, name) for name in names} | {"dropout": self.dropout.p}

    def forward(
        self, x: Features | Tensor, edge_index: AnyGraph, edge_weight: Tensor | None = None
    ) -> Tensor:
        r"""Returns the logits of all nodes.

        Raises:
            ValueError: If edge weights are given.
        """
        graph = as_graph(edge_index, edge_weight, num_nodes=x.shape[0])
        if graph.edge_weight is not None:
            raise ValueError(
                f"{type(self).__name__} cannot use edge_weight: leave it out, or choose a GCN"
            )
        exact = self.two_hop == "exact" or (self.two_hop == "auto" and graph.two_hop_is_small)
        hops = [apply_linear(self.lin_in, x, self.sparse_features).relu_()]
        for _ in range(self.num_layers):
            hops.append(_propagate_hops(graph, hops[-1], exact))
        return self.lin_out(self.dropout(torch.cat(hops, dim=1)))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"num_layers={self.num_layers})"
        )


def _propagate_hops(graph: Graph, hidden: Tensor, exact: bool) -> Tensor:
    step = graph.operator("one-hop", hidden.dtype)
    one = propagate(step, hidden)
    if exact:
        two = propagate(graph.operator("two-hop", hidden.dtype), hidden)
    else:
        two = propagate(step, one) - propagate(graph.operator("returns", hidden.dtype), hidden)
    return torch.cat([one, two], dim=1)
