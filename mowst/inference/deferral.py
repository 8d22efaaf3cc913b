r"""Deferral: the score against the share of nodes that are passed on to the strong expert, and against its cost."""

import time
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mowst.metrics import expected_score
from mowst.nn.cascade import Cascade
from mowst.nn.dispersion import entropy_dispersion, variance_dispersion
from mowst.nn.evaluating import evaluating
from mowst.task import GraphTask

SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
GRID = tuple(percent / 100 for percent in range(101))


def passed_on(confidence: Tensor, share: float) -> Tensor:
    r"""The probability that a node is passed on where the share :math:`b` of the :math:`n` nodes is, the least
    confident first, and those of equal confidence with equal probability,

    .. math::
        s_v = \min \left( 1, \max \left( 0, \frac{b \, n - |\{ u : c_u < c_v \}|}{|\{ u : c_u = c_v \}|} \right) \right)

    Shapes:
        - **confidence:** :math:`(n)`; **output:** :math:`(n)`
    """
    _, group, count = confidence.unique(return_inverse=True, return_counts=True)
    count = count.double()
    return ((share * len(confidence) - (count.cumsum(dim=0) - count)) / count).clamp(0, 1)[group]


def deferral_curve(
    metric: str, probs: Sequence[Tensor], confidence: Tensor, y: Tensor, shares: Sequence[float] = GRID
) -> np.ndarray:
    r"""The score at each share of nodes that the strong expert answers, see :func:`passed_on` and
    :func:`~mowst.metrics.expected_score`. Of accuracy, a confidence that is the same everywhere gives a straight line.

    Shapes:
        - **probs:** weak and strong class probabilities :math:`(n, C)`; **confidence**, **y:** :math:`(n)`;
          **output:** one score for each share

    Raises:
        ValueError: if the metric has no expected score.
    """
    if metric == "f1":
        raise ValueError("F1 has no expected score: deferral is reported for tasks of accuracy or roc_auc")
    sent = (passed_on(confidence, share) for share in shares)
    return np.array([expected_score(metric, probs, (1 - s, s), y) for s in sent])


@torch.no_grad()
def deferral_curves(
    model: Cascade, task: GraphTask, split: str = "test", shares: Sequence[float] = GRID
) -> pd.DataFrame:
    r"""Scores in % by share of the nodes that are passed on, for each signal that might decide: the model's gate, the
    variance and the entropy dispersion, the largest probability. "random" and "oracle" deferral are the rails. The
    oracle knows the labels: for accuracy, it passes on first where only the strong expert is right and last where only
    the weak one is, and no signal is above it; for ROC-AUC, it goes by how much more the strong expert gives to the
    true class, and no routing is above its best share. "mixture" is what the model answers where nothing is chosen.

    Args:
        model (Mowst): a trained model of two experts.
        task (GraphTask): its task.
        split (str, optional): the nodes. (default: :obj:`"test"`)
        shares (list, optional): the shares. (default: from 0 to 1 in steps of 0.01)

    Raises:
        ValueError: if the model has more than two experts, or the metric has no expected score.
    """
    probs, signals, mixture = _answers(model, task, split)
    y = task.labels(split).cpu()
    curves = {name: deferral_curve(task.metric, probs, signal, y, shares) for name, signal in signals.items()}
    scores = pd.DataFrame(curves | {"mixture": mixture}, index=pd.Index(shares, name="share"))
    return 100 * scores.rename_axis(columns=task.metric)


@torch.no_grad()
def deferral_report(
    model: Cascade, task: GraphTask, split: str = "test", shares: Sequence[float] = SHARES, within: float = 0.5
) -> pd.DataFrame:
    r"""A row for each of :func:`deferral_curves`: the scores at some shares; "area", the area under the curve, which is
    the mean score over all budgets; "needed", the least share in % (of whole percents and those listed) that comes
    within some points of the mixture, NaN where none does. That share is known from the labels, afterwards:
    :func:`~mowst.inference.threshold.choose_threshold` chooses one with a guarantee.

    The gate quality, at the share that the model's own gate passes on at one half: "sent" is the share of the weak
    expert's mistakes that are passed on, and "needless" the share of its right answers that are.

    Args:
        model, task, split: see :func:`deferral_curves`.
        shares (list, optional): the shares to list.
        within (float, optional): the points that may be missing. (default: :obj:`0.5`)
    """
    curves = deferral_curves(model, task, split, sorted({*GRID, *shares}))
    near = curves.ge(curves["mixture"] - within, axis=0)
    report = curves.loc[list(shares)].T.rename(columns=lambda share: f"{100 * share:g} %")
    report["area"] = np.trapezoid(curves, curves.index, axis=0)
    report["needed"] = 100 * near.idxmax().where(near.any())
    (weak, _), signals, _ = _answers(model, task, split)
    quality = gate_quality(weak.argmax(dim=-1) == task.labels(split).cpu(), signals)
    return report.join(quality).rename_axis(index="passed on by")


def gate_quality(right: Tensor, signals: Mapping[str, Tensor]) -> pd.DataFrame:
    r"""The columns "sent" and "needless" of :func:`deferral_report`, of whether the weak expert is right
    :math:`(n)`.
    """
    share = float((signals["gate"] < 0.5).double().mean())
    sent = {name: passed_on(signal, share) for name, signal in signals.items()}
    rows = {name: {"sent": float(s[~right].mean()), "needless": float(s[right].mean())} for name, s in sent.items()}
    return 100 * pd.DataFrame(rows).T


@torch.no_grad()
def deferral_cost(
    model: Cascade, task: GraphTask, split: str = "test", shares: Sequence[float] = SHARES, repeats: int = 5
) -> pd.DataFrame:
    r"""What :meth:`~mowst.nn.cascade.Cascade.predict` costs for the whole graph by the share of all nodes that the gate
    passes on, weak expert included: the number "activated", the median "milliseconds", their ratio "cost" to those of
    both experts on all nodes, measured in turn with them; and the "score" in % on a split.

    Args:
        model, task, split: see :func:`deferral_curves`.
        shares (list, optional): the budgets.
        repeats (int, optional): measured answers of each, after one that is not. (default: :obj:`5`)

    Raises:
        ValueError: if the model has more than two experts.
    """
    data, budgets = task.data, (None, *shares)
    (weak, strong), gate = _logits(model, task)
    seconds: dict[float | None, list[float]] = {budget: [] for budget in budgets}
    route, model.route = model.route, "mixture"  # both experts, where there is no budget
    try:
        for _ in range(repeats + 1):
            for budget in budgets:
                start = time.perf_counter()
                model.predict(data.x, data.edge_index, data.edge_weight, budget=budget).cpu()
                seconds[budget].append(time.perf_counter() - start)
    finally:
        model.route = route
    ms = {budget: 1000 * median(measured[1:]) for budget, measured in seconds.items()}
    rows = []
    for share in shares:
        sent = gate.argsort(stable=True)[: int(share * len(gate))]
        score = task.evaluate(weak.index_copy(0, sent, strong[sent]).softmax(dim=-1), split)
        rows.append((len(sent), ms[share], ms[share] / ms[None], 100 * score))
    columns = ["activated", "milliseconds", "cost", "score"]
    return pd.DataFrame(rows, index=pd.Index(shares, name="share"), columns=columns)


def confidences(weak: Tensor, gate: Tensor) -> dict[str, Tensor]:
    r"""The signals that may decide, from the weak logits :math:`(n, C)` and the gate :math:`(n)`."""
    return {
        "gate": gate,
        "variance": variance_dispersion(weak),
        "entropy": entropy_dispersion(weak),
        "max probability": weak.softmax(dim=-1).amax(dim=-1),
    }


def _logits(model: Cascade, task: GraphTask) -> tuple[list[Tensor], Tensor]:
    if len(model.expert_names) != 2:
        raise ValueError(f"deferral is between two experts, this model has {len(model.expert_names)}")
    data = task.data
    with evaluating(model):
        logits = [model.logits(k, data.x, data.edge_index, data.edge_weight) for k in (0, 1)]
        return logits, model.gate(0, logits[0], data.x)


def _answers(model: Cascade, task: GraphTask, split: str) -> tuple[list[Tensor], dict[str, Tensor], float]:
    # The experts' probabilities, the signals and rails, and the score of the mixture, on a split.
    logits, gate = _logits(model, task)
    mixture = task.evaluate(model.mixture(logits, model.routed([gate])), split)
    index, y = task.index(split), task.labels(split).cpu()
    probs = [z[index].softmax(dim=-1).cpu() for z in logits]
    good = [p.argmax(dim=-1) == y if task.metric == "accuracy" else p[torch.arange(len(y)), y] for p in probs]
    signals = {name: signal.cpu() for name, signal in confidences(logits[0][index], gate[index]).items()}
    return probs, signals | {"random": torch.zeros(len(y)), "oracle": good[0].float() - good[1].float()}, mixture
