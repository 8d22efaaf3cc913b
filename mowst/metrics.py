r"""Scores of a prediction, as scalars on its device, and the exact expected score of sampled routing."""

from collections.abc import Callable

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


def expected_score(metric: str, weak: Tensor, strong: Tensor, confidence: Tensor, y: Tensor) -> float | None:
    r"""The expectation, over the draws, of the score of sampled routing: node :math:`v` is answered by the weak
    expert with probability :math:`C_v` and by the strong expert otherwise. No draw is made.

    .. math::
        \mathrm{accuracy:} \quad \frac{1}{n} \sum_v C_v \, \mathbb{1}\{\arg\max p_v = y_v\}
        + (1 - C_v) \, \mathbb{1}\{\arg\max p'_v = y_v\}

    ROC-AUC: the AUC of the stacked scores :math:`[p; p']` under the sample weights :math:`[C; 1 - C]`. This counts
    a pair of nodes by the product of its weights, which is the expectation of the sampled AUC but for pairs of a
    node with itself, and those hold one label and never count.

    Returns :obj:`None` for a metric without such a form (F1).

    Shapes:
        - **weak**, **strong:** class probabilities :math:`(n, C)`; **confidence**, **y:** :math:`(n)`
    """
    if metric == "accuracy":
        correct = [(prob.argmax(dim=-1) == y).to(confidence.dtype) for prob in (weak, strong)]
        return float((confidence * correct[0] + (1 - confidence) * correct[1]).mean())
    if metric == "roc_auc":
        score = torch.cat([weak[:, 1], strong[:, 1]]).numpy(force=True)
        weight = torch.cat([confidence, 1 - confidence]).numpy(force=True)
        return float(roc_auc_score(y.repeat(2).numpy(force=True), score, sample_weight=weight))
    return None
