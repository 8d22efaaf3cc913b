r"""GPR-GNN: a perceptron whose logits are averaged over the graph with learned weights of the
distances.
"""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import OptTensor

from mowst.experts.conv import AnyGraph, FastConv, wrap_graph
from mowst.experts.mlp import MLP
from mowst.sparse.dropout import Dropout
from mowst.sparse.features import Features
from mowst.sparse.graph import as_graph, unwrap_graph
from mowst.sparse.propagate import propagate


class GCNStep(FastConv):
    r"""One step :math:`\mathbf{P}_{\mathrm{gcn}} \mathbf{X}` without parameters. Gradients of edge
    weights and PyG's explainers get messages in place of the matrix.
    """

    propagate_type = {"x": Tensor, "edge_weight": OptTensor}

    def forward(self, x: Tensor, edge_index: AnyGraph, edge_weight: Tensor | None = None) -> Tensor:
        if self.explain or (edge_weight is not None and edge_weight.requires_grad):
            edge_index, edge_weight = unwrap_graph(edge_index, edge_weight)
            edge_index, edge_weight = gcn_norm(edge_index, edge_weight, x.size(0), dtype=x.dtype)
            return self.propagate(edge_index, x=x, edge_weight=edge_weight)
        return propagate(as_graph(edge_index, edge_weight, x.size(0)).operator("gcn", x.dtype), x)

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return edge_weight.view(-1, 1) * x_j


class GPRGNN(torch.nn.Module):
    r"""The GPR-GNN of `"Adaptive Universal Generalized PageRank Graph Neural Network"
    <https://arxiv.org/abs/2006.07988>`_,

    .. math::
        \mathbf{H} = \mathrm{dropout}(\mathrm{MLP}(\mathbf{X})), \qquad
        \mathbf{Z} = \sum_{k=0}^{K} \gamma_k \mathbf{P}_{\mathrm{gcn}}^k \mathbf{H}

    with learned :math:`\gamma` that start as personalized PageRank,
    :math:`\gamma_k = \alpha (1 - \alpha)^k` for :math:`k < K` and
    :math:`\gamma_K = (1 - \alpha)^K`, of sum one. The steps run on samples as narrow as the output.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each hidden sample.
        num_layers (int): Number of linear layers of the perceptron.
        out_channels (int): Size of each output sample.
        dropout (float): Dropout probability of the hidden samples. (default: :obj:`0.0`)
        dprate (float, optional): Dropout probability of the perceptron's output, by default
            `dropout`. (default: :obj:`None`)
        K (int): Number of steps. (default: :obj:`10`)
        alpha (float): Share of each step that stays, at the start. (default: :obj:`0.1`)
        **kwargs (optional): Further arguments of :class:`~mowst.experts.mlp.MLP`.

    Shapes:
        - **input:** x :math:`(N, F_{in})`, edge_index :math:`(2, |\mathcal{E}|)`, edge_weight
          :math:`(|\mathcal{E}|)`
        - **output:** logits :math:`(N, F_{out})`

    Raises:
        ValueError: If `K` is negative, or `alpha` is not in :math:`[0, 1]`.
    """

    inductive = True
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
        dprate: float | None = None,
        K: int = 10,  # noqa: N803
        alpha: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__()
        if K < 0:
            raise ValueError(f"K must be at least 0, got {K}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.K = K
        self.alpha = alpha
        self.mlp = MLP(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            dropout=dropout,
            **kwargs,
        )
        self.dropout = Dropout(dropout if dprate is None else dprate)
        self.step = GCNStep()
        self.gamma = torch.nn.Parameter(torch.empty(K + 1))
        self._reset_gamma()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        self.mlp.reset_parameters()
        self._reset_gamma()

    def constructor_args(self) -> dict[str, Any]:
        r"""Returns the arguments that construct this module again."""
        return self.mlp.constructor_args() | {
            "dprate": self.dropout.p,
            "K": self.K,
            "alpha": self.alpha,
        }

    def forward(
        self, x: Features | Tensor, edge_index: AnyGraph, edge_weight: Tensor | None = None
    ) -> Tensor:
        r"""Returns the logits of all nodes."""
        edge_index, edge_weight = wrap_graph(edge_index, edge_weight, x.shape[0])
        hidden = self.dropout(self.mlp(x))
        out = self.gamma[0] * hidden
        for gamma in self.gamma[1:]:
            hidden = self.step(hidden, edge_index, edge_weight)
            out = out + gamma * hidden
        return out

    @torch.no_grad()
    def _reset_gamma(self) -> None:
        self.gamma.copy_((1 - self.alpha) ** torch.arange(self.K + 1))
        self.gamma[:-1] *= self.alpha

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, K={self.K})"
