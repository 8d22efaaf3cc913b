r"""Deferral: accuracy against the share of nodes that are passed on to the strong expert, in the order of a signal."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mowst.nn.cascade import Cascade
from mowst.nn.dispersion import entropy_dispersion, variance_dispersion
from mowst.nn.evaluating import evaluating
from mowst.task import GraphTask

SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


def deferral_curve(weak: np.ndarray, strong: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    r"""The accuracy when the strong expert answers the :math:`k` nodes of the least confidence,

    .. math::
        a_k = \frac{1}{n} \left( \sum_{i \leq k} r'_i + \sum_{i > k} r_i \right), \qquad k = 0, \ldots, n

    where :math:`r, r'` tell whether the weak and the strong expert are right. Nodes of equal confidence are passed on
    together or not at all: between, the curve is the expectation over their order, a straight line.

    Shapes:
        - **weak**, **strong** (0 or 1), **confidence:** :math:`(n)`; **output:** :math:`(n + 1)`
    """
    order = np.argsort(confidence, kind="stable")
    gain = (strong.astype(float) - weak.astype(float))[order]
    _, start, count = np.unique(confidence[order], return_index=True, return_counts=True)
    gain = np.repeat(np.add.reduceat(gain, start) / count, count)
    return (weak.sum() + np.concatenate([[0.0], np.cumsum(gain)])) / len(weak)


def area(curve: np.ndarray) -> float:
    r"""The area under a deferral curve over shares from 0 to 1: the mean accuracy over all budgets."""
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))


@torch.no_grad()
def deferral_report(
    model: Cascade, task: GraphTask, split: str = "test", shares: tuple[float, ...] = SHARES
) -> pd.DataFrame:
    r"""Accuracies in % by share of the nodes that are passed on, for each signal that might decide: the model's gate,
    the variance and the entropy dispersion, the largest probability; "random" deferral and the "oracle", which passes
    on first where only the strong expert is right and last where only the weak one is, are the rails.

    Further columns: the area under the curve, and, of the gate quality at the share that the model's own gate passes
    on at one half, "sent": the share of the weak expert's mistakes that are sent on, and "needless": the share of its
    right answers that are.

    Args:
        model (Mowst): a trained model of two experts.
        task (GraphTask): its task.
        split (str, optional): the nodes. (default: :obj:`"test"`)
        shares (tuple, optional): the shares to list.

    Raises:
        ValueError: if the model has more than two experts.
    """
    if len(model.expert_names) != 2:
        raise ValueError(f"deferral is between two experts, this model has {len(model.expert_names)}")
    data, index, y = task.data, task.index(split), task.labels(split)
    with evaluating(model):
        weak, strong = (model.logits(k, data.x, data.edge_index, data.edge_weight, nodes=index) for k in (0, 1))
        gate = model.gate(0, weak, data.x[index])
    right = [(z.argmax(dim=-1) == y).numpy(force=True).astype(int) for z in (weak, strong)]
    signals = {name: signal.numpy(force=True) for name, signal in confidences(weak, gate).items()}
    signals |= {"random": np.zeros(len(y)), "oracle": right[0] - right[1]}
    return table(right[0], right[1], signals, shares, passed=float((gate < 0.5).float().mean()))


def confidences(weak: Tensor, gate: Tensor) -> dict[str, Tensor]:
    r"""The signals that may decide, from the weak logits :math:`(n, C)` and the gate :math:`(n)`."""
    return {
        "gate": gate,
        "variance": variance_dispersion(weak),
        "entropy": entropy_dispersion(weak),
        "max probability": weak.softmax(dim=-1).amax(dim=-1),
    }


def table(
    weak: np.ndarray,
    strong: np.ndarray,
    signals: Mapping[str, np.ndarray],
    shares: tuple[float, ...] = SHARES,
    passed: float = 0.5,
) -> pd.DataFrame:
    r"""The rows of :func:`deferral_report`, a row per signal.

    Shapes:
        - **weak**, **strong** (0 or 1), **signals:** :math:`(n)`
    """
    rows, count = {}, round(passed * len(weak))
    for name, signal in signals.items():
        curve = deferral_curve(weak, strong, signal)
        sent = np.zeros(len(weak), dtype=bool)
        sent[np.argsort(signal, kind="stable")[:count]] = True
        rows[name] = {f"{100 * share:g} %": 100 * curve[round(share * len(weak))] for share in shares} | {
            "area": 100 * area(curve),
            "sent": 100 * _share(sent[weak == 0]),
            "needless": 100 * _share(sent[weak == 1]),
        }
    return pd.DataFrame(rows).T.rename_axis("passed on by")


def _share(chosen: np.ndarray) -> float:
    return float(chosen.mean()) if chosen.size else float("nan")
