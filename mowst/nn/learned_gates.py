r"""Gates that a network learns: from the dispersion, and the ablations that do without it."""

import torch
from torch import Tensor
from torch_geometric.nn.inits import reset

from mowst.nn.dispersion import entropy_dispersion, two_class_logits, variance_dispersion
from mowst.nn.registry import register_gate
from mowst.sparse.dropout import Dropout


class _Gate(torch.nn.Module):
    r""":math:`C = \sigma(\mathrm{MLP}(\mathbf{u}))` of an input :math:`\mathbf{u}` that each
    subclass reads.
    """

    def __init__(
        self, channels: int, hidden_channels: int, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.mlp = _build_mlp(channels, hidden_channels, 1, num_layers, dropout)

    def reset_parameters(self) -> None:
        reset(self.mlp)

    def squash(self, u: Tensor) -> Tensor:
        return self.mlp(u).squeeze(-1).sigmoid()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.mlp[0].in_features}, {self.hidden_channels}, "
            f"{self.num_layers})"
        )


class LearnedGate(_Gate):
    r"""The gate of the paper's experiments, :math:`C = \sigma(\mathrm{MLP}(\mathbf{u}))` with
    :math:`\mathbf{u}_v = [D_{\mathrm{var}}, D_{\mathrm{ent}}]` of the weak prediction, or
    :math:`[D_{\mathrm{var}}, D_{\mathrm{ent}}, \mathbf{x}_v]` where :obj:`in_channels` is given.
    The MLP consists of blocks of linear layer, batch normalization, ReLU and dropout, and a last
    linear layer.

    Args:
        hidden_channels (int, optional): Width of the hidden layers. (default: :obj:`64`)
        num_layers (int, optional): Number of linear layers. (default: :obj:`2`)
        dropout (float, optional): Dropout probability. (default: :obj:`0.5`)
        in_channels (int, optional): Number of node features to read next to the dispersion. None
            are read if :obj:`None`. (default: :obj:`None`)

    Raises:
        ValueError: If the number of node features is another one.
    """

    def __init__(
        self,
        hidden_channels: int = 64,
        num_layers: int = 2,
        dropout: float = 0.5,
        in_channels: int | None = None,
    ) -> None:
        super().__init__(2 + (in_channels or 0), hidden_channels, num_layers, dropout)
        self.in_channels = in_channels

    def forward(
        self, logits: Tensor, x: Tensor | None = None, weak_prob: Tensor | None = None
    ) -> Tensor:
        u = _find_dispersions(logits, weak_prob)
        if self.in_channels is not None:
            u = torch.cat([u, _check_features(x, self.in_channels)], dim=-1)  # [N, 2 + F]
        return self.squash(u)


class HypernetworkGate(torch.nn.Module):
    r"""A gate whose weights depend on the node: four MLPs on :math:`\mathbf{x}_v`, built as in
    :class:`LearnedGate`, emit :math:`\mathbf{W}_v \in \mathbb{R}^{2 \times h}`,
    :math:`\mathbf{b}_v, \mathbf{w}_v \in \mathbb{R}^h` and :math:`\beta_v`, and

    .. math::
        C_v = \sigma \left( (\mathbf{d}_v \mathbf{W}_v + \mathbf{b}_v) \, \mathbf{w}_v^{\top} +
        \beta_v \right), \qquad \mathbf{d}_v = [D_{\mathrm{var}}, D_{\mathrm{ent}}]

    Without a non-linearity between the two maps, each node has its own logistic regression on the
    dispersion.

    Args:
        in_channels (int): Number of node features.
        hidden_channels (int, optional): Width of the hidden layers of the MLPs. (default:
            :obj:`64`)
        gate_channels (int, optional): The width :math:`h` between the two maps. (default: :obj:`8`)
        num_layers (int, optional): Number of linear layers of each MLP. (default: :obj:`2`)
        dropout (float, optional): Dropout probability. (default: :obj:`0.5`)

    Raises:
        ValueError: If the number of node features is another one.
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
        self.first_weight = _build_mlp(
            in_channels, hidden_channels, 2 * gate_channels, num_layers, dropout
        )
        self.first_bias = _build_mlp(
            in_channels, hidden_channels, gate_channels, num_layers, dropout
        )
        self.last_weight = _build_mlp(
            in_channels, hidden_channels, gate_channels, num_layers, dropout
        )
        self.last_bias = _build_mlp(in_channels, hidden_channels, 1, num_layers, dropout)

    def reset_parameters(self) -> None:
        for mlp in self.children():
            reset(mlp)

    def forward(
        self, logits: Tensor, x: Tensor | None = None, weak_prob: Tensor | None = None
    ) -> Tensor:
        x = _check_features(x, self.in_channels)
        dispersions = _find_dispersions(logits, weak_prob)
        weight = self.first_weight(x).view(-1, 2, self.gate_channels)
        hidden = torch.einsum("ni,nih->nh", dispersions, weight) + self.first_bias(x)  # [N, h]
        return (
            (hidden * self.last_weight(x)).sum(dim=-1) + self.last_bias(x).squeeze(-1)
        ).sigmoid()

    def __repr__(self) -> str:
        sizes = (self.in_channels, self.hidden_channels, self.gate_channels, self.num_layers)
        return f"{type(self).__name__}({', '.join(map(str, sizes))})"


class LogitGate(_Gate):
    r"""An ablation, :math:`C = \sigma(\mathrm{MLP}(\mathbf{z}_v))` of the weak logits
    :math:`\mathbf{z}_v`, with the MLP of :class:`LearnedGate`. It may prefer one class to another
    and change with a shift of the logits. It is in general not quasiconvex in the prediction and
    not zero at the uniform one, so nothing biases it to the strong expert.

    Args:
        num_classes (int): Number of classes, or of labels.
        hidden_channels (int, optional): Width of the hidden layers. (default: :obj:`64`)
        num_layers (int, optional): Number of linear layers. (default: :obj:`2`)
        dropout (float, optional): Dropout probability. (default: :obj:`0.5`)

    Raises:
        ValueError: If the number of classes is another one.
    """

    def __init__(
        self, num_classes: int, hidden_channels: int = 64, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__(num_classes, hidden_channels, num_layers, dropout)
        self.num_classes = num_classes

    def forward(self, logits: Tensor) -> Tensor:
        logits = two_class_logits(logits)
        if logits.dim() == 3:
            logits = logits[..., 1] - logits[..., 0]  # of each label
        if logits.size(-1) != self.num_classes:
            raise ValueError(
                f"this gate reads the logits of {self.num_classes} classes, got {logits.size(-1)}"
            )
        return self.squash(logits)


class FeatureGate(_Gate):
    r"""An ablation, :math:`C = \sigma(\mathrm{MLP}(\mathbf{x}_v))`: the gate of an ordinary mixture
    of experts, with the MLP of :class:`LearnedGate`. It never reads the weak prediction. Across
    nodes it is not quasiconvex in it, and a node with a uniform prediction goes to either expert,
    so nothing biases it to the strong expert.

    Args:
        in_channels (int): Number of node features.
        hidden_channels (int, optional): Width of the hidden layers. (default: :obj:`64`)
        num_layers (int, optional): Number of linear layers. (default: :obj:`2`)
        dropout (float, optional): Dropout probability. (default: :obj:`0.5`)

    Raises:
        ValueError: If the number of node features is another one.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int = 64, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__(in_channels, hidden_channels, num_layers, dropout)
        self.in_channels = in_channels

    def forward(self, logits: Tensor, x: Tensor | None = None) -> Tensor:
        return self.squash(_check_features(x, self.in_channels))


def _find_dispersions(logits: Tensor, prob: Tensor | None) -> Tensor:
    both = [variance_dispersion(logits, prob), entropy_dispersion(logits, prob)]
    return torch.stack(both, dim=-1)  # [N, 2]


def _check_features(x: Tensor | None, in_channels: int) -> Tensor:
    if x is None or x.size(-1) != in_channels:
        got = None if x is None else x.size(-1)
        raise ValueError(f"this gate reads {in_channels} node features, got {got}")
    return x


def _build_mlp(
    in_channels: int, hidden_channels: int, out_channels: int, num_layers: int, dropout: float
) -> torch.nn.Sequential:
    r"""Returns blocks of linear layer, batch normalization, ReLU and dropout, and a last linear
    layer.
    """
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    layers: list[torch.nn.Module] = []
    for _ in range(num_layers - 1):
        layers.append(torch.nn.Linear(in_channels, hidden_channels))
        layers.append(torch.nn.BatchNorm1d(hidden_channels))
        layers.append(torch.nn.ReLU())
        layers.append(Dropout(dropout))
        in_channels = hidden_channels
    layers.append(torch.nn.Linear(in_channels, out_channels))
    return torch.nn.Sequential(*layers)


register_gate("learned", LearnedGate)
register_gate("hypernetwork", HypernetworkGate)
register_gate("logits", LogitGate)
register_gate("features", FeatureGate)
