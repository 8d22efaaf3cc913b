r"""Confidences that a network learns, from the dispersion, and the ablations that do without it."""

import torch
from torch import Tensor
from torch_geometric.nn.inits import reset

from mowst.nn.dispersion import entropy_dispersion, two_class_logits, variance_dispersion
from mowst.nn.experts.mlp import MLP


class _Gate(torch.nn.Module):
    r""":math:`C = \sigma(\mathrm{MLP}(\mathbf{u}))` of an input :math:`\mathbf{u}` that each subclass makes."""

    def __init__(
        self, channels: int, hidden_channels: int, num_layers: int, dropout: float, sparse_features: bool | None
    ) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.mlp = _mlp(channels, hidden_channels, 1, num_layers, dropout, sparse_features)

    def reset_parameters(self) -> None:
        reset(self.mlp)

    def gate(self, u: Tensor) -> Tensor:
        return self.mlp(u).squeeze(-1).sigmoid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mlp.in_channels}, {self.hidden_channels}, {self.num_layers})"


class LearnedConfidence(_Gate):
    r"""The confidence of the paper's experiments, :math:`C = \sigma(\mathrm{MLP}(\mathbf{u}))` with
    :math:`\mathbf{u}_v = [D_{\mathrm{var}}, D_{\mathrm{ent}}]` of the weak prediction, or
    :math:`[D_{\mathrm{var}}, D_{\mathrm{ent}}, \mathbf{x}_v]` where :obj:`in_channels` is given. The MLP consists
    of blocks of linear layer, batch normalization, ReLU and dropout, and a last linear layer.

    Args:
        hidden_channels (int, optional): width of the hidden layers. (default: :obj:`64`)
        num_layers (int, optional): number of linear layers. (default: :obj:`2`)
        dropout (float, optional): dropout probability. (default: :obj:`0.5`)
        in_channels (int, optional): number of node features to read beside the dispersion; :obj:`None` reads none.
            (default: :obj:`None`)

    Raises:
        ValueError: if the number of node features is not the one that was announced.
    """

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        dropout: float = 0.5,
        in_channels: int | None = None,
    ) -> None:
        # Dense, since the input is new in every epoch: a conversion would never pay.
        super().__init__(2 + (in_channels or 0), hidden_channels, num_layers, dropout, sparse_features=False)
        self.in_channels = in_channels

    def forward(self, logits: Tensor, x: Tensor | None = None) -> Tensor:
        u = _dispersion(logits)
        if self.in_channels is not None:
            u = torch.cat([u, _announced(x, self.in_channels)], dim=-1)  # [N, 2 + F]
        return self.gate(u)


class HypernetworkConfidence(torch.nn.Module):
    r"""A confidence whose weights depend on the node: four MLPs on :math:`\mathbf{x}_v`, built as in
    :class:`LearnedConfidence`, emit :math:`\mathbf{W}_v \in \mathbb{R}^{2 \times h}`,
    :math:`\mathbf{b}_v, \mathbf{w}_v \in \mathbb{R}^h` and :math:`\beta_v`, and

    .. math::
        C_v = \sigma \left( (\mathbf{d}_v \mathbf{W}_v + \mathbf{b}_v) \, \mathbf{w}_v^{\top} + \beta_v \right),
        \qquad \mathbf{d}_v = [D_{\mathrm{var}}, D_{\mathrm{ent}}]

    No non-linearity stands between the two maps: each node has a logistic regression of its own on the dispersion.

    Args:
        in_channels (int): number of node features.
        hidden_channels (int, optional): width of the hidden layers of the MLPs. (default: :obj:`64`)
        gate_channels (int, optional): the width :math:`h` between the two maps. (default: :obj:`8`)
        num_layers (int, optional): number of linear layers of each MLP. (default: :obj:`2`)
        dropout (float, optional): dropout probability. (default: :obj:`0.5`)

    Raises:
        ValueError: if the number of node features is not the one that was announced.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 64,
        gate_channels: int = 8,
        num_layers: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.gate_channels = gate_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.first_weight = _mlp(in_channels, hidden_channels, 2 * gate_channels, num_layers, dropout)
        self.first_bias = _mlp(in_channels, hidden_channels, gate_channels, num_layers, dropout)
        self.last_weight = _mlp(in_channels, hidden_channels, gate_channels, num_layers, dropout)
        self.last_bias = _mlp(in_channels, hidden_channels, 1, num_layers, dropout)

    def reset_parameters(self) -> None:
        for mlp in self.children():
            reset(mlp)

    def forward(self, logits: Tensor, x: Tensor | None = None) -> Tensor:
        x = _announced(x, self.in_channels)
        weight = self.first_weight(x).view(-1, 2, self.gate_channels)
        hidden = torch.einsum("ni,nih->nh", _dispersion(logits), weight) + self.first_bias(x)  # [N, h]
        return ((hidden * self.last_weight(x)).sum(dim=-1) + self.last_bias(x).squeeze(-1)).sigmoid()

    def __repr__(self) -> str:
        sizes = (self.in_channels, self.hidden_channels, self.gate_channels, self.num_layers)
        return f"{type(self).__name__}({', '.join(map(str, sizes))})"


class LogitConfidence(_Gate):
    r"""An ablation, :math:`C = \sigma(\mathrm{MLP}(\mathbf{z}_v))` of the weak logits :math:`\mathbf{z}_v`, with the
    MLP of :class:`LearnedConfidence`. It may prefer one class to another and change with a shift of the logits; it is
    in general not quasiconvex in the prediction and not zero at the uniform one, so nothing biases it to the strong
    expert.

    Args:
        num_classes (int): number of classes.
        hidden_channels (int, optional): width of the hidden layers. (default: :obj:`64`)
        num_layers (int, optional): number of linear layers. (default: :obj:`2`)
        dropout (float, optional): dropout probability. (default: :obj:`0.5`)

    Raises:
        ValueError: if the number of classes is not the one that was announced.
    """

    def __init__(self, num_classes: int, hidden_channels: int = 64, num_layers: int = 2, dropout: float = 0.5) -> None:
        super().__init__(num_classes, hidden_channels, num_layers, dropout, sparse_features=False)
        self.num_classes = num_classes

    def forward(self, logits: Tensor) -> Tensor:
        logits = two_class_logits(logits)
        if logits.size(-1) != self.num_classes:
            raise ValueError(f"this confidence reads the logits of {self.num_classes} classes, got {logits.size(-1)}")
        return self.gate(logits)


class FeatureConfidence(_Gate):
    r"""An ablation, :math:`C = \sigma(\mathrm{MLP}(\mathbf{x}_v))`: the gate of an ordinary mixture of experts, with
    the MLP of :class:`LearnedConfidence`. It never sees the weak prediction: across nodes it is not quasiconvex in
    it, and a node with a uniform one is sent to either expert, so nothing biases it to the strong expert.

    Args:
        in_channels (int): number of node features.
        hidden_channels (int, optional): width of the hidden layers. (default: :obj:`64`)
        num_layers (int, optional): number of linear layers. (default: :obj:`2`)
        dropout (float, optional): dropout probability. (default: :obj:`0.5`)

    Raises:
        ValueError: if the number of node features is not the one that was announced.
    """

    def __init__(self, in_channels: int, hidden_channels: int = 64, num_layers: int = 2, dropout: float = 0.5) -> None:
        super().__init__(in_channels, hidden_channels, num_layers, dropout, sparse_features=None)
        self.in_channels = in_channels

    def forward(self, logits: Tensor, x: Tensor | None = None) -> Tensor:
        return self.gate(_announced(x, self.in_channels))


def _dispersion(logits: Tensor) -> Tensor:
    return torch.stack([variance_dispersion(logits), entropy_dispersion(logits)], dim=-1)  # [N, 2]


def _announced(x: Tensor | None, in_channels: int) -> Tensor:
    if x is None or x.size(-1) != in_channels:
        got = None if x is None else x.size(-1)
        raise ValueError(f"this confidence reads {in_channels} node features, got {got}")
    return x


def _mlp(
    in_channels: int,
    hidden_channels: int,
    out_channels: int,
    num_layers: int,
    dropout: float,
    sparse_features: bool | None = None,
) -> MLP:
    return MLP(
        in_channels=in_channels,
        hidden_channels=hidden_channels,
        out_channels=out_channels,
        num_layers=num_layers,
        dropout=dropout,
        norm="batch_norm",
        sparse_features=sparse_features,
    )
