r"""Full-batch training of any module under any loss, by the rules of :func:`mowst.fit`."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mowst import GraphTask, Mowst, TrainConfig
from mowst.nn.build import ModelConfig, build_model
from mowst.nn.contract import call_expert, takes_edges
from mowst.train.calibration import calibrated_nll


def build_for(task: GraphTask, config: ModelConfig) -> Mowst:
    r"""A freshly initialised model of the task's sizes."""
    return build_model(config, in_channels=task.num_features, out_channels=task.num_classes, num_nodes=task.num_nodes)


def train(
    module: torch.nn.Module,
    task: GraphTask,
    config: TrainConfig,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> None:
    r"""Trains a module until the validation score stops improving, and leaves its best state in it.

    Args:
        module (torch.nn.Module): :obj:`module(x)` or :obj:`module(x, edge_index)` :math:`\to (N, C)` logits.
        task (GraphTask): the task.
        config (TrainConfig): optimiser, epochs, patience and selection.
        loss (callable, optional): :obj:`loss(logits, y)` of the training nodes.
            (default: :func:`~torch.nn.functional.cross_entropy`)

    Raises:
        FloatingPointError: if the loss becomes infinite or NaN.
    """
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    optimizer = kind(module.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    best, best_epoch, kept = (float("-inf"),) * 2, 0, copy.deepcopy(module.state_dict())
    for epoch in range(1, config.epochs + 1):
        optimizer.zero_grad()
        value = loss(split_logits(module.train(), task, "train"), task.labels("train"))
        if not value.isfinite():
            raise FloatingPointError(f"the loss became {value.item()} in epoch {epoch}; a lower lr may help")
        value.backward()
        optimizer.step()
        if epoch % config.eval_every and epoch < config.epochs:
            continue
        with torch.no_grad():
            score = val_score(split_logits(module.eval(), task, "val").softmax(dim=-1), task, config)
        if score > best:
            best, best_epoch, kept = score, epoch, copy.deepcopy(module.state_dict())
        elif config.patience is not None and epoch - best_epoch >= config.patience:
            break
    module.load_state_dict(kept)


def split_logits(module: torch.nn.Module, task: GraphTask, split: str) -> Tensor:
    r"""The logits :math:`(n, C)` on a split; a module that reads no edges runs on its nodes alone."""
    if not takes_edges(module):
        return call_expert(module, task.features(split))
    return call_expert(module, task.data.x, task.data.edge_index, task.data.edge_weight, nodes=task.index(split))


def val_score(prob: Tensor, task: GraphTask, config: TrainConfig) -> tuple[float, float]:
    r"""The score of class probabilities on the validation nodes, higher is better; the second entry breaks ties."""
    y, metric = task.labels("val"), task.evaluate(prob, "val")
    loss = -float(task.nll(prob, "val") if config.select == "loss" else calibrated_nll(prob, y, task.class_weights))
    return (metric, loss) if config.select == "metric" else (loss, metric)


@torch.no_grad()
def predict(module: torch.nn.Module, task: GraphTask) -> Tensor:
    r"""The logits :math:`(N, C)` of a module, which is put in evaluation mode."""
    return call_expert(module.eval(), task.data.x, task.data.edge_index, task.data.edge_weight)


def count_parameters(module: torch.nn.Module) -> int:
    r"""The number of learnable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
