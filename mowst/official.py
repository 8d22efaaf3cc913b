r"""Scores by the evaluator of the Open Graph Benchmark."""

import sys
from typing import Any

import torch
from torch import Tensor

from mowst.labels import label_prob

# The metric of OGB's evaluator by data set.
OGB_METRICS = {
    "ogbn-arxiv": "accuracy",
    "ogbn-mag": "accuracy",
    "ogbn-papers100M": "accuracy",
    "ogbn-products": "accuracy",
    "ogbn-proteins": "roc_auc",
}


def score_by_ogb(name: str, metric: Any, prob: Tensor, y: Tensor) -> float | None:
    r"""Computes the score of a prediction by :class:`ogb.nodeproppred.Evaluator`. Returns
    :obj:`None` if the data set or the metric is not one of OGB's, or if ogb is not installed.

    Args:
        name (str): The name of the data set, such as :obj:`"ogbn-arxiv"`.
        metric (str): The metric of a task.
        prob (Tensor): The class probabilities, :math:`(n, C)`, or those of several labels.
        y (Tensor): The labels, :math:`(n)` or :math:`(n, L)`.
    """
    if OGB_METRICS.get(name) != metric:
        return None
    try:
        evaluator = _import_evaluator()(name)
    except ImportError:
        return None
    if y.dim() == 2:
        tables = {"y_true": y.float().masked_fill(y < 0, torch.nan), "y_pred": label_prob(prob)}
    else:
        tables = {"y_true": y.view(-1, 1), "y_pred": prob.argmax(dim=-1, keepdim=True)}
    scores = evaluator.eval(tables)
    return float(scores[evaluator.eval_metric])


def _import_evaluator() -> Any:
    # With the package `outdated`, importing ogb starts a thread that looks for a newer version.
    outdated = sys.modules.get("outdated")
    sys.modules["outdated"] = None  # type: ignore[assignment]
    try:
        from ogb.nodeproppred import Evaluator
    finally:
        del sys.modules["outdated"]
        if outdated is not None:
            sys.modules["outdated"] = outdated
    return Evaluator
