r"""The temperature that an answer should have, of the `"On Calibration of Modern Neural Networks"
<https://arxiv.org/abs/1706.04599>`_ paper.
"""

import math

import torch
from torch import Tensor

MOST_STEPS = 32
LARGEST = math.exp(3)


def temperature(logits: Tensor, y: Tensor, class_weight: Tensor | None = None) -> float:
    r"""The :math:`T` in :math:`[e^{-3}, e^3]` that minimises the cross-entropy of :math:`\mathbf{z} / T`.

    Shapes:
        - **logits:** :math:`(n, C)`, **y:** :math:`(n)`, **class_weight:** :math:`(C)`
    """
    weight = None if class_weight is None else class_weight.double()
    return 1 / float(_fit(logits.detach().double(), y, weight, 1e-6)[0])


def calibrated_nll(prob: Tensor, y: Tensor, class_weight: Tensor | None = None) -> Tensor:
    r"""The mean negative log-likelihood of :math:`\mathrm{softmax}(\log(\mathbf{p}) / T)` with the :math:`T` in
    :math:`[e^{-3}, e^3]` that minimises it, to a thousandth of :math:`T`; never above that of :math:`T = 1`.
    Infinite where a probability is NaN.

    Shapes:
        - **prob:** :math:`(n, C)`, **y:** :math:`(n)`, **class_weight:** :math:`(C)`, **output:** a scalar
    """
    return _fit(prob.clamp(min=torch.finfo(prob.dtype).tiny).log(), y, class_weight, 1e-3)[1]


def _fit(z: Tensor, y: Tensor, class_weight: Tensor | None, tolerance: float) -> tuple[Tensor, Tensor]:
    # Newton's steps in b = 1 / T, in which the loss is convex: its slope is the mean of E[z] - z_y, its curvature that
    # of Var[z], both under softmax(b z). A step at most quadruples b or divides it by four.
    share = torch.ones_like(y, dtype=z.dtype) if class_weight is None else class_weight.to(z.dtype)[y]
    share, label = share / share.sum(), y.unsqueeze(1)
    true = z.gather(1, label).squeeze(1)
    b = best = z.new_ones(())
    least = z.new_full((), math.inf)
    for _ in range(MOST_STEPS):
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
