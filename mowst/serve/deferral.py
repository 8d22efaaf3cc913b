r"""The score of deferral by the share of deferred nodes, and by its cost."""

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mowst.labels import average_labels, pick_true, share_right
from mowst.metrics import EXACT, AnyMetric, expected_score, read_metric
from mowst.nn.dispersion import entropy_dispersion, variance_dispersion
from mowst.nn.evaluating import evaluating
from mowst.nn.mowst import Mowst
from mowst.nn.routing import count_share
from mowst.nn.signature import make_graph
from mowst.nn.softmax import softmax
from mowst.sparse import Features
from mowst.task import GraphTask

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
GRID = tuple(percent / 100 for percent in range(101))


def defer_probability(confidence: Tensor, share: float) -> Tensor:
    r"""Returns the probability that a node is deferred when a share :math:`b` of :math:`n` nodes
    is. The lowest confidence is deferred first, and nodes of equal confidence with equal
    probability

    .. math::
        s_v = \min \left( 1, \max \left( 0,
        \frac{b \, n - |\{ u : C_u < C_v \}|}{|\{ u : C_u = C_v \}|} \right) \right)

    Shapes:
        - **confidence**, **output:** :math:`(n)`
    """
    _, group, count = confidence.unique(return_inverse=True, return_counts=True)
    count = count.double()
    lower = count.cumsum(dim=0) - count
    return ((share * len(confidence) - lower) / count).clamp(0, 1)[group]


def deferral_curve(
    metric: AnyMetric,
    probs: Sequence[Tensor],
    confidence: Tensor,
    y: Tensor,
    shares: Sequence[float] = GRID,
) -> np.ndarray:
    r"""Returns the expected score at each share of deferred nodes, see :func:`defer_probability`
    and :func:`~mowst.metrics.expected_score`. For accuracy, a constant confidence gives a straight
    line.

    Shapes:
        - **probs:** weak and strong class probabilities :math:`(n, C)`
        - **confidence**, **y:** :math:`(n)`

    Raises:
        ValueError: If the metric has no expected score.
    """
    if read_metric(metric) not in EXACT:
        raise ValueError(
            f"{metric} has no expected score: use a task of accuracy or roc_auc for deferral"
        )
    weak, strong = probs
    scores = []
    for share in shares:
        kept = 1 - defer_probability(confidence, share)
        scores.append(expected_score(metric, weak, strong, kept, y))
    return np.array(scores)


@torch.no_grad()
def deferral_curves(
    model: Mowst, task: GraphTask, split: str = "test", shares: Sequence[float] = GRID
) -> "pd.DataFrame":
    r"""Returns scores in % by the share of deferred nodes. Each column is a signal that may decide:
    the gate, the variance and entropy dispersion and the largest probability of the weak
    prediction, and two bounds, "random" and "oracle". "mixture" is the score of the model along its
    route.

    The oracle knows the labels. For accuracy, it defers first where only the strong expert is right
    and last where only the weak one is, and no signal is above it. For ROC-AUC, it goes by how much
    more the strong expert gives to the true class, and no routing is above its best share. With
    several labels, both are means over the labels of a node.

    Args:
        model (Mowst): The trained model.
        task (GraphTask): Its task.
        split (str, optional): The nodes to score. (default: :obj:`"test"`)
        shares (list, optional): The shares. (default: from 0 to 1 in steps of 0.01)

    Raises:
        ValueError: If the metric has no expected score.
    """
    import pandas as pd

    probs, signals, mixture = _predict_split(model, task, split)
    y = task.labels(split).cpu()
    curves = {}
    for name, signal in signals.items():
        curves[name] = deferral_curve(task.metric, probs, signal, y, shares)
    scores = pd.DataFrame({**curves, "mixture": mixture}, index=pd.Index(shares, name="share"))
    return 100 * scores.rename_axis(columns=str(task.metric))


@torch.no_grad()
def deferral_report(
    model: Mowst,
    task: GraphTask,
    split: str = "test",
    shares: Sequence[float] = SHARES,
    within: float = 0.5,
) -> "pd.DataFrame":
    r"""Returns a row for each column of :func:`deferral_curves`: the scores at some shares and

    - "area", the area under the curve, which is the mean score over all budgets.
    - "needed", the lowest share in % that comes within some points of the mixture, or NaN. It is
      read off the labels, see :func:`~mowst.serve.threshold.choose_threshold` for a guarantee.
    - "caught" and "needless", the shares in % of the wrong and right weak predictions that are
      deferred, when as many nodes are deferred as have a confidence below one half.

    Args:
        model, task, split: See :func:`deferral_curves`.
        shares (list, optional): The shares to list.
        within (float, optional): The points that may be missing. (default: :obj:`0.5`)
    """
    probs, signals, _ = _predict_split(model, task, split)
    curves = deferral_curves(model, task, split, sorted({*GRID, *shares}))
    near = curves.ge(curves["mixture"] - within, axis=0)
    report = curves.loc[list(shares)].T.rename(columns=lambda share: f"{100 * share:g} %")
    report["area"] = np.trapezoid(curves, curves.index, axis=0)
    report["needed"] = 100 * near.idxmax().where(near.any())
    right = share_right(probs[0], task.labels(split).cpu())
    return report.join(score_signals(right, signals)).rename_axis(index="deferred by")


def score_signals(right: Tensor, signals: Mapping[str, Tensor]) -> "pd.DataFrame":
    r"""Returns the columns "caught" and "needless" of :func:`deferral_report`, from signals and
    whether the weak prediction is right (the share of its labels, if there are several), each of
    shape :math:`(n)`.
    """
    import pandas as pd

    share = float((signals["gate"] < 0.5).double().mean())
    rows, right = {}, right.double()
    for name, signal in signals.items():
        deferred = 100 * defer_probability(signal, share)
        rows[name] = [float((deferred * of).sum() / of.sum()) for of in (1 - right, right)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["caught", "needless"])


@torch.no_grad()
def deferral_cost(
    model: Mowst,
    task: GraphTask,
    split: str = "test",
    shares: Sequence[float] = SHARES,
    repeats: int = 5,
) -> "pd.DataFrame":
    r"""Returns what :meth:`~mowst.nn.mowst.Mowst.predict` costs on the whole graph, by the share of
    nodes that the gate defers: the number "deferred", the median "milliseconds", the ratio "cost"
    to the time of both experts on all nodes, and the "score" in % on a split.

    Args:
        model, task, split: See :func:`deferral_curves`.
        shares (list, optional): The budgets.
        repeats (int, optional): The number of measured calls, after a warm-up. (default: :obj:`5`)
    """
    import pandas as pd

    x, graph = Features(task.data.x), make_graph(model, task.data)
    with evaluating(model):
        out = model.outputs(x, graph)

    def run(budget: float | None) -> Tensor:
        if budget is not None:
            return model.predict(x, graph, budget=budget)
        with evaluating(model):
            return model.outputs(x, graph).prob.argmax(dim=-1)

    seconds: dict[float | None, list[float]] = {budget: [] for budget in (None, *shares)}
    for _ in range(repeats + 1):
        for budget, measured in seconds.items():
            start = time.perf_counter()
            run(budget).cpu()
            measured.append(time.perf_counter() - start)
    milliseconds = {budget: 1000 * median(seconds[budget][1:]) for budget in seconds}
    order = out.confidence.argsort(stable=True)
    rows = []
    for share in shares:
        deferred = order[: count_share(share, len(order))]
        logits = out.weak.index_copy(0, deferred, out.strong[deferred])
        score = 100 * task.evaluate(softmax(logits), split)
        cost = milliseconds[share] / milliseconds[None]
        rows.append((len(deferred), milliseconds[share], cost, score))
    columns = ["deferred", "milliseconds", "cost", "score"]
    return pd.DataFrame(rows, index=pd.Index(shares, name="share"), columns=columns)


def make_bounds(metric: AnyMetric, probs: Sequence[Tensor], y: Tensor) -> dict[str, Tensor]:
    r"""Returns the signals "random" and "oracle" of :func:`deferral_curves`, each of shape
    :math:`(n)`, from weak and strong class probabilities :math:`(n, C)` and labels :math:`(n)`.
    """
    if metric == "accuracy":
        weak, strong = (share_right(prob, y) for prob in probs)
    else:
        weak, strong = (average_labels(pick_true(prob, y), y) for prob in probs)
    return {"random": torch.zeros(len(y)), "oracle": weak - strong}


def _predict_split(
    model: Mowst, task: GraphTask, split: str
) -> tuple[list[Tensor], dict[str, Tensor], float]:
    # The experts' probabilities, the signals, and the score of the model along its route.
    with evaluating(model):
        out = model.outputs(Features(task.data.x), make_graph(model, task.data))
    prob, confidence, weak, strong = (value[task.index(split)] for value in out)
    predictions = {"mixture": prob, "weak": softmax(weak), "strong": softmax(strong)}
    score = task.evaluate(predictions[model.route], split)
    probs = [predictions["weak"].cpu(), predictions["strong"].cpu()]
    signals = {
        "gate": confidence.cpu(),
        "variance": variance_dispersion(weak).cpu(),
        "entropy": entropy_dispersion(weak).cpu(),
        "max probability": average_labels(probs[0].amax(dim=-1)),
    }
    signals.update(make_bounds(task.metric, probs, task.labels(split).cpu()))
    return probs, signals, score
