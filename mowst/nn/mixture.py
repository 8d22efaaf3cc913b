r"""The mixture of two predictions under a confidence: the one formula of training, validation and test."""

import torch
from torch import Tensor

MIXES = ("prob", "logit")


def mixture_log_prob(weak: Tensor, strong: Tensor, confidence: Tensor, mix: str = "prob") -> Tensor:
    r"""The logarithm of the mixed class probabilities

    .. math::
        \texttt{prob:} \quad & \log \left( C \, \mathbf{p} + (1 - C) \, \mathbf{p}' \right), \quad
        \mathbf{p} = \mathrm{softmax}(\mathbf{z}), \; \mathbf{p}' = \mathrm{softmax}(\mathbf{z}')

        \texttt{logit:} \quad & \mathrm{log\,softmax} \left( C \, \mathbf{z} + (1 - C) \, \mathbf{z}' \right)

    of the `"Mixture of Weak & Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_ paper, whose text mixes
    predictions and whose figure mixes logits. The first is evaluated as a log-sum-exp, and is therefore finite
    wherever the logits are; at :math:`C = 0` and :math:`C = 1` both are exactly one expert's, gradients included.

    Args:
        weak (Tensor): weak logits :math:`\mathbf{z}` of shape :math:`(N, C)`.
        strong (Tensor): strong logits :math:`\mathbf{z}'` of shape :math:`(N, C)`.
        confidence (Tensor): confidence of shape :math:`(N)`.
        mix (str): :obj:`"prob"` or :obj:`"logit"`. (default: :obj:`"prob"`)

    Returns:
        Tensor: log-probabilities of shape :math:`(N, C)`.
    """
    c = confidence.unsqueeze(-1)
    if mix == "logit":
        return (c * weak + (1 - c) * strong).log_softmax(dim=-1)
    return torch.logaddexp(_log(c) + weak.log_softmax(dim=-1), _log(1 - c) + strong.log_softmax(dim=-1))


def mixture_prob(weak: Tensor, strong: Tensor, confidence: Tensor, mix: str = "prob") -> Tensor:
    r"""The mixed class probabilities themselves, where no logarithm of them is needed, see
    :func:`mixture_log_prob`.
    """
    c = confidence.unsqueeze(-1)
    if mix == "logit":
        return (c * weak + (1 - c) * strong).softmax(dim=-1)
    return c * weak.softmax(dim=-1) + (1 - c) * strong.softmax(dim=-1)


def check_mix(mix: str) -> str:
    if mix not in MIXES:
        raise ValueError(f"unknown mix '{mix}', choose from {list(MIXES)}")
    return mix


def _log(share: Tensor) -> Tensor:
    # The logarithm of a zero share is cut off from autograd, which would make a NaN of its infinite slope.
    positive = share > 0
    return torch.where(positive, share, 1).log().masked_fill(~positive, -torch.inf)
