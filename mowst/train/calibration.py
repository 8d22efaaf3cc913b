r"""Temperature scaling, from the `"On Calibration of Modern Neural Networks"
<https://arxiv.org/abs/1706.04599>`_ paper.
"""

import math

import torch
from torch import Tensor

from mowst.labels import flatten_labels

MAX_STEPS = 32
LARGEST = math.exp(3)


def calibrated_nll(prob: Tensor, y: Tensor, class_weight: Tensor | None = None) -> Tensor:
    r"""Returns the mean negative log-likelihood of :math:`\mathrm{softmax}(\log(\mathbf{p}) / T)`
    for the
    :math:`T \in [e^{-3}, e^3]` that minimises it, found to a thousandth of :math:`T`. It is never
    above the one of
    :math:`T = 1`, and infinite if a probability is NaN.

    Shapes:
        - **prob:** :math:`(n, C)`, **y:** :math:`(n)`, **class_weight:** :math:`(C)`
        - **output:** a scalar
    """
    z = prob.clamp(min=torch.finfo(prob.dtype).tiny).log()
    return minimise_nll(z, y, class_weight, tolerance=1e-3)[1]


def minimise_nll(
    z: Tensor, y: Tensor, class_weight: Tensor | None, tolerance: float
) -> tuple[Tensor, Tensor]:
    r"""Returns the :math:`b = 1 / T` that minimises the cross-entropy of :math:`b \, \mathbf{z}`,
    and the minimum.

    Newton's method in :math:`b`, in which the loss is convex: its slope is the mean of
    :math:`\mathbb{E}[z] - z_y` and its curvature the mean of :math:`\mathrm{Var}[z]`, both under
    :math:`\mathrm{softmax}(b \, \mathbf{z})`. A step at most quadruples :math:`b` or divides it by
    four.

    Args:
        z (torch.Tensor): The logits.
        y (torch.Tensor): The labels.
        class_weight (torch.Tensor, optional): The weight of each class.
        tolerance (float): The relative step at which the search ends.

    Shapes:
        - **z:** :math:`(n, C)`, **y:** :math:`(n)`, **class_weight:** :math:`(C)`; or
          :math:`(n, L, 2)` and :math:`(n, L)`
    """
    if y.dim() == 2:
        z, y, share = flatten_labels(z, y)
    elif class_weight is None:
        share = torch.ones_like(y, dtype=z.dtype)
    else:
        share = class_weight.to(z.dtype)[y]
    share, label = share / share.sum(), y.unsqueeze(1)
    true = z.gather(1, label).squeeze(1)
    b = best = z.new_ones(())
    least = z.new_full((), math.inf)
    for _ in range(MAX_STEPS):
        log_p = (b * z).log_softmax(dim=-1)
        loss = -(share @ log_p.gather(1, label).squeeze(1))
        if loss < least:
            best, least = b, loss
        p = log_p.exp()
        mean = (p * z).sum(dim=-1)
        slope = share @ (mean - true)
        curvature = share @ (p * (z - mean.unsqueeze(1)).square()).sum(dim=-1)
        step = slope / curvature.clamp(min=torch.finfo(z.dtype).tiny)
        before, b = b, (b - step).clamp(b / 4, 4 * b).clamp(1 / LARGEST, LARGEST)
        if (b - before).abs() <= tolerance * before:
            break
    return best, least
