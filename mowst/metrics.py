r"""Scores of a prediction, and the expected score of sampled routing."""

from collections.abc import Callable

import torch
from torch import Tensor


def accuracy(prob: Tensor, y: Tensor) -> Tensor:
    r"""Share of the nodes whose most probable class is their label."""
    from torchmetrics.functional.classification import multiclass_accuracy

    return multiclass_accuracy(prob, y, prob.size(1), average="micro", validate_args=False)


def roc_auc(prob: Tensor, y: Tensor) -> Tensor:
    r"""Area under the ROC curve for two classes, whichever of them is class 1."""
    from torchmetrics.functional.classification import binary_auroc

    return binary_auroc(_rank_nodes(prob), y, validate_args=False)


def f1(prob: Tensor, y: Tensor) -> Tensor:
    r"""Macro-averaged F1 score."""
    from torchmetrics.functional.classification import multiclass_f1_score

    return multiclass_f1_score(prob, y, prob.size(1), average="macro", validate_args=False)


# Functions of the class probabilities (n, C) and the labels (n).
METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]]
METRICS = {"accuracy": accuracy, "roc_auc": roc_auc, "f1": f1}


def expected_score(
    metric: str, weak: Tensor, strong: Tensor, confidence: Tensor, y: Tensor
) -> float | None:
    r"""Expected score of sampled routing, in closed form. Node :math:`v` is predicted by the weak
    expert with probability :math:`C_v`, else by the strong expert.

    .. math::
        \mathrm{accuracy:} \quad \frac{1}{n} \sum_v
        C_v \, \mathbb{1}\{\arg\max p_v = y_v\} + (1 - C_v) \, \mathbb{1}\{\arg\max p'_v = y_v\}

    For ROC-AUC, it is the AUC of the stacked scores :math:`[p; p']` with the sample weights
    :math:`[C; 1 - C]`. A pair of nodes then counts with the product of its weights, which is its
    expectation. Pairs of a node with itself have one label and never count.

    Args:
        metric (str): A key of :obj:`METRICS`. F1 has no closed form and gives :obj:`None`.
        weak (Tensor): The class probabilities :math:`p` of the weak expert, :math:`(n, C)`.
        strong (Tensor): The class probabilities :math:`p'` of the strong expert, :math:`(n, C)`.
        confidence (Tensor): The confidence :math:`C_v`, :math:`(n)`.
        y (Tensor): The labels, :math:`(n)`.
    """
    if metric == "accuracy":
        right_weak = weak.argmax(dim=-1) == y
        right_strong = strong.argmax(dim=-1) == y
        right = torch.stack([confidence * right_weak, (1 - confidence) * right_strong])
        return float(right.sum(dim=0).mean())
    if metric == "roc_auc":
        from sklearn.metrics import roc_auc_score

        score = torch.cat([_rank_nodes(weak), _rank_nodes(strong)]).numpy(force=True)
        weight = torch.cat([confidence, 1 - confidence]).numpy(force=True)
        return float(roc_auc_score(y.repeat(2).numpy(force=True), score, sample_weight=weight))
    return None


def _rank_nodes(prob: Tensor) -> Tensor:
    # Single precision ties probabilities near 1 whose complements differ, so both are compared, by
    # their log-odds, scaled to [0, 1] as torchmetrics expects.
    log_prob = prob.double().clamp(min=1e-300).log()
    return 0.5 + (log_prob[:, 1] - log_prob[:, 0]) / 2000
