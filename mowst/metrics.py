r"""Scores of a prediction, and the expected score of sampled routing."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mowst.labels import label_prob, share_right


@dataclass(frozen=True)
class Metric:
    r"""A metric of one's own, such as :obj:`Metric("log loss", sklearn.metrics.log_loss,
    higher_is_better=False)`.

    Args:
        name (str): The name in logs and results.
        compute (callable): :obj:`compute(prob, y)` returns a number, given class probabilities and
            labels.
        higher_is_better (bool, optional): Whether a higher value is better. (default: :obj:`True`)

    Shapes:
        - **prob:** :math:`(n, C)`, **y:** :math:`(n)`; of several labels, both :math:`(n, L)`
    """

    name: str
    compute: Callable[[Tensor, Tensor], Any]
    higher_is_better: bool = True

    def __call__(self, prob: Tensor, y: Tensor) -> Tensor:
        r"""Computes the metric as a scalar on the device of :obj:`prob`."""
        value = torch.as_tensor(self.compute(prob, y), device=prob.device)
        if value.numel() != 1:
            shape = list(value.shape)
            raise ValueError(f"the metric '{self}' must return one number, got shape {shape}")
        return value.reshape(())

    def __str__(self) -> str:
        return self.name


# What is taken as a metric: a name or alias, a metric, or a function or torchmetrics object.
AnyMetric = str | Metric | Callable[..., Any]


def accuracy(prob: Tensor, y: Tensor) -> Tensor:
    r"""Share of the nodes whose most probable class is their label. With several labels, the mean
    over nodes of the share of their known labels that are right.
    """
    from torchmetrics.functional.classification import multiclass_accuracy

    if y.dim() == 2:
        return share_right(prob, y).mean()
    return multiclass_accuracy(prob, y, prob.size(1), average="micro", validate_args=False)


def roc_auc(prob: Tensor, y: Tensor) -> Tensor:
    r"""Area under the ROC curve for two classes, whichever of them is class 1. With several labels,
    the mean over those that have known nodes of both sides.
    """
    from torchmetrics.functional.classification import binary_auroc

    if y.dim() == 2:
        return torch.stack([roc_auc(*pair) for pair in _list_labels(y, prob)]).mean()
    return binary_auroc(_rank_nodes(prob), y, validate_args=False)


def f1(prob: Tensor, y: Tensor) -> Tensor:
    r"""Macro-averaged F1 score, over classes or labels."""
    from torchmetrics.functional.classification import multiclass_f1_score, multilabel_f1_score

    if y.dim() == 2:
        prob = label_prob(prob)
        return multilabel_f1_score(prob, y, y.size(1), ignore_index=-1, validate_args=False)
    return multiclass_f1_score(prob, y, prob.size(1), average="macro", validate_args=False)


METRICS: dict[str, Metric] = {}
for _function in (accuracy, roc_auc, f1):
    METRICS[_function.__name__] = Metric(_function.__name__, _function)
ALIASES = {"acc": "accuracy", "rocauc": "roc_auc", "macro_f1": "f1"}
EXACT = ("accuracy", "roc_auc")  # those with an expected score


def read_metric(metric: AnyMetric) -> str | Metric:
    r"""Returns the name in :obj:`METRICS` of a metric of this package, and a :class:`Metric` for
    any other one.

    Args:
        metric (str, Metric or callable): A name or alias (:obj:`"acc"`, :obj:`"rocauc"`,
            :obj:`"macro_f1"`); a function of class probabilities and labels, in which higher is
            better; or an object of torchmetrics.

    Raises:
        ValueError: If the metric is unknown, or its direction is.
    """
    if isinstance(metric, str):
        name = ALIASES.get(metric, metric)
        if name not in METRICS:
            raise ValueError(f"the metric '{metric}' is unknown; known: {', '.join(METRICS)}")
        return name
    if any(metric is known for known in METRICS.values()):
        return str(metric)
    made = metric if isinstance(metric, Metric) else _wrap_metric(metric)
    if made.name in METRICS:
        raise ValueError(f"'{made}' is a metric of this package; give yours another name")
    return made


def find_metric(metric: AnyMetric) -> Metric:
    r"""Returns the metric that :func:`read_metric` reads."""
    found = read_metric(metric)
    return METRICS[found] if isinstance(found, str) else found


def _wrap_metric(metric: Any) -> Metric:
    if all(hasattr(metric, name) for name in ("update", "compute", "reset")):
        name, is_higher = type(metric).__name__, metric.higher_is_better
        if is_higher is None:
            hint = f"give mowst.metrics.Metric('{name}', compute, higher_is_better=...)"
            raise ValueError(f"the metric {name} has no direction: {hint}")
        return Metric(name, _Accumulated(metric), is_higher)
    if not callable(metric):
        wanted = f"a name ({', '.join(METRICS)}), a function f(prob, y) or a Metric"
        raise ValueError(f"metric must be {wanted}, got {metric!r}")
    named = getattr(metric, "func", metric)  # of a functools.partial
    return Metric(getattr(named, "__name__", type(named).__name__), metric)


class _Accumulated:
    # A function of a torchmetrics object, whose own state is left as it is.
    def __init__(self, metric: Any) -> None:
        self.metric = deepcopy(metric)

    def __call__(self, prob: Tensor, y: Tensor) -> Any:
        metric = self.metric.to(prob.device)
        metric.reset()
        metric.update(prob, y)
        return metric.compute()


def expected_score(
    metric: AnyMetric, weak: Tensor, strong: Tensor, confidence: Tensor, y: Tensor
) -> float | None:
    r"""Expected score of sampled routing, in closed form. Node :math:`v` is predicted by the weak
    expert with probability :math:`C_v`, else by the strong expert.

    .. math::
        \mathrm{accuracy:} \quad \frac{1}{n} \sum_v
        C_v \, \mathbb{1}\{\arg\max p_v = y_v\} + (1 - C_v) \, \mathbb{1}\{\arg\max p'_v = y_v\}

    For ROC-AUC, it is the AUC of the stacked scores :math:`[p; p']` with the sample weights
    :math:`[C; 1 - C]`. A pair of nodes then counts with the product of its weights, which is its
    expectation. Pairs of a node with itself have one label and never count. Scores of several
    labels are means of such scores.

    Args:
        metric (str, Metric or callable): The metric. F1 and metrics of one's own have no closed
            form and give :obj:`None`.
        weak (Tensor): The class probabilities :math:`p` of the weak expert.
        strong (Tensor): The class probabilities :math:`p'` of the strong expert.
        confidence (Tensor): The confidence :math:`C_v`.
        y (Tensor): The labels.

    Shapes:
        - **weak**, **strong:** :math:`(n, C)` or :math:`(n, L, 2)`
        - **y:** :math:`(n)` or :math:`(n, L)`, **confidence:** :math:`(n)`
    """
    metric = read_metric(metric)
    if metric == "accuracy":
        right_weak, right_strong = share_right(weak, y), share_right(strong, y)
        right = torch.stack([confidence * right_weak, (1 - confidence) * right_strong])
        return float(right.sum(dim=0).mean())
    if metric == "roc_auc":
        from sklearn.metrics import roc_auc_score

        if y.dim() == 2:
            share = confidence.unsqueeze(1).expand(y.shape)
            rows = _list_labels(y, weak, strong, share)
            return float(np.mean([expected_score(metric, *row) for row in rows]))
        score = torch.cat([_rank_nodes(weak), _rank_nodes(strong)]).numpy(force=True)
        weight = torch.cat([confidence, 1 - confidence]).numpy(force=True)
        return float(roc_auc_score(y.repeat(2).numpy(force=True), score, sample_weight=weight))
    return None


def _list_labels(y: Tensor, *values: Tensor) -> list[tuple[Tensor, ...]]:
    # The values and labels of the known nodes of each label that has both sides: two classes each.
    found = []
    for k in range(y.size(1)):
        known = y[:, k] >= 0
        side = y[known, k]
        if 0 < side.sum() < side.numel():
            found.append((*(value[known, k] for value in values), side))
    return found


def _rank_nodes(prob: Tensor) -> Tensor:
    # Single precision ties probabilities near 1 whose complements differ, so both are compared, by
    # their log-odds, scaled to [0, 1] as torchmetrics expects.
    log_prob = prob.double().clamp(min=1e-300).log()
    return 0.5 + (log_prob[:, 1] - log_prob[:, 0]) / 2000
