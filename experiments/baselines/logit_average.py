r"""The control for the gate: an MLP and a GNN trained separately, and the plain average of their
logits.
"""

from typing import Any

from common import build_for
from torch import Tensor
from training import count_parameters, predict

from mowst import GraphTask, TrainConfig, fit
from mowst.nn.build import ModelConfig


def fit_logit_average(
    task: GraphTask, config: ModelConfig, settings: TrainConfig
) -> tuple[Tensor, dict[str, Any]]:
    r"""Returns the class probabilities :math:`(N, C)` of the averaged logits.

    Args:
        task (GraphTask): the task.
        config (ModelConfig): the two experts.
        settings (TrainConfig): the settings of each expert's training.
    """
    model = build_for(task, config)
    for expert in ("weak", "strong"):
        fit(model, task, method=expert, config=settings)
    prob = average_logits(predict(model.weak, task), predict(model.strong, task))
    return prob, {"parameters": count_parameters(model.weak) + count_parameters(model.strong)}


def average_logits(weak: Tensor, strong: Tensor) -> Tensor:
    r"""Computes :math:`\mathrm{softmax} \left( \frac{1}{2} (\mathbf{z} + \mathbf{z}') \right)`:
    Mowst with logits mixed at :math:`C_v = \frac{1}{2}`.

    Shapes:
        - **input** and **output:** :math:`(N, C)`
    """
    return ((weak + strong) / 2).softmax(dim=-1)
