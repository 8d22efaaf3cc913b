r"""AdaGCN: boosted MLPs on features of more and more hops."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from baselines.training import build_for, count_parameters, predict, train, val_score
from torch import Tensor
from torch.nn.functional import cross_entropy

from mowst import GraphTask, TrainConfig
from mowst.graph.adjacency import adjacency
from mowst.graph.propagate import propagate
from mowst.nn.build import ModelConfig


def fit_adagcn(
    task: GraphTask, config: ModelConfig, settings: TrainConfig, hops: int = 10
) -> tuple[Tensor, dict[str, Any]]:
    r"""The class probabilities :math:`(N, C)` of `"AdaGCN: Adaboosting Graph Convolutional Networks into Deep Models"
    <https://arxiv.org/abs/1908.05081>`_.

    Base classifier :math:`l` is an MLP on :math:`\mathbf{P}_{\mathrm{gcn}}^l \mathbf{X}`, trained on node weights that
    its predecessors leave (:func:`boost`) and started from the parameters of base :math:`l - 1`, with a new optimiser.
    The number of hops is the one, of 0 to :obj:`hops`, whose ensemble is best on the validation nodes.

    Args:
        task (GraphTask): the task.
        config (ModelConfig): the model whose weak expert is the base classifier.
        settings (TrainConfig): the settings of each base classifier's training.
        hops (int, optional): the most hops :math:`L`. (default: :obj:`10`)
    """
    base = build_for(task, config).weak
    index, y = task.index("train"), task.labels("train")
    weight = torch.full_like(y, 1 / y.numel(), dtype=task.data.x.dtype)
    answers = []
    for x in hop_features(task, hops):
        hop = with_features(task, x)
        train(base, hop, settings, loss=partial(weighted_loss, weight=weight))
        answers.append(predict(base, hop))
        weight = boost(weight, answers[-1][index], y)
    ensembles = [combine(answers[: hop + 1]) for hop in range(hops + 1)]
    scores = [val_score(prob[task.index("val")], task, settings) for prob in ensembles]
    chosen = scores.index(max(scores))
    parameters = (chosen + 1) * count_parameters(base)
    return ensembles[chosen], {"parameters": parameters, "hops": chosen, "most_hops": hops}


def hop_features(task: GraphTask, hops: int) -> Iterator[Tensor]:
    r""":math:`\mathbf{X}, \mathbf{P}_{\mathrm{gcn}} \mathbf{X}, \ldots, \mathbf{P}_{\mathrm{gcn}}^L \mathbf{X}`, each
    from the one before.
    """
    x = task.data.x
    graph = adjacency(task.data.edge_index, task.data.edge_weight, num_nodes=task.num_nodes)
    yield x
    for _ in range(hops):
        x = propagate(graph.operator("gcn", x.dtype), x)
        yield x


def with_features(task: GraphTask, x: Tensor) -> GraphTask:
    r"""The task with other node features."""
    data = copy(task.data)
    data.x = x
    return replace(task, data=data)


def weighted_loss(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    r""":math:`\sum_v w_v \, \ell(\mathbf{p}_v, y_v)` with weights that sum to one."""
    return (weight * cross_entropy(logits, y, reduction="none")).sum()


def additive_score(logits: Tensor) -> Tensor:
    r"""The vote of a base classifier in SAMME.R

    .. math::
        h_c = (C - 1) \left( \log p_c - \frac{1}{C} \sum_{c'} \log p_{c'} \right)

    Shapes:
        - **input** and **output:** :math:`(N, C)`
    """
    log_prob = logits.log_softmax(dim=-1)
    return (logits.size(-1) - 1) * (log_prob - log_prob.mean(dim=-1, keepdim=True))


def boost(weight: Tensor, logits: Tensor, y: Tensor) -> Tensor:
    r"""The node weights after a base classifier

    .. math::
        w_v \leftarrow w_v \exp \left( -\frac{C - 1}{C} \sum_c t_{v,c} \log p_{v,c} \right)
        = w_v \exp \left( -\frac{h_{y_v}}{C - 1} \right), \qquad
        t_{v,c} = \begin{cases} 1 & c = y_v \\ -\frac{1}{C - 1} & \text{else} \end{cases}

    normalised to sum to one.

    Shapes:
        - **weight**, **y:** :math:`(n)`, **logits:** :math:`(n, C)`
    """
    vote = additive_score(logits).gather(1, y.unsqueeze(1)).squeeze(1)
    return (weight.log() - vote / (logits.size(-1) - 1)).softmax(dim=0)


def combine(answers: Sequence[Tensor]) -> Tensor:
    r"""The class probabilities of the ensemble,
    :math:`\mathrm{softmax} \left( \frac{1}{L + 1} \sum_l \mathbf{h}_l / (C - 1) \right)`, whose largest entry is that
    of :math:`\sum_l \mathbf{h}_l`. The mean in place of the sum leaves one base classifier its own probabilities.

    Shapes:
        - **answers:** logits :math:`(N, C)` each; **output:** :math:`(N, C)`
    """
    votes = torch.stack([additive_score(logits) for logits in answers])  # [L + 1, N, C]
    return (votes.mean(dim=0) / (votes.size(-1) - 1)).softmax(dim=-1)
