r"""Predictions on nodes that an expert was not trained on: what a confidence may learn from.

An expert that has memorised its training nodes is confident on exactly those, so the confidence that it shows there is
not the one it deserves elsewhere.
"""

import warnings
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from mowst.nn.cascade import Cascade
from mowst.nn.evaluating import evaluating
from mowst.task import GraphTask
from mowst.train.answers import expert_logits
from mowst.train.config import TrainConfig
from mowst.train.state import Snapshot
from mowst.train.turn import Turn


def cross_fit(
    model: Cascade,
    task: GraphTask,
    folds: int,
    config: TrainConfig,
    run: Callable[..., Generator[dict, None, Any]] = Turn.run,
    once: Callable[[Callable[[], Any]], Any] = lambda compute: compute(),
) -> Generator[dict, None, list[Tensor]]:
    r"""The logits of every expert on the training nodes, each node's by an expert that was trained on the other folds,
    from the state in which the experts are now; they are left in that state. Folds are stratified and follow torch's
    generator. Yields the epoch records of all these trainings.

    Args:
        model, task, folds, config: the experts, the task, the number of folds, the settings of their training.
        run (callable, optional): :obj:`run(turn, task)`, which runs a turn. (default: :obj:`Turn.run`)
        once (callable, optional): see :meth:`~mowst.train.journal.Journal.once`. (default: computes)

    Raises:
        ValueError: if no class has as many training nodes as there are folds.

    Shapes:
        - **output:** :math:`(n, C)` for each expert, in the order of :obj:`task.index("train")`
    """
    index, y, route = task.index("train"), task.labels("train"), model.route
    logits = [torch.zeros(y.numel(), task.num_classes, device=y.device) for _ in model.expert_names]
    start = Snapshot(model)
    start.states = once(lambda: start.states)
    seed = once(lambda: int(torch.randint(2**31 - 1, ())))
    for fold, (rest, held) in enumerate(_folds(y, folds, seed), start=1):
        train = torch.zeros_like(task.masks["train"]).index_fill(0, index[rest], True)
        part = replace(task, masks=task.masks | {"train": train})
        for k, name in enumerate(model.expert_names):
            start.restore()
            model.route = name
            # Under the route of one expert no mixture loss is asked for.
            turn = Turn(f"{name} without fold {fold}", model, (name,), lambda *_: y.new_zeros(()), config)
            yield from run(turn, part)

            def answer(k: int = k, nodes: Tensor = index[held]) -> Tensor:
                with torch.no_grad(), evaluating(model):
                    return expert_logits(model, k, task, nodes)

            logits[k][held] = once(answer).to(logits[k])
    start.restore()
    model.route = route
    return logits


def _folds(y: Tensor, folds: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    if folds > (largest := int(y.bincount().max())):
        raise ValueError(f"gate_folds={folds} needs a class with as many training nodes, the largest has {largest}")
    labels = y.cpu().numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels))
    return [(torch.from_numpy(rest).to(y.device), torch.from_numpy(held).to(y.device)) for rest, held in parts]
