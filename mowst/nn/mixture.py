r"""The mixture of predictions under confidences: the one formula of training, validation and test."""

from collections.abc import Sequence

import torch
from torch import Tensor

MIXES = ("prob", "logit")


def nested(values: Sequence[Tensor], confidences: Sequence[Tensor]) -> Tensor:
    r"""The expectation of the experts' values under their confidences,

    .. math::
        m_k = C_k \, v_k + (1 - C_k) \, m_{k+1}, \qquad m_K = v_K

    where expert :math:`k` answers with probability :math:`C_k` and else passes the node on to the next; of two
    experts, :math:`m_1 = C \, v_1 + (1 - C) \, v_2`. Returns :math:`m_1`.

    Shapes:
        - **values:** :math:`K` of :math:`(N)` or :math:`(N, C)`; **confidences:** :math:`K - 1` of :math:`(N)`
    """
    mixed = values[-1]
    for value, confidence in reversed(list(zip(values[:-1], confidences, strict=True))):
        c = confidence.unsqueeze(-1) if value.dim() == 2 else confidence
        mixed = c * value + (1 - c) * mixed
    return mixed


def shares(confidences: Sequence[Tensor]) -> list[Tensor]:
    r"""The share of each expert in the answer, :math:`s_k = C_k \prod_{j<k} (1 - C_j)` and
    :math:`s_K = \prod_{j<K} (1 - C_j)`, which sum to one.

    Shapes:
        - **confidences:** :math:`K - 1` of :math:`(N)`; **output:** :math:`K` of :math:`(N)`
    """
    left, parts = torch.ones_like(confidences[0]), []
    for confidence in confidences:
        parts.append(confidence * left)
        left = left * (1 - confidence)
    return [*parts, left]


def mixture_log_prob(logits: Sequence[Tensor], confidences: Sequence[Tensor], mix: str = "prob") -> Tensor:
    r"""The logarithm of the mixed class probabilities, of two experts

    .. math::
        \texttt{prob:} \quad & \log \left( C \, \mathbf{p} + (1 - C) \, \mathbf{p}' \right), \quad
        \mathbf{p} = \mathrm{softmax}(\mathbf{z}), \; \mathbf{p}' = \mathrm{softmax}(\mathbf{z}')

        \texttt{logit:} \quad & \mathrm{log\,softmax} \left( C \, \mathbf{z} + (1 - C) \, \mathbf{z}' \right)

    of the `"Mixture of Weak & Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_ paper, whose text mixes
    predictions and whose figure mixes logits; of more, as :func:`nested` tells. The first is evaluated as a
    log-sum-exp, and is therefore finite wherever the logits are; at :math:`C = 0` and :math:`C = 1` both are exactly
    one expert's, gradients included.

    Args:
        logits (list[Tensor]): logits of :math:`K` experts, weak to strong.
        confidences (list[Tensor]): confidences of all experts but the last.
        mix (str): :obj:`"prob"` or :obj:`"logit"`. (default: :obj:`"prob"`)

    Shapes:
        - **logits:** :math:`(N, C)` each; **confidences:** :math:`(N)` each; **output:** :math:`(N, C)`
    """
    if mix == "logit":
        return nested(logits, confidences).log_softmax(dim=-1)
    mixed = logits[-1].log_softmax(dim=-1)
    for value, confidence in reversed(list(zip(logits[:-1], confidences, strict=True))):
        c = confidence.unsqueeze(-1)
        mixed = torch.logaddexp(_log(c) + value.log_softmax(dim=-1), _log(1 - c) + mixed)
    return mixed


def mixture_prob(logits: Sequence[Tensor], confidences: Sequence[Tensor], mix: str = "prob") -> Tensor:
    r"""The mixed class probabilities themselves, where no logarithm of them is needed, see
    :func:`mixture_log_prob`.
    """
    if mix == "logit":
        return nested(logits, confidences).softmax(dim=-1)
    return nested([value.softmax(dim=-1) for value in logits], confidences)


def most_probable(values: Tensor) -> Tensor:
    r"""The classes :math:`(N)` of the largest of probabilities or logits :math:`(N, C)`.

    Raises:
        FloatingPointError: if a value is NaN, which would be answered as if it were the largest.
    """
    if count := int(values.isnan().any(dim=-1).sum()):
        raise FloatingPointError(f"{count} of {values.size(0)} predictions are NaN")
    return values.argmax(dim=-1)


def candidate_mixes(mix: str) -> tuple[str, ...]:
    r"""What :obj:`mix` leaves to training to choose from: one of :obj:`MIXES`, or with :obj:`"auto"` all.

    Raises:
        ValueError: if it is none of them.
    """
    if mix not in (known := ("auto", *MIXES)):
        raise ValueError(f"unknown mix '{mix}', choose from {list(known)}")
    return MIXES if mix == "auto" else (mix,)


def _log(share: Tensor) -> Tensor:
    # The logarithm of a share of zero, or so near that its slope overflows, is cut off from autograd: an infinite slope
    # would end as NaN.
    positive = share >= torch.finfo(share.dtype).tiny
    return torch.where(positive, share, 1).log().masked_fill(~positive, -torch.inf)
