r"""Confidence modules: the dispersion of the weak prediction, mapped to :math:`[0, 1]`.

A confidence is any module :obj:`confidence(logits)` (or :obj:`confidence(logits, x=x)`) :math:`\to (N)` in
:math:`[0, 1]`. Those of this file follow the `"Mixture of Weak & Strong Experts on Graphs"
<https://arxiv.org/abs/2311.05185>`_ paper; all take weak logits of shape :math:`(N, C)`.
"""

import torch
from torch import Tensor
from torch_geometric.nn.inits import reset

from mowst.nn.dispersion import entropy_dispersion, resolve_dispersion, variance_dispersion
from mowst.nn.experts.mlp import MLP
from mowst.nn.spec import Registry

CONFIDENCES = Registry("confidence")


@CONFIDENCES.register("power")
class PowerConfidence(torch.nn.Module):
    r"""The fixed confidence :math:`C = D(\mathbf{p})^{\alpha}`; at :math:`\alpha = 1` the dispersion itself.

    Args:
        alpha (float, optional): the exponent, above zero. (default: :obj:`1.0`)
        dispersion (str, optional): :obj:`"variance"` or :obj:`"entropy"`. (default: :obj:`"variance"`)

    Raises:
        ValueError: if :obj:`alpha` is not above zero or the dispersion is unknown.
    """

    def __init__(self, alpha: float = 1.0, dispersion: str = "variance") -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"alpha must be above zero, got {alpha}")
        resolve_dispersion(dispersion)
        self.alpha = alpha
        self.dispersion = dispersion

    def forward(self, logits: Tensor) -> Tensor:
        return _power(resolve_dispersion(self.dispersion)(logits), self.alpha)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha}, dispersion='{self.dispersion}')"


@CONFIDENCES.register("step")
class StepConfidence(torch.nn.Module):
    r"""Hard routing: :math:`C = 1` where :math:`D(\mathbf{p}) \geq t`, else :math:`0`.

    Args:
        threshold (float, optional): the threshold :math:`t`, above 0 and at most 1. (default: :obj:`0.5`)
        dispersion (str, optional): :obj:`"variance"` or :obj:`"entropy"`. (default: :obj:`"variance"`)

    Raises:
        ValueError: if the threshold is outside :math:`(0, 1]` or the dispersion is unknown.
    """

    def __init__(self, threshold: float = 0.5, dispersion: str = "variance") -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
        resolve_dispersion(dispersion)
        self.threshold = threshold
        self.dispersion = dispersion

    def forward(self, logits: Tensor) -> Tensor:
        dispersion = resolve_dispersion(self.dispersion)(logits)
        return (dispersion >= self.threshold).to(dispersion.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(threshold={self.threshold}, dispersion='{self.dispersion}')"


@CONFIDENCES.register("monotone")
class MonotoneConfidence(torch.nn.Module):
    r"""The learnable confidence :math:`C = 1 - \exp(-a \, D(\mathbf{p})^b)` with :math:`a, b > 0`: monotone, and
    zero at the uniform prediction, by construction. It starts at :math:`a = b = 1`.

    Args:
        dispersion (str, optional): :obj:`"variance"` or :obj:`"entropy"`. (default: :obj:`"variance"`)

    Raises:
        ValueError: if the dispersion is unknown.
    """

    def __init__(self, dispersion: str = "variance") -> None:
        super().__init__()
        resolve_dispersion(dispersion)
        self.dispersion = dispersion
        self.log_a = torch.nn.Parameter(torch.empty(()))
        self.log_b = torch.nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.zeros_(self.log_a)
        torch.nn.init.zeros_(self.log_b)

    def forward(self, logits: Tensor) -> Tensor:
        dispersion = resolve_dispersion(self.dispersion)(logits)
        return -torch.expm1(-self.log_a.exp() * _power(dispersion, self.log_b.exp()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dispersion='{self.dispersion}')"


@CONFIDENCES.register("learned")
class LearnedConfidence(torch.nn.Module):
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
        super().__init__()
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.in_channels = in_channels
        self.mlp = MLP(
            in_channels=2 + (in_channels or 0),
            hidden_channels=hidden_channels,
            out_channels=1,
            num_layers=num_layers,
            dropout=dropout,
            norm="batch_norm",
            sparse_features=False,  # the input is new in every epoch: a conversion would never pay
        )

    def reset_parameters(self) -> None:
        reset(self.mlp)

    def forward(self, logits: Tensor, x: Tensor | None = None) -> Tensor:
        u = torch.stack([variance_dispersion(logits), entropy_dispersion(logits)], dim=-1)  # [N, 2]
        if self.in_channels is not None:
            if x is None or x.size(-1) != self.in_channels:
                got = None if x is None else x.size(-1)
                raise ValueError(f"this confidence reads {self.in_channels} node features, got {got}")
            u = torch.cat([u, x], dim=-1)  # [N, 2 + F]
        return self.mlp(u).squeeze(-1).sigmoid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({2 + (self.in_channels or 0)}, {self.hidden_channels}, {self.num_layers})"


def _power(base: Tensor, exponent: float | Tensor) -> Tensor:
    # Zero to a positive power is zero, with slope zero: a power below one would hand autograd 0 * inf.
    positive = base > 0
    return torch.where(positive, torch.where(positive, base, 1) ** exponent, 0)
