r"""Gates: the dispersion of the weak prediction, mapped to a confidence in :math:`[0, 1]`.

A gate is any module :obj:`gate(logits)` or :obj:`gate(logits, x=x)` that maps weak logits of shape
:math:`(N, C)`, or :math:`(N, L, 2)` for several labels, to a confidence of shape :math:`(N)`. If
its forward has an optional :obj:`weak_prob`, it gets the softmax of the logits where that has been
computed, and :obj:`None` otherwise.

These gates follow the `"Mixture of Weak & Strong Experts on Graphs"
<https://arxiv.org/abs/2311.05185>`_ paper.
"""

import torch
from torch import Tensor

from mowst.nn.dispersion import resolve_dispersion
from mowst.nn.registry import register_gate


class PowerGate(torch.nn.Module):
    r"""The fixed gate :math:`C = D(\mathbf{p})^{\alpha}`. At :math:`\alpha = 1` it is the
    dispersion.

    Args:
        alpha (float, optional): The exponent, above zero. (default: :obj:`1.0`)
        dispersion (str, optional): The dispersion, :obj:`"variance"` or :obj:`"entropy"`. (default:
            :obj:`"variance"`)

    Raises:
        ValueError: If :obj:`alpha` is not above zero or the dispersion is unknown.
    """

    def __init__(self, alpha: float = 1.0, dispersion: str = "variance") -> None:
        super().__init__()
        if not alpha > 0:
            raise ValueError(f"alpha must be above zero, got {alpha}")
        resolve_dispersion(dispersion)
        self.alpha = alpha
        self.dispersion = dispersion

    def forward(self, logits: Tensor, weak_prob: Tensor | None = None) -> Tensor:
        return _power(resolve_dispersion(self.dispersion)(logits, weak_prob), self.alpha)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha}, dispersion='{self.dispersion}')"


class StepGate(torch.nn.Module):
    r"""Hard routing: :math:`C = 1` where :math:`D(\mathbf{p}) \geq t`, else :math:`0`.

    Args:
        threshold (float, optional): The threshold :math:`t`, above 0 and at most 1. (default:
            :obj:`0.5`)
        dispersion (str, optional): The dispersion, :obj:`"variance"` or :obj:`"entropy"`. (default:
            :obj:`"variance"`)

    Raises:
        ValueError: If the threshold is outside :math:`(0, 1]` or the dispersion is unknown.
    """

    def __init__(self, threshold: float = 0.5, dispersion: str = "variance") -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
        resolve_dispersion(dispersion)
        self.threshold = threshold
        self.dispersion = dispersion

    def forward(self, logits: Tensor, weak_prob: Tensor | None = None) -> Tensor:
        dispersion = resolve_dispersion(self.dispersion)(logits, weak_prob)
        return (dispersion >= self.threshold).to(dispersion.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(threshold={self.threshold}, dispersion='{self.dispersion}')"


class MonotoneGate(torch.nn.Module):
    r"""The learnable gate :math:`C = 1 - \exp(-a \, D(\mathbf{p})^b)` with :math:`a, b > 0`. By
    construction it is monotone, and zero at the uniform prediction. It starts at :math:`a = b = 1`.

    Args:
        dispersion (str, optional): The dispersion, :obj:`"variance"` or :obj:`"entropy"`. (default:
            :obj:`"variance"`)

    Raises:
        ValueError: If the dispersion is unknown.
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

    def forward(self, logits: Tensor, weak_prob: Tensor | None = None) -> Tensor:
        dispersion = resolve_dispersion(self.dispersion)(logits, weak_prob)
        return -torch.expm1(-self.log_a.exp() * _power(dispersion, self.log_b.exp()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dispersion='{self.dispersion}')"


def _power(base: Tensor, exponent: float | Tensor) -> Tensor:
    # Zero to a positive power is zero, with slope zero: a power below one would hand autograd 0 *
    # inf.
    positive = base > 0
    return torch.where(positive, torch.where(positive, base, 1) ** exponent, 0)


register_gate("power", PowerGate)
register_gate("step", StepGate)
register_gate("monotone", MonotoneGate)
