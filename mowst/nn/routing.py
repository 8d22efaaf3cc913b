r"""Conditional execution: the strong expert runs for the deferred nodes."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Rule = Callable[[Tensor], Tensor]


def routing_rule(
    threshold: float | None, budget: float | None, sample: bool, generator: torch.Generator | None
) -> Rule | None:
    r"""Returns the function that maps confidences :math:`(n)` to the mask :math:`(n)` of deferred
    nodes, or :obj:`None` if no choice is made.

    Raises:
        ValueError: If more than one choice is made, the budget is not in :math:`[0, 1]`, or the
            threshold is NaN.
    """
    if (threshold is not None) + (budget is not None) + sample > 1:
        raise ValueError("give one of threshold, budget and sample=True")
    if budget is not None and not 0 <= budget <= 1:
        raise ValueError(f"budget is the share of nodes to defer, in [0, 1], got {budget}")
    if threshold is not None:
        if math.isnan(threshold):
            raise ValueError("threshold is the least confidence of the weak expert, got nan")
        return lambda confidence: ~(confidence >= threshold)  # NaN is deferred
    if budget is not None:
        return lambda confidence: _lowest(confidence, count_share(budget, confidence.numel()))
    if sample:
        return lambda confidence: ~(_draw(confidence, generator) < confidence)
    return None


def route_nodes(
    rule: Rule,
    compute_logits: Callable[[str, Tensor | None], Tensor],
    compute_confidence: Callable[[Tensor, Tensor | None], Tensor],
    nodes: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Predicts each node with one expert.

    Args:
        rule (callable): See :func:`routing_rule`.
        compute_logits (callable): :obj:`compute_logits(expert, nodes)` returns the logits of an
            expert for some nodes.
        compute_confidence (callable): :obj:`compute_confidence(weak, nodes)` returns the confidence
            in the weak logits of some nodes.
        nodes (torch.Tensor, optional): The ids of the nodes to predict. All nodes if :obj:`None`.
            (default: :obj:`None`)

    Returns:
        tuple: The logits of the expert that predicts, :math:`(n, C)`, the confidence, :math:`(n)`,
            and whether the node is deferred, :math:`(n)`.
    """
    out = compute_logits("weak", nodes).clone()
    confidence = compute_confidence(out, nodes)
    deferred = rule(confidence)
    at = deferred.nonzero().view(-1)
    if at.numel() > 0:
        out[at] = compute_logits("strong", at if nodes is None else nodes[at])
    return out, confidence, deferred


def count_share(share: float, num_nodes: int) -> int:
    r"""Returns a share of a number of nodes, rounded down: 29 of 100 for 0.29, although the product
    of floating point numbers is below 29.
    """
    return math.floor(round(share * num_nodes, 6))


def _draw(confidence: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(
        confidence.shape, generator=generator, device=confidence.device, dtype=confidence.dtype
    )


def _lowest(confidence: Tensor, count: int) -> Tensor:
    chosen = confidence.argsort(stable=True)[:count]
    return torch.zeros_like(confidence, dtype=torch.bool).index_fill(0, chosen, True)
