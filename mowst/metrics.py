r"""Scores of a prediction, as scalars on its device, and the exact expected score of sampled routing."""

from collections.abc import Callable, Sequence

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy, multiclass_f1_score


def accuracy(prob: Tensor, y: Tensor) -> Tensor:
    r"""Share of the nodes whose most probable class is their label.

    Shapes:
        - **prob:** :math:`(n, C)`, **y:** :math:`(n)`
    """
    return multiclass_accuracy(prob, y, num_classes=prob.size(1), average="micro", validate_args=False)


def roc_auc(prob: Tensor, y: Tensor) -> Tensor:
    r"""Area under the ROC curve of class 1 of two.

    Shapes:
        - **prob:** :math:`(n, 2)`, **y:** :math:`(n)`
    """
    return binary_auroc(prob[:, 1], y, validate_args=False)


def f1(prob: Tensor, y: Tensor) -> Tensor:
    r"""Macro-averaged F1 score.

    Shapes:
        - **prob:** :math:`(n, C)`, **y:** :math:`(n)`
    """
    return multiclass_f1_score(prob, y, num_classes=prob.size(1), average="macro", validate_args=False)


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"accuracy": accuracy, "roc_auc": roc_auc, "f1": f1}


def expected_score(metric: str, probs: Sequence[Tensor], shares: Sequence[Tensor], y: Tensor) -> float | None:
    r"""The expectation, over the draws, of the score of sampled routing: node :math:`v` is answered by expert
    :math:`k` with probability :math:`s_{k,v}`; of two experts, :math:`s = (C, 1 - C)`. No draw is made.

    .. math::
        \mathrm{accuracy:} \quad \frac{1}{n} \sum_v \sum_k s_{k,v} \, \mathbb{1}\{\arg\max p_{k,v} = y_v\}

    ROC-AUC: the AUC of the stacked scores :math:`[p_1; \dots; p_K]` under the sample weights :math:`[s_1; \dots;
    s_K]`. This counts a pair of nodes by the product of its weights, which is the expectation of the sampled AUC but
    for pairs of a node with itself, and those hold one label and never count.

    Returns :obj:`None` for a metric without such a form (F1).

    Shapes:
        - **probs:** class probabilities :math:`(n, C)` of each expert; **shares:** :math:`(n)` each; **y:** :math:`(n)`
    """
    if metric == "accuracy":
        right = [share * (prob.argmax(dim=-1) == y) for prob, share in zip(probs, shares, strict=True)]
        return float(torch.stack(right).sum(dim=0).mean())
    if metric == "roc_auc":
        score = torch.cat([prob[:, 1] for prob in probs]).numpy(force=True)
        weight = torch.cat(list(shares)).numpy(force=True)
        return float(roc_auc_score(y.repeat(len(probs)).numpy(force=True), score, sample_weight=weight))
    return None
