r"""AdaGCN: boosted MLPs on features of more and more hops."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from common import build_for
from torch import Tensor
from torch.nn.functional import cross_entropy
from training import count_parameters, predict, score_val, train

from mowst import Graph, GraphTask, TrainConfig
from mowst.nn.build import ModelConfig
from mowst.sparse.propagate import propagate


def fit_adagcn(
    task: GraphTask, config: ModelConfig, settings: TrainConfig, hops: int = 10
) -> tuple[Tensor, dict[str, Any]]:
    r"""Returns the class probabilities :math:`(N, C)` of `"AdaGCN: Adaboosting Graph Convolutional
    Networks into Deep Models" <https://arxiv.org/abs/1908.05081>`_.

    Base classifier :math:`l` is an MLP on :math:`\mathbf{P}_{\mathrm{gcn}}^l \mathbf{X}`. It is
    trained on the node weights of :func:`boost`, from the parameters of base classifier :math:`l -
    1`, with a new optimiser. The number of hops, 0 to :obj:`hops`, is the one whose ensemble is
    best on the validation nodes.

    Args:
        task (GraphTask): the task.
        config (ModelConfig): the model whose weak expert is the base classifier.
        settings (TrainConfig): the settings of each base classifier's training.
        hops (int, optional): the most hops :math:`L`. (default: :obj:`10`)
    """
    base = build_for(task, config).weak
    index, y = task.index("train"), task.labels("train")
    weight = torch.full_like(y, 1 / y.numel(), dtype=task.data.x.dtype)
    predictions = []
    for x in compute_hops(task, hops):
        hop = replace_features(task, x)
        train(base, hop, settings, loss=partial(compute_weighted_loss, weight=weight))
        predictions.append(predict(base, hop))
        weight = boost(weight, predictions[-1][index], y)
    ensembles = [combine(predictions[: hop + 1]) for hop in range(hops + 1)]
    scores = [score_val(prob[task.index("val")], task, settings) for prob in ensembles]
    chosen = scores.index(max(scores))
    parameters = (chosen + 1) * count_parameters(base)
    return ensembles[chosen], {"parameters": parameters, "hops": chosen, "most_hops": hops}


def compute_hops(task: GraphTask, hops: int) -> Iterator[Tensor]:
    r"""Yields :math:`\mathbf{X}, \mathbf{P}_{\mathrm{gcn}} \mathbf{X}, \ldots,
    \mathbf{P}_{\mathrm{gcn}}^L \mathbf{X}`, each from the one before.
    """
    x = task.data.x
    graph = Graph(task.data.edge_index, task.data.edge_weight, num_nodes=task.num_nodes)
    operator = graph.operator("gcn", x.dtype)
    yield x
    for _ in range(hops):
        x = propagate(operator, x)
        yield x


def replace_features(task: GraphTask, x: Tensor) -> GraphTask:
    r"""Replaces the node features of a task."""
    data = copy(task.data)
    data.x = x
    return replace(task, data=data)


def compute_weighted_loss(logits: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    r"""Computes :math:`\sum_v w_v \, \ell(\mathbf{p}_v, y_v)` with weights that sum to one."""
    return (weight * cross_entropy(logits, y, reduction="none")).sum()


def compute_votes(logits: Tensor) -> Tensor:
    r"""Computes the votes of a base classifier in SAMME.R

    .. math::
        h_c = (C - 1) \left( \log p_c - \frac{1}{C} \sum_{c'} \log p_{c'} \right)

    Shapes:
        - **input** and **output:** :math:`(N, C)`
    """
    log_prob = logits.log_softmax(dim=-1)
    return (logits.size(-1) - 1) * (log_prob - log_prob.mean(dim=-1, keepdim=True))


def boost(weight: Tensor, logits: Tensor, y: Tensor) -> Tensor:
    r"""Computes the node weights after a base classifier

    .. math::
        w_v \leftarrow w_v \exp \left( -\frac{C - 1}{C} \sum_c t_{v,c} \log p_{v,c} \right)
        = w_v \exp \left( -\frac{h_{y_v}}{C - 1} \right), \qquad
        t_{v,c} = \begin{cases} 1 & c = y_v \\ -\frac{1}{C - 1} & \text{else} \end{cases}

    normalised to a sum of one.

    Shapes:
        - **weight**, **y:** :math:`(n)`, **logits:** :math:`(n, C)`
    """
    vote = compute_votes(logits).gather(1, y.unsqueeze(1)).squeeze(1)
    return (weight.log() - vote / (logits.size(-1) - 1)).softmax(dim=0)


def combine(predictions: Sequence[Tensor]) -> Tensor:
    r"""Computes the class probabilities of the ensemble, :math:`\mathrm{softmax} \left( \frac{1}{L
    + 1} \sum_l \mathbf{h}_l / (C - 1) \right)`. The largest entry is that of :math:`\sum_l
    \mathbf{h}_l`. With the mean instead of the sum, one base classifier keeps its own
    probabilities.

    Shapes:
        - **predictions:** logits :math:`(N, C)` each; **output:** :math:`(N, C)`
    """
    votes = torch.stack([compute_votes(logits) for logits in predictions])  # [L + 1, N, C]
    return (votes.mean(dim=0) / (votes.size(-1) - 1)).softmax(dim=-1)
