r"""The scores of a model and of its experts on the splits of a task, all from one forward."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mowst.nn.contract import call_expert
from mowst.nn.mowst import Mowst, evaluating
from mowst.task import SPLITS, GraphTask


@dataclass(frozen=True)
class FitResult:
    r"""What training reached. Scores are values of the task's metric, as fractions.

    Args:
        method: the method.
        route: who answers in the selected model, see :attr:`mowst.Mowst.route`.
        train, val, test: the score of what :meth:`~mowst.Mowst.predict` answers.
        expected: the exact expected test score of sampled routing; None where the metric has no such form.
        weak_share: the share of the test nodes' answers that is the weak expert's (the mean confidence).
        scores: for "weak", "strong" and "mixture", the score of that part of the selected model on every split; the
            mixture is the gate's, whatever the route.
        alone: the same for each expert that was trained by itself, as it was then.
        history: one record per evaluated epoch.
        seconds: the duration of training.
    """

    method: str
    route: str
    train: float
    val: float
    test: float
    expected: float | None
    weak_share: float
    scores: dict[str, dict[str, float]]
    alone: dict[str, dict[str, float]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    seconds: float = 0.0


@torch.no_grad()
def score_model(model: Mowst, task: GraphTask) -> dict[str, Any]:
    r"""The score fields of :class:`FitResult`, from one forward in evaluation mode."""
    data = task.data
    with evaluating(model):
        weak = call_expert(model.weak, data.x, data.edge_index, data.edge_weight)
        strong = call_expert(model.strong, data.x, data.edge_index, data.edge_weight)
        confidence = model.gate(weak, data.x)
    share = model.routed(confidence)
    weak_prob, strong_prob = weak.softmax(dim=-1), strong.softmax(dim=-1)
    test = task.index("test")
    return {
        "route": model.route,
        **evaluate_splits(model.mixture(weak, strong, share), task),
        "expected": task.expected(weak_prob, strong_prob, share, "test"),
        "weak_share": float(share[test].mean()),
        "scores": {
            "weak": evaluate_splits(weak_prob, task),
            "strong": evaluate_splits(strong_prob, task),
            "mixture": evaluate_splits(model.mixture(weak, strong, confidence), task),
        },
    }


@torch.no_grad()
def score_expert(model: Mowst, task: GraphTask, expert: str) -> dict[str, float]:
    r"""The score of one expert of the model, :obj:`"weak"` or :obj:`"strong"`, on every split."""
    data = task.data
    with evaluating(model):
        logits = call_expert(getattr(model, expert), data.x, data.edge_index, data.edge_weight)
    return evaluate_splits(logits.softmax(dim=-1), task)


def evaluate_splits(prob: Tensor, task: GraphTask) -> dict[str, float]:
    r"""The task's metric of class probabilities :math:`(N, C)` on every split."""
    return {split: task.evaluate(prob, split) for split in SPLITS}
