r"""The dispersion of a prediction: 0 at the uniform vector, 1 at a one-hot vector, and convex.

The dispersion of a node with :math:`L` labels is the mean of those of its two-class predictions,

.. math::
    D(\mathbf{p}_v) = \frac{1}{L} \sum_{l=1}^{L} D \left( [1 - p_{v, l}, \, p_{v, l}] \right),

which is 0 where each :math:`p_{v, l} = 1/2`, 1 where each label is certain, and convex. For the
variance it is the mean of :math:`(2 \, p_{v, l} - 1)^2`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mowst.labels import average_labels


def two_class_logits(logits: Tensor) -> Tensor:
    r"""Expands the one logit :math:`z` of a binary output to the two logits :math:`[0, z]` of the
    same distribution. Returns logits of two or more classes, or of several labels, as they are.

    Shapes:
        - **logits:** :math:`(N)`, :math:`(N, 1)`, :math:`(N, C)` or :math:`(N, L, 2)`
        - **output:** :math:`(N, 2)`, :math:`(N, C)` or :math:`(N, L, 2)`

    Raises:
        ValueError: If the logits are of another shape.
    """
    if logits.dim() == 3 and logits.size(2) == 2:
        return logits
    if logits.dim() not in (1, 2):
        raise ValueError(
            f"logits must have shape [N, C] (or [N] for two classes), got {list(logits.shape)}"
        )
    if logits.dim() == 2 and logits.size(1) != 1:
        return logits
    logits = logits.reshape(-1, 1)
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def variance_dispersion(logits: Tensor, prob: Tensor | None = None) -> Tensor:
    r"""Returns the variance of the class probabilities, scaled to :math:`[0, 1]`

    .. math::
        D_{\mathrm{var}}(\mathbf{p}) = \frac{n \sum_i p_i^2 - 1}{n - 1}
        = \frac{n}{n - 1} \sum_i \left( p_i - \tfrac{1}{n} \right)^2, \qquad \mathbf{p} =
        \mathrm{softmax}(\mathbf{z})

    from the `"Mixture of Weak & Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_
    paper. The second form is computed, since it cannot cancel below zero.

    Args:
        logits (torch.Tensor): The logits :math:`\mathbf{z}`.
        prob (torch.Tensor, optional): Their :math:`\mathbf{p}`, if it is known. (default:
            :obj:`None`)

    Shapes:
        - **logits:** :math:`(N, n)`, or :math:`(N)` or :math:`(N, 1)` for the one logit of two
          classes, or :math:`(N, L, 2)` for several labels
        - **prob:** :math:`(N, n)` or :math:`(N, L, 2)`
        - **output:** :math:`(N)`
    """
    logits = _check_classes(logits)
    prob = logits.softmax(dim=-1) if prob is None else prob
    num_classes = prob.size(-1)
    squares = (prob - 1 / num_classes).square().sum(dim=-1)
    return average_labels((squares * (num_classes / (num_classes - 1))).clamp(max=1))


def entropy_dispersion(logits: Tensor, prob: Tensor | None = None) -> Tensor:
    r"""Returns the entropy that the class probabilities lack

    .. math::
        D_{\mathrm{ent}}(\mathbf{p}) = 1 - \frac{H(\mathbf{p})}{\log n}, \qquad
        H(\mathbf{p}) = - \sum_i p_i \log p_i, \qquad \log \mathbf{p} =
        \mathrm{log\,softmax}(\mathbf{z})

    from the `"Mixture of Weak & Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_
    paper.

    Args:
        logits (torch.Tensor): The logits :math:`\mathbf{z}`.
        prob (torch.Tensor, optional): Their :math:`\mathbf{p}`, if it is known. (default:
            :obj:`None`)

    Shapes:
        - **logits:** :math:`(N, n)`, or :math:`(N)` or :math:`(N, 1)` for the one logit of two
          classes, or :math:`(N, L, 2)` for several labels
        - **prob:** :math:`(N, n)` or :math:`(N, L, 2)`
        - **output:** :math:`(N)`
    """
    logits = _check_classes(logits)
    if prob is None:
        log_prob = logits.log_softmax(dim=-1)
        entropy = -(log_prob.exp() * log_prob).sum(dim=-1)
    else:
        entropy = torch.special.entr(prob).sum(dim=-1)
    return average_labels((1 - entropy / math.log(logits.size(-1))).clamp(0, 1))


DISPERSIONS: dict[str, Callable[..., Tensor]] = {
    "variance": variance_dispersion,
    "entropy": entropy_dispersion,
}


def resolve_dispersion(name: str) -> Callable[..., Tensor]:
    r"""Returns the dispersion of that name.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in DISPERSIONS:
        raise ValueError(f"unknown dispersion '{name}', choose from {sorted(DISPERSIONS)}")
    return DISPERSIONS[name]


def _check_classes(logits: Tensor) -> Tensor:
    logits = two_class_logits(logits)
    if logits.size(-1) < 2:
        raise ValueError(
            f"dispersion needs at least two classes, got logits of shape {list(logits.shape)}"
        )
    return logits
