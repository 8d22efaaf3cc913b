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
    z: Tensor, y: Tensor, class_weight: Tensor | None, tolerance: float, prior: float = 0.0
) -> tuple[Tensor, Tensor]:
    r"""Returns the :math:`b = 1 / T` that minimises the cross-entropy of :math:`b \, \mathbf{z}`
    plus :math:`\frac{\lambda}{2} \log^2 b`, and the minimum.

    Newton's method in :math:`b`, in which the cross-entropy is convex: its slope is the mean of
    :math:`\mathbb{E}[z] - z_y` and its curvature the mean of :math:`\mathrm{Var}[z]`, both under
    :math:`\mathrm{softmax}(b \, \mathbf{z})`. The other term adds :math:`\lambda \log b / b` and
    :math:`\lambda / b^2`, its curvature at :math:`b = 1`. A step at most quadruples :math:`b` or
    divides it by four.

    Args:
        z (torch.Tensor): The logits.
        y (torch.Tensor): The labels.
        class_weight (torch.Tensor, optional): The weight of each class.
        tolerance (float): The relative step at which the search ends.
        prior (float, optional): The weight :math:`\lambda`. (default: :obj:`0.0`)

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
    share, label = share / share.sum(), y.unsqueeze(0)
    z = z.t().contiguous()  # classes as rows, see mowst.nn.softmax
    true = z.gather(0, label).squeeze(0)
    b = best = z.new_ones(())
    least = z.new_full((), math.inf)
    for _ in range(MAX_STEPS):
        log_p = (b * z).log_softmax(dim=0)
        loss = prior / 2 * b.log().square() - log_p.gather(0, label).squeeze(0) @ share
        if loss < least:
            best, least = b, loss
        p = log_p.exp()
        mean = (p * z).sum(dim=0)
        slope = (mean - true) @ share + prior * b.log() / b
        curvature = (p * (z - mean).square()).sum(dim=0) @ share + prior / b**2
        step = slope / curvature.clamp(min=torch.finfo(z.dtype).tiny)
        before, b = b, (b - step).clamp(b / 4, 4 * b).clamp(1 / LARGEST, LARGEST)
        if (b - before).abs() <= tolerance * before:
            break
    return best, least
