r"""The temperature that an answer should have, of the `"On Calibration of Modern Neural Networks"
<https://arxiv.org/abs/1706.04599>`_ paper.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

STEPS = 8
LARGEST = math.exp(3)


def temperature(logits: Tensor, y: Tensor, class_weight: Tensor | None = None) -> float:
    r"""The :math:`T` in :math:`[e^{-3}, e^3]` that minimises the cross-entropy of :math:`\mathbf{z} / T`.

    Shapes:
        - **logits:** :math:`(n, C)`, **y:** :math:`(n)`, **class_weight:** :math:`(C)`
    """
    weight = None if class_weight is None else class_weight.double()
    return 1 / float(_fit(logits.detach().double(), y, weight, 4 * STEPS)[0])


def calibrated_nll(prob: Tensor, y: Tensor, class_weight: Tensor | None = None) -> Tensor:
    r"""The mean negative log-likelihood of :math:`\mathrm{softmax}(\log(\mathbf{p}) / T)` with the :math:`T` in
    :math:`[e^{-3}, e^3]` that minimises it; never above that of :math:`T = 1`.

    Shapes:
        - **prob:** :math:`(n, C)`, **y:** :math:`(n)`, **class_weight:** :math:`(C)`, **output:** a scalar
    """
    return _fit(prob.clamp(min=torch.finfo(prob.dtype).tiny).log(), y, class_weight, STEPS)[1]


def _fit(z: Tensor, y: Tensor, class_weight: Tensor | None, steps: int) -> tuple[Tensor, Tensor]:
    # Newton's steps in b = 1 / T, in which the loss is convex: its slope is the mean of E[z] - z_y, its curvature that
    # of Var[z], both under softmax(b z). A step at most quadruples b or divides it by four. Nothing waits for a GPU.
    share = torch.ones_like(y, dtype=z.dtype) if class_weight is None else class_weight.to(z.dtype)[y]
    share = share / share.sum()
    true = z.gather(1, y.unsqueeze(1)).squeeze(1)
    b = best = torch.ones((), dtype=z.dtype, device=z.device)
    least = cross_entropy(z, y, weight=class_weight)
    for _ in range(steps):
        p = (b * z).softmax(dim=-1)
        mean = (p * z).sum(dim=-1)
        slope = share @ (mean - true)
        curvature = share @ (p * (z - mean.unsqueeze(1)).square()).sum(dim=-1)
        b = (b - slope / curvature.clamp(min=torch.finfo(z.dtype).tiny)).clamp(b / 4, 4 * b).clamp(1 / LARGEST, LARGEST)
        loss = share @ -(b * z).log_softmax(dim=-1).gather(1, y.unsqueeze(1)).squeeze(1)
        better = loss < least
        best, least = torch.where(better, b, best), torch.where(better, loss, least)
    return best, least
