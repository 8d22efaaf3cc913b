r"""The control for size: independent GNNs with as many parameters together as a Mowst model."""

from bisect import bisect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from common import build_for
from torch import Tensor
from training import count_parameters, predict

from mowst import GraphTask, Mowst, TrainConfig, fit
from mowst.nn.build import ModelConfig


def fit_ensemble(
    task: GraphTask, config: ModelConfig, settings: TrainConfig, members: int = 2
) -> tuple[Tensor, dict[str, Any]]:
    r"""Returns the class probabilities :math:`\frac{1}{n} \sum_{i=1}^{n} \mathbf{p}^{(i)}`, of
    shape :math:`(N, C)`, of GNNs that are initialised and trained one after the other on one stream
    of random numbers.

    Args:
        task (GraphTask): the task.
        config (ModelConfig): the Mowst model to compare with; the members have its strong expert's
            kind and depth.
        settings (TrainConfig): the settings of each member's training.
        members (int, optional): the number of GNNs :math:`n`. (default: :obj:`2`)
    """

    def build(width: int) -> Mowst:
        strong_args = config.strong_args | {"hidden_channels": width}
        return build_for(task, replace(config, strong_args=strong_args))

    def count(width: int) -> int:
        return members * count_parameters(build(width).strong)

    with torch.device("meta"):  # counts without memory
        budget = count_parameters(build_for(task, config))
        width = fit_width(count, budget)
        parameters = count(width)
    probs = []
    for _ in range(members):
        model = build(width)
        fit(model, task, method="strong", config=settings)
        probs.append(predict(model.strong, task).softmax(dim=-1))
    details = {"parameters": parameters, "budget": budget, "width": width, "members": members}
    return torch.stack(probs).mean(dim=0), details


def fit_width(count: Callable[[int], int], budget: int) -> int:
    r"""Returns the width whose number of parameters is nearest to the budget.

    Args:
        count (callable): the number of parameters at a width, growing at least as fast as the
            width.
        budget (int): the number of parameters to reach.

    Raises:
        ValueError: If width 1 exceeds the budget.
    """
    below = bisect(range(1, budget + 1), budget, key=count)
    if below == 0:
        raise ValueError(
            f"width 1 has {count(1)} parameters, more than the budget of {budget}: take fewer"
            " members"
        )
    return min(below, below + 1, key=lambda width: abs(count(width) - budget))
