r"""Conditional execution: an expert runs for the nodes that reach it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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


def routed_labels(
    model: "Cascade", rule: Rule, x: Tensor, edge_index: Any, edge_weight: Tensor | None, **kwargs: Any
) -> Tensor:
    r"""The label of each node by the one expert that answers it. Each expert computes the nodes that its predecessors
    passed on, see :func:`~mowst.nn.contract.call_expert`.
    """
    labels = torch.zeros(x.size(0), dtype=torch.long, device=x.device)
    nodes: Tensor | None = None
    for k in range(len(model.expert_names)):
        last = k == len(model.gate_names)
        logits = model.logits(k, x, edge_index, edge_weight, nodes=nodes, **kwargs if last else {})
        labels[slice(None) if nodes is None else nodes] = logits.argmax(dim=-1)
        if last:
            break
        passed = ~rule(model.gate(k, logits, x if nodes is None else x[nodes]))
        nodes = passed.nonzero().view(-1) if nodes is None else nodes[passed]
        if nodes.numel() == 0:
            break
    return labels


def _least(confidence: Tensor, count: int) -> Tensor:
    chosen = confidence.argsort(stable=True)[:count]
    return torch.zeros_like(confidence, dtype=torch.bool).index_fill(0, chosen, True)
