r"""Full-batch training of any module under any loss, by the rules of :func:`mowst.fit`."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from mowst import Features, Graph, GraphTask, TrainConfig
from mowst.labels import mean_nll
from mowst.nn.call import call_expert
from mowst.nn.signature import takes_edges
from mowst.nn.softmax import log_softmax, softmax
from mowst.train.calibration import calibrated_nll

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
Score = tuple[float, float]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    r"""Returns the mean cross-entropy as training computes it, to the bit."""
    return mean_nll(log_softmax(logits), y)


def train(
    module: torch.nn.Module,
    task: GraphTask,
    config: TrainConfig,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    predict_val: Callable[[], Tensor] | None = None,
) -> Score:
    r"""Trains a module until the validation score stops improving, and leaves its best state in it.
    Returns the best score.

    Args:
        module (torch.nn.Module): :obj:`module(x)` or :obj:`module(x, edge_index)` :math:`\to (N,
            C)` logits.
        task (GraphTask): The task.
        config (TrainConfig): The optimiser, epochs, patience and selection.
        loss (callable, optional): :obj:`loss(logits, y)` on the training nodes.
            (default: :func:`cross_entropy`)
        predict_val (callable, optional): Returns the class probabilities of the validation nodes by
            which states are selected. The module's own if :obj:`None`. (default: :obj:`None`)

    Raises:
        FloatingPointError: If the loss becomes infinite or NaN.
    """
    optimizer = OPTIMIZERS[config.optimizer](
        module.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    features = Features(task.data.x)
    graph = Graph(task.data.edge_index, task.data.edge_weight, num_nodes=task.num_nodes)

    def compute_logits(split: str) -> Tensor:
        if not takes_edges(module):
            return call_expert(module, task.features(split))
        return call_expert(module, features, graph, nodes=task.index(split))

    best, best_epoch = (float("-inf"), float("-inf")), 0
    best_state = copy.deepcopy(module.state_dict())
    for epoch in range(1, config.epochs + 1):
        optimizer.zero_grad()
        module.train()
        value = loss(compute_logits("train"), task.labels("train"))
        if not value.isfinite():
            raise FloatingPointError(
                f"the loss became {value.item()} in epoch {epoch}; a lower lr may help"
            )
        value.backward()
        optimizer.step()
        if epoch % config.eval_every and epoch < config.epochs:
            continue
        module.eval()
        with torch.no_grad():
            prob = predict_val() if predict_val else softmax(compute_logits("val"))
            score = score_val(prob, task, config)
        if score > best:
            best, best_epoch = score, epoch
            best_state = copy.deepcopy(module.state_dict())
        elif config.patience is not None and epoch - best_epoch >= config.patience:
            break
    module.load_state_dict(best_state)
    return best


def score_val(prob: Tensor, task: GraphTask, config: TrainConfig) -> Score:
    r"""Scores the class probabilities of the validation nodes. Higher is better; the second entry
    breaks ties.
    """
    metric = task.evaluate(prob, "val")
    if config.select == "loss":
        loss = -float(task.nll(prob, "val"))
    else:
        loss = -float(calibrated_nll(prob, task.labels("val"), task.class_weights))
    if config.select == "metric":
        return metric, loss
    return loss, metric


@torch.no_grad()
def predict(module: torch.nn.Module, task: GraphTask) -> Tensor:
    r"""Returns the logits :math:`(N, C)` of a module, which is put in evaluation mode."""
    data = task.data
    return call_expert(module.eval(), data.x, data.edge_index, data.edge_weight)


def count_parameters(module: torch.nn.Module) -> int:
    r"""Counts the learnable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
