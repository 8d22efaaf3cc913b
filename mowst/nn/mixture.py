r"""The mixture of two predictions under a confidence: one formula for training, validation and
test.
"""

import torch
from torch import Tensor

from mowst.nn.softmax import log_softmax, softmax

MIXES = ("prob", "logit")


def mix_values(weak: Tensor, strong: Tensor, confidence: Tensor) -> Tensor:
    r"""Mixes two values under the confidence of the weak expert

    .. math::
        C_v \, \mathbf{a}_v + (1 - C_v) \, \mathbf{b}_v

    Shapes:
        - **weak**, **strong:** :math:`(N)`, :math:`(N, C)` or :math:`(N, L, 2)`
        - **confidence:** :math:`(N)`
    """
    share = _spread(confidence, weak)
    return share * weak + (1 - share) * strong


def mixture_prob(weak: Tensor, strong: Tensor, confidence: Tensor, mix: str = "prob") -> Tensor:
    r"""Returns the class probabilities of the mixture, see :func:`mixture_log_prob`.

    Shapes:
        - **weak**, **strong:** logits :math:`(N, C)` or :math:`(N, L, 2)`
        - **confidence:** :math:`(N)`
        - **output:** as the logits
    """
    if mix == "logit":
        return softmax(mix_values(weak, strong, confidence)).contiguous()
    return mix_values(softmax(weak), softmax(strong), confidence).contiguous()


def mixture_log_prob(weak: Tensor, strong: Tensor, confidence: Tensor, mix: str = "prob") -> Tensor:
    r"""Returns the logarithm of the class probabilities of the mixture from the `"Mixture of Weak &
    Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_ paper

    .. math::
        \texttt{prob:} \quad & \log \left( C \, \mathbf{p} + (1 - C) \, \mathbf{p}' \right), \quad
        \mathbf{p} = \mathrm{softmax}(\mathbf{z}), \; \mathbf{p}' = \mathrm{softmax}(\mathbf{z}')

        \texttt{logit:} \quad & \mathrm{log\,softmax} \left( C \, \mathbf{z} + (1 - C) \,
        \mathbf{z}' \right)

    where :math:`\mathbf{z}` are the weak logits, :math:`\mathbf{z}'` the strong logits and
    :math:`C` the confidence. The text of the paper mixes probabilities and its figure mixes logits.
    The first form is computed as a log-sum-exp and is finite wherever the logits are. At :math:`C =
    0` and :math:`C = 1` both forms, and their gradients, are exactly those of one expert.

    Args:
        weak (torch.Tensor): The logits of the weak expert.
        strong (torch.Tensor): The logits of the strong expert.
        confidence (torch.Tensor): The confidence in the weak expert.
        mix (str, optional): :obj:`"prob"` or :obj:`"logit"`. (default: :obj:`"prob"`)

    Shapes:
        - **weak**, **strong:** :math:`(N, C)` or :math:`(N, L, 2)`
        - **confidence:** :math:`(N)`
        - **output:** as the logits
    """
    if mix == "logit":
        return log_softmax(mix_values(weak, strong, confidence))
    share = _spread(confidence, weak)
    return torch.logaddexp(
        _log_share(share) + log_softmax(weak),
        _log_share(1 - share) + log_softmax(strong),
    )


def most_probable(values: Tensor) -> Tensor:
    r"""Returns the class of the largest probability or logit of each row. For several labels, it is
    0 or 1 for each.

    Shapes:
        - **values:** :math:`(N, C)` or :math:`(N, L, 2)`
        - **output:** :math:`(N)` or :math:`(N, L)`

    Raises:
        FloatingPointError: If a value is NaN, which :func:`torch.max` returns as the largest.
    """
    largest, classes = values.contiguous().max(dim=-1)
    if largest.isnan().any():
        count = int(values.isnan().flatten(start_dim=1).any(dim=-1).sum())
        raise FloatingPointError(f"{count} of {values.size(0)} predictions are NaN")
    return classes


def candidate_mixes(mix: str) -> tuple[str, ...]:
    r"""Returns the mixing spaces that training may choose from: one of :obj:`MIXES`, or all for
    :obj:`"auto"`.

    Raises:
        ValueError: If :obj:`mix` is unknown.
    """
    if mix == "auto":
        return MIXES
    if mix not in MIXES:
        raise ValueError(f"unknown mix '{mix}', choose from {['auto', *MIXES]}")
    return (mix,)


def _spread(confidence: Tensor, values: Tensor) -> Tensor:
    # The confidence of each node, with as many dimensions as the values.
    for _ in range(values.dim() - 1):
        confidence = confidence.unsqueeze(-1)
    return confidence


def _log_share(share: Tensor) -> Tensor:
    # A share of zero has an infinite slope, which would end as NaN: it gets no gradient.
    positive = share >= torch.finfo(share.dtype).tiny
    return torch.where(positive, share, 1).log().masked_fill(~positive, -torch.inf)
