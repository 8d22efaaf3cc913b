r"""The cheapest threshold that a guarantee on the accuracy allows."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mowst.nn.cascade import Cascade
from mowst.nn.evaluating import evaluating
from mowst.task import GraphTask

Reference = Literal["mixture", "strong"]


@dataclass(frozen=True)
class Choice:
    r"""What :func:`choose_threshold` found.

    Args:
        threshold: the threshold for :meth:`~mowst.nn.cascade.Cascade.predict`; :obj:`None` where nothing can be
            claimed.
        activated: the share of the calibration nodes that it sends to the strong expert.
        drop: the accuracy that it loses against the reference on the calibration nodes.
        num_nodes: the number of calibration nodes.
        needed: where nothing can be claimed, about how many would be needed for the costliest policy, all nodes to
            the strong expert; :obj:`None` if no number would do, as that policy itself loses too much.
    """

    threshold: float | None
    activated: float
    drop: float
    num_nodes: int
    needed: int | None = None


@torch.no_grad()
def choose_threshold(
    model: Cascade,
    task: GraphTask,
    max_drop: float = 0.005,
    delta: float = 0.05,
    reference: Reference = "mixture",
    nodes: Tensor | None = None,
    num_candidates: int = 100,
) -> Choice:
    r"""The lowest threshold (the fewest nodes for the strong expert) at which, with probability :math:`1 - \delta` over
    the calibration nodes, the accuracy of hard routing is at most :obj:`max_drop` below that of a reference policy.

    `"Learn then Test" <https://arxiv.org/abs/2110.01052>`_ with a fixed sequence of tests, from all nodes to the strong
    expert downwards, stopping at the first threshold :math:`t` that fails. With :math:`d_v \in \{-1, 0, 1\}` the right
    answers that the policy loses at node :math:`v`, the hypothesis :math:`\mathbb{E}[d] > m` is rejected when the
    capital of a bet against it (`"Estimating means of bounded random variables by betting"
    <https://arxiv.org/abs/2010.09686>`_)

    .. math::
        K_n = \prod_{v=1}^{n} \left( 1 + \lambda_v (m - d_v) \right), \qquad
        \lambda_v \text{ of the nodes before } v

    reaches :math:`1 / \delta`. The assumption: calibration nodes and the nodes of later questions are drawn alike, and
    neither trained nor selected the model.

    Args:
        model (Mowst): a trained model of two experts.
        task (GraphTask): its task.
        max_drop (float, optional): the accuracy :math:`m` that may be lost. (default: :obj:`0.005`)
        delta (float, optional): the probability :math:`\delta` of a wrong claim. (default: :obj:`0.05`)
        reference (str, optional): the policy to compare with, whatever the model's route: the :obj:`"mixture"`, or the
            :obj:`"strong"` expert on all nodes. (default: :obj:`"mixture"`)
        nodes (Tensor, optional): ids of the labelled calibration nodes, by default those labelled nodes that are in no
            split. (default: :obj:`None`)
        num_candidates (int, optional): the number of thresholds tried. (default: :obj:`100`)

    Raises:
        ValueError: if the model has more than two experts, calibration nodes are missing, unlabelled, or used in
            training or selection, or a number is out of its range.
    """
    if len(model.expert_names) != 2:
        raise ValueError(f"thresholds are chosen for two experts, this model has {len(model.expert_names)}")
    if not 0 < delta < 1 or not 0 < max_drop < 1:
        raise ValueError(f"max_drop and delta must lie in (0, 1), got {max_drop} and {delta}")
    if reference not in ("mixture", "strong"):
        raise ValueError(f"unknown reference '{reference}', choose 'mixture' or 'strong'")
    nodes = _calibration_nodes(task, nodes)
    data, y = task.data, task.data.y[nodes]
    with evaluating(model):
        logits = [model.logits(k, data.x, data.edge_index, data.edge_weight, nodes=nodes) for k in (0, 1)]
        confidence = model.gate(0, logits[0], data.x[nodes])
    weak, strong = ((z.argmax(dim=-1) == y).long().numpy(force=True) for z in logits)
    mixed = (model.mixture(logits, [confidence]).argmax(dim=-1) == y).long().numpy(force=True)
    return choose(
        weak,
        strong,
        mixed if reference == "mixture" else strong,
        confidence.numpy(force=True),
        max_drop,
        delta,
        num_candidates,
    )


def choose(
    weak: np.ndarray,
    strong: np.ndarray,
    reference: np.ndarray,
    confidence: np.ndarray,
    max_drop: float,
    delta: float,
    num_candidates: int = 100,
) -> Choice:
    r"""The choice from what is right: of the weak expert, the strong one and the reference policy, 0 or 1 per node.

    Shapes:
        - **weak**, **strong**, **reference**, **confidence:** :math:`(n)`
    """
    # A bet needs nodes in an order that tells nothing of them.
    order = np.random.default_rng(0).permutation(len(confidence))
    weak, strong, reference, confidence = (array[order] for array in (weak, strong, reference, confidence))
    # Fixed before any label is seen: above 1, in any precision, then quantiles of the confidence: from no node to all
    # nodes for the weak expert.
    ranks = np.linspace(1, 0, num_candidates)
    thresholds = [2.0, *np.quantile(confidence, ranks, method="higher")]
    chosen = None
    for threshold in thresholds:
        lost = reference - np.where(confidence >= threshold, weak, strong)
        if not rejects(lost, max_drop, delta):
            break
        chosen = Choice(float(threshold), float((confidence < threshold).mean()), float(lost.mean()), len(lost))
    if chosen is not None:
        return chosen
    lost = reference - strong
    return Choice(None, 1.0, float(lost.mean()), len(lost), needed=_needed(lost, max_drop, delta))


def rejects(lost: np.ndarray, max_drop: float, delta: float) -> bool:
    r"""Whether the bet against :math:`\mathbb{E}[d] > m` ever multiplies its capital by :math:`1 / \delta`."""
    gain = max_drop - lost  # in [m - 1, m + 1], of expectation below zero under the hypothesis
    count = np.arange(len(lost))
    # The growth-optimal bet is about mean / variance; half a node at the worst and best value regularises both.
    mean = (np.concatenate([[0.0], np.cumsum(gain)[:-1]]) + max_drop / 2) / (count + 1)
    square = (np.concatenate([[0.0], np.cumsum(gain**2)[:-1]]) + max_drop) / (count + 1)
    bet = np.clip(mean / square, 0, 0.9 / (1 - max_drop))
    return bool(np.cumsum(np.log1p(bet * gain)).max(initial=-np.inf) >= -math.log(delta))


def _needed(lost: np.ndarray, max_drop: float, delta: float) -> int | None:
    gain = max_drop - lost
    bets = np.linspace(0, 0.9 / (1 - max_drop), 200)[1:, None]
    growth = float(np.log1p(bets * gain).mean(axis=1).max()) if len(lost) else 0.0
    return math.ceil(-math.log(delta) / growth) if growth > 0 else None


def _calibration_nodes(task: GraphTask, nodes: Tensor | None) -> Tensor:
    used = task.masks["train"] | task.masks["val"]
    if nodes is None:
        nodes = ((task.data.y >= 0) & ~used & ~task.masks["test"]).nonzero().view(-1)
    if nodes.numel() == 0:
        raise ValueError(f"'{task.name}' has no labelled node outside its splits: give nodes= to calibrate on")
    if count := int(used[nodes].sum()):
        raise ValueError(f"{count} of the {nodes.numel()} calibration nodes trained or selected the model: take others")
    if count := int((task.data.y[nodes] < 0).sum()):
        raise ValueError(f"{count} of the {nodes.numel()} calibration nodes have no label")
    return nodes
