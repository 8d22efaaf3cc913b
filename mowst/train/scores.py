r"""The scores of a model and of its experts on the splits of a task, all from one forward."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mowst.nn.cascade import Cascade
from mowst.nn.evaluating import evaluating
from mowst.nn.mixture import shares
from mowst.task import GraphTask
from mowst.train.answers import expert_logits


@dataclass(frozen=True)
class FitResult:
    r"""What training reached. Scores are values of the task's metric, as fractions; of an inductive task, train and val
    are those on the graph without test nodes, which training saw.

    Args:
        method: the method.
        route: who answers in the selected model, see :attr:`mowst.nn.cascade.Cascade.route`.
        train, val, test: the score of what :meth:`~mowst.Mowst.predict` answers.
        expected: the exact expected test score of sampled routing; None where the metric has no such form.
        weak_share: the share of the test nodes' answers that is the weak expert's (the mean confidence).
        shares: the same for every expert, by name.
        scores: for "weak", "strong" and "mixture" (in a cascade: every expert's name), the score of that part of the
            selected model on every split; the mixture is the gates', whatever the route.
        alone: the same for each expert that was trained by itself, as it was then.
        start: the score, on every split, of who was chosen to answer before any turn; only where confidences are fitted
            to validation nodes.
        choices: there also the cross-validated loss of all who could answer, see
            :class:`~mowst.train.stacking.Stacked`.
        chosen: which of these answers.
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
    shares: dict[str, float]
    scores: dict[str, dict[str, float]]
    alone: dict[str, dict[str, float]] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    choices: dict[str, float] = field(default_factory=dict)
    chosen: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    seconds: float = 0.0


@torch.no_grad()
def score_model(model: Cascade, task: GraphTask) -> dict[str, Any]:
    r"""The score fields of :class:`FitResult`, from one forward in evaluation mode; of an inductive task from a second
    one, which scores train and val where no test node is seen.
    """
    probs, gates = answers(model, task)
    scores = _score_parts(model, task, probs)
    parts = dict(zip(model.expert_names, shares(model.routed(gates)), strict=True))
    mean_shares = {name: float(share[task.index("test")].mean()) for name, share in parts.items()}
    return {
        "route": model.route,
        **scores[model.route],
        "expected": task.expected([probs[name] for name in parts], list(parts.values()), "test"),
        "weak_share": mean_shares[model.expert_names[0]],
        "shares": mean_shares,
        "scores": scores,
    }


@torch.no_grad()
def score_route(model: Cascade, task: GraphTask) -> dict[str, float]:
    r"""The score of who answers on every split, as in :func:`score_model`."""
    return _score_parts(model, task, answers(model, task)[0])[model.route]


@torch.no_grad()
def score_expert(model: Cascade, task: GraphTask, expert: str) -> dict[str, float]:
    r"""The score of one expert of the model, by name, on every split, as in :func:`score_model`."""
    with evaluating(model):
        logits = expert_logits(model, model.expert_names.index(expert), task)
    scores = evaluate_splits(logits.softmax(dim=-1), task)
    return scores if task.visible is task else scores | score_expert(model, task.visible, expert)


def _score_parts(model: Cascade, task: GraphTask, probs: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    scores = {name: evaluate_splits(prob, task) for name, prob in probs.items()}
    if task.visible is not task:
        for name, prob in answers(model, task.visible)[0].items():
            scores[name] |= evaluate_splits(prob, task.visible)
    return scores


def evaluate_splits(prob: Tensor, task: GraphTask) -> dict[str, float]:
    r"""The task's metric of class probabilities :math:`(N, C)` on every split."""
    return {split: task.evaluate(prob, split) for split in task.splits}


def answers(model: Cascade, task: GraphTask) -> tuple[dict[str, Tensor], list[Tensor]]:
    r"""The class probabilities :math:`(N, C)` of every expert by name and of the gates' mixture, whatever the route;
    and the gates' confidences :math:`(N)`.
    """
    with evaluating(model):
        logits = [expert_logits(model, k, task) for k, _ in enumerate(model.expert_names)]
        gates = [model.gate(k, logits[k], task.data.x) for k, _ in enumerate(model.gate_names)]
    probs = {name: z.softmax(dim=-1) for name, z in zip(model.expert_names, logits, strict=True)}
    return probs | {"mixture": model.mixture(logits, gates)}, gates
