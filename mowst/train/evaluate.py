r"""The scores of a model and of its experts on the splits of a task."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mowst.nn.evaluating import evaluating
from mowst.nn.mowst import EXPERTS, Mowst
from mowst.nn.softmax import softmax
from mowst.notebook import make_html
from mowst.task import GraphTask
from mowst.train.inputs import TaskInputs
from mowst.train.plots import plot_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scores = dict[str, float]


@dataclass(frozen=True)
class FitResult:
    r"""The result of :func:`~mowst.train.fit`. Scores are values of the task's metric, as
    fractions. For an inductive task, those of the train and val nodes are computed on the graph
    without test nodes.

    Args:
        method: The method.
        route: What the selected model predicts with, see :attr:`mowst.nn.mowst.Mowst.route`.
        train, val, test: The score of :meth:`~mowst.Mowst.predict` on each split; test is None
            without a test split.
        expected: The exact expected test score of sampled routing; None for a metric without one.
        deferred_share: The mean of 1 - confidence over the test nodes, or the val nodes without a
            test split.
        scores: The score of "weak", "strong" and "mixture" in the selected model on each split,
            whatever the route. For a method of one expert, of that expert.
        alone: The score of each expert on each split right after it was trained alone.
        start: The score on each split before the first round.
        choices: The cross-validated loss of each choice in the last accepted fit of the gate.
        chosen: The choice of that fit.
        history: One record per evaluated epoch.
        seconds: The duration of training.
    """

    method: str
    route: str
    train: float
    val: float
    test: float | None
    expected: float | None
    deferred_share: float
    scores: dict[str, Scores]
    alone: dict[str, Scores] = field(default_factory=dict)
    start: Scores = field(default_factory=dict)
    choices: dict[str, float] = field(default_factory=dict)
    chosen: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    seconds: float = 0.0

    def plot(self) -> "Figure":
        r"""Plots the history, see :func:`~mowst.train.plots.plot_history`."""
        return plot_history(self.history)

    def _repr_html_(self) -> str:
        splits = list(next(iter(self.scores.values())))
        rows = [("score, %", *splits)]
        for part, scores in self.scores.items():
            rows.append((part, *[f"{100 * scores[split]:.2f}" for split in splits]))
        rows.append(("predicts with", self.route))
        rows.append(("deferred", f"{100 * self.deferred_share:.1f} %"))
        rows.append(("training", f"{self.seconds:.1f} s"))
        return make_html(self.method, rows)


@torch.no_grad()
def score_model(model: Mowst, task: GraphTask, inputs: TaskInputs | None = None) -> dict[str, Any]:
    r"""Returns the fields of :class:`FitResult` that are scores of the model as it is. The inputs
    of the task are made unless they are at hand.
    """
    inputs = inputs or TaskInputs(model, task)
    probs, confidence = predict_probs(model, inputs)
    scores = _score_probs(model, inputs, probs)
    if model.route != "mixture":
        confidence = torch.full_like(confidence, float(model.route == "weak"))
    split = task.splits[-1]  # the test nodes, if there are any
    expected = None
    if "test" in task.splits:
        expected = task.expected(probs["weak"], probs["strong"], confidence, "test")
    return {
        "route": model.route,
        **_complete(scores[model.route]),
        "expected": expected,
        "deferred_share": float((1 - confidence[task.index(split)]).mean()),
        "scores": scores,
    }


@torch.no_grad()
def score_single(model: Mowst, inputs: TaskInputs, expert: str) -> dict[str, Any]:
    r"""Returns the same fields for a model of which one expert was trained alone."""
    scores = score_expert(model, inputs, expert)
    return {
        "route": expert,
        **_complete(scores),
        "expected": scores.get("test") if inputs.task.has_expected else None,
        "deferred_share": float(expert == "strong"),
        "scores": {expert: scores},
    }


@torch.no_grad()
def score_part(model: Mowst, inputs: TaskInputs, part: str) -> Scores:
    r"""Returns the score on each split of the :obj:`"weak"` or :obj:`"strong"` expert, or for
    :obj:`"mixture"`, of what the model predicts with.
    """
    if part != "mixture":
        return score_expert(model, inputs, part)
    return _score_probs(model, inputs, predict_probs(model, inputs)[0])[model.route]


@torch.no_grad()
def score_expert(model: Mowst, inputs: TaskInputs, expert: str) -> Scores:
    r"""Returns the score of one expert on each split."""
    with evaluating(model):
        logits = model.logits(expert, inputs.x, inputs.graph)
    scores = evaluate_splits(softmax(logits), inputs.task)
    if inputs.visible is not inputs:
        scores |= score_expert(model, inputs.visible, expert)
    return scores


def evaluate_splits(prob: Tensor, task: GraphTask) -> Scores:
    r"""Returns the task's metric of class probabilities :math:`(N, C)` on each split."""
    return {split: task.evaluate(prob, split) for split in task.splits}


@torch.no_grad()
def predict_probs(model: Mowst, inputs: TaskInputs) -> tuple[dict[str, Tensor], Tensor]:
    r"""Returns the class probabilities of both experts and of the mixture, whatever the route, and
    the confidence.

    Shapes:
        - **output:** :math:`(N, C)` by name, and :math:`(N)`
    """
    with evaluating(model):
        out = model.outputs(inputs.x, inputs.graph)
    probs = {name: softmax(getattr(out, name)) for name in EXPERTS}
    return {**probs, "mixture": out.prob}, out.confidence


def _score_probs(model: Mowst, inputs: TaskInputs, probs: dict[str, Tensor]) -> dict[str, Scores]:
    scores = {name: evaluate_splits(prob, inputs.task) for name, prob in probs.items()}
    visible = inputs.visible
    if visible is not inputs:
        # Train and val nodes are scored on the graph that training saw.
        for name, prob in predict_probs(model, visible)[0].items():
            scores[name] |= evaluate_splits(prob, visible.task)
    return scores


def _complete(scores: Scores) -> dict[str, float | None]:
    return {split: scores.get(split) for split in ("train", "val", "test")}
