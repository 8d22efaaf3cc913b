r"""The cheapest threshold that a guarantee on the accuracy allows."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mowst.labels import is_labelled, share_right
from mowst.nn.evaluating import evaluating
from mowst.nn.mowst import Mowst
from mowst.nn.signature import make_graph
from mowst.serve.inputs import read_ids
from mowst.task import GraphTask


@dataclass(frozen=True)
class Choice:
    r"""The result of :func:`choose_threshold`.

    Args:
        threshold: The threshold for :meth:`~mowst.nn.mowst.Mowst.predict`, :obj:`None` if no
            guarantee is possible.
        deferred_share: The share of the calibration nodes that it defers.
        drop: The accuracy that it loses against the reference on the calibration nodes.
        num_nodes: The number of calibration nodes.
        needed: If no guarantee is possible, about how many calibration nodes would give one for
            deferring all nodes. :obj:`None` if that policy itself loses too much.
    """

    threshold: float | None
    deferred_share: float
    drop: float
    num_nodes: int
    needed: int | None = None


@torch.no_grad()
def choose_threshold(
    model: Mowst,
    task: GraphTask,
    max_drop: float = 0.005,
    delta: float = 0.05,
    reference: str = "mixture",
    nodes: Any = None,
    num_candidates: int = 100,
) -> Choice:
    r"""Returns the lowest threshold, which defers the fewest nodes, that loses at most
    :obj:`max_drop` of the accuracy of a reference, with probability :math:`1 - \delta` over the
    calibration nodes.

    `"Learn then Test" <https://arxiv.org/abs/2110.01052>`_ with a fixed sequence of tests goes down
    from deferring all nodes and stops at the first threshold that fails. With :math:`d_v \in
    [-1, 1]` the right predictions lost at node :math:`v`, as a share of its labels if it has
    several, the hypothesis :math:`\mathbb{E}[d] > m` is rejected when the capital of a bet against
    it (`"Estimating means of bounded random variables by betting"
    <https://arxiv.org/abs/2010.09686>`_)

    .. math::
        K_n = \prod_{v=1}^{n} \left( 1 + \lambda_v (m - d_v) \right), \qquad
        \lambda_v \text{ a function of the nodes before } v

    reaches :math:`1 / \delta`. Calibration nodes and later nodes must come from one distribution,
    and calibration nodes must not have trained or selected the model.

    Args:
        model (Mowst): The trained model.
        task (GraphTask): Its task.
        max_drop (float, optional): The accuracy :math:`m` that may be lost. (default: :obj:`0.005`)
        delta (float, optional): The probability of a wrong guarantee. (default: :obj:`0.05`)
        reference (str, optional): The :obj:`"mixture"`, or the :obj:`"strong"` expert on all nodes,
            whatever the model's route. (default: :obj:`"mixture"`)
        nodes (torch.Tensor, optional): The ids or the mask of the calibration nodes, by default the
            labelled nodes outside all splits. A repeated id counts once. (default: :obj:`None`)
        num_candidates (int, optional): The number of thresholds to try. (default: :obj:`100`)

    Raises:
        ValueError: If calibration nodes are missing, unlabelled, or used in training or selection,
            or a number is out of its range.
    """
    if not 0 < delta < 1 or not 0 < max_drop < 1:
        raise ValueError(f"max_drop and delta must lie in (0, 1), got {max_drop} and {delta}")
    if reference not in ("mixture", "strong"):
        raise ValueError(f"unknown reference '{reference}', choose 'mixture' or 'strong'")
    nodes = _check_nodes(task, nodes)
    data, y = task.data, task.data.y[nodes]
    with evaluating(model):
        out = model.outputs(data.x, make_graph(model, data), nodes=nodes)
    right = {}
    for name, values in (("mixture", out.prob), ("weak", out.weak), ("strong", out.strong)):
        right[name] = share_right(values, y).double().numpy(force=True)
    policies = right["weak"], right["strong"], right[reference]
    confidence = out.confidence.numpy(force=True)
    return choose(*policies, confidence, max_drop, delta, num_candidates)


def choose(
    weak: np.ndarray,
    strong: np.ndarray,
    reference: np.ndarray,
    confidence: np.ndarray,
    max_drop: float,
    delta: float,
    num_candidates: int = 100,
) -> Choice:
    r"""Returns the choice from which nodes are right (0 or 1, or the share of right labels) under
    the weak expert, the strong expert and the reference, and from the confidence, each of shape
    :math:`(n)`.
    """
    # A bet needs the nodes in an order that is independent of them.
    order = np.random.default_rng(0).permutation(len(confidence))
    weak, strong, reference, confidence = (
        array[order] for array in (weak, strong, reference, confidence)
    )
    # Fixed before any label is seen: above 1 in any precision, then quantiles of the confidence.
    ranks = np.linspace(1, 0, num_candidates)
    thresholds = [2.0, *np.quantile(confidence, ranks, method="higher")]
    chosen = None
    for threshold in thresholds:
        lost = reference - np.where(confidence >= threshold, weak, strong)
        if not rejects(lost, max_drop, delta):
            break
        deferred_share = float((confidence < threshold).mean())
        chosen = Choice(float(threshold), deferred_share, float(lost.mean()), len(lost))
    if chosen is not None:
        return chosen
    lost = reference - strong
    needed = _estimate_needed(lost, max_drop, delta)
    return Choice(None, 1.0, float(lost.mean()), len(lost), needed)


def rejects(lost: np.ndarray, max_drop: float, delta: float) -> bool:
    r"""Whether the bet against :math:`\mathbb{E}[d] > m` ever reaches :math:`1 / \delta`."""
    gain = max_drop - lost  # in [m - 1, m + 1], with a negative expectation under the hypothesis
    count = np.arange(len(lost))
    # The growth-optimal bet is about mean / variance. Half a node at each extreme regularises both.
    mean = (np.concatenate([[0.0], np.cumsum(gain)[:-1]]) + max_drop / 2) / (count + 1)
    square = (np.concatenate([[0.0], np.cumsum(gain**2)[:-1]]) + max_drop) / (count + 1)
    bet = np.clip(mean / square, 0, 0.9 / (1 - max_drop))
    return bool(np.cumsum(np.log1p(bet * gain)).max(initial=-np.inf) >= -math.log(delta))


def _estimate_needed(lost: np.ndarray, max_drop: float, delta: float) -> int | None:
    if len(lost) == 0:
        return None
    bets = np.linspace(0, 0.9 / (1 - max_drop), 200)[1:, None]
    growth = float(np.log1p(bets * (max_drop - lost)).mean(axis=1).max())
    return math.ceil(-math.log(delta) / growth) if growth > 0 else None


def _check_nodes(task: GraphTask, nodes: Any) -> Tensor:
    used = task.masks["train"] | task.masks["val"]
    if nodes is None:
        free = is_labelled(task.data.y) & ~used
        if "test" in task.masks:
            free &= ~task.masks["test"]
        nodes = free
    nodes = read_ids(nodes, task.num_nodes).to(used.device).unique()
    if nodes.numel() == 0:
        raise ValueError(
            f"'{task.name}' has no labelled node outside its splits: give calibration nodes="
        )
    count = int(used[nodes].sum())
    if count > 0:
        raise ValueError(
            f"{count} of {nodes.numel()} calibration nodes trained or selected the model"
        )
    count = int((~is_labelled(task.data.y[nodes])).sum())
    if count > 0:
        raise ValueError(f"{count} of {nodes.numel()} calibration nodes have no label")
    return nodes
