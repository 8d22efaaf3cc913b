r"""Conditional execution: an expert runs for the nodes that reach it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mowst.nn.cascade import Cascade

Rule = Callable[[Tensor], Tensor]


def routing_rule(
    threshold: float | None, budget: float | None, sample: bool, generator: torch.Generator | None
) -> Rule | None:
    r"""Which of the nodes that reach an expert it answers, given its confidence :math:`(n)` in them, as a mask
    :math:`(n)`; :obj:`None` where no choice is made.

    Raises:
        ValueError: if two choices are made, or the budget is no share.
    """
    if (threshold is not None) + (budget is not None) + sample > 1:
        raise ValueError("give one of threshold, budget and sample=True")
    if budget is not None and not 0 <= budget <= 1:
        raise ValueError(f"budget is the share of nodes that go to the strong expert, in [0, 1], got {budget}")
    if threshold is not None:
        return lambda c: c >= threshold
    if budget is not None:
        return lambda c: ~_least(c, int(budget * c.numel()))
    if sample:
        return lambda c: torch.rand(c.shape, generator=generator, device=c.device, dtype=c.dtype) < c
    return None


def routed(
    model: "Cascade",
    rule: Rule,
    x: Tensor,
    logits: Callable[[int, Tensor | None], Tensor],
    nodes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Each node is answered by one expert; each expert is asked for the nodes that its predecessors passed on.

    Args:
        model (Cascade): the model, for its gates.
        rule (callable): see :func:`routing_rule`.
        x (Tensor): the features of all nodes, :math:`(N, F)`.
        logits (callable): :obj:`logits(k, nodes)`, the logits of expert :math:`k` for some nodes.
        nodes (Tensor, optional): ids of the :math:`n` nodes to answer, by default all. (default: :obj:`None`)

    Returns:
        tuple: the logits of the expert that answers, :math:`(n, C)`, and its number, :math:`(n)`.
    """
    answer = logits(0, nodes).clone()
    expert = torch.zeros(answer.size(0), dtype=torch.long, device=answer.device)
    at, asked, latest = torch.arange(answer.size(0), device=answer.device), nodes, answer
    for k in range(len(model.gate_names)):
        passed = ~rule(model.gate(k, latest, x if asked is None else x[asked]))
        at = at[passed]
        if at.numel() == 0:
            break
        asked = at if nodes is None else nodes[at]
        latest = logits(k + 1, asked)
        answer[at], expert[at] = latest, k + 1
    return answer, expert


def _least(confidence: Tensor, count: int) -> Tensor:
    chosen = confidence.argsort(stable=True)[:count]
    return torch.zeros_like(confidence, dtype=torch.bool).index_fill(0, chosen, True)
