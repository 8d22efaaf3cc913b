r"""The output of the mixture."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mowst.nn.loss import mowst_loss
from mowst.sparse.features import Features


class MowstOutput(NamedTuple):
    r"""The output of :class:`~mowst.nn.mowst.Mowst`.

    Shapes:
        - **prob:** class probabilities of the prediction :math:`(N, C)`, or of several labels
          :math:`(N, L, 2)`
        - **confidence:** share :math:`C_v` of the weak expert in the prediction :math:`(N)`
        - **weak**, **strong:** logits :math:`(N, C)`, or of several labels :math:`(N, L, 2)`
    """

    prob: Tensor
    confidence: Tensor
    weak: Tensor
    strong: Tensor

    def loss(
        self, y: Tensor, mask: Tensor | None = None, class_weight: Tensor | None = None
    ) -> Tensor:
        r"""Returns the loss of Mowst, see :func:`~mowst.nn.loss.mowst_loss`."""
        return mowst_loss(self, y, mask, class_weight)


class OneOutput(torch.nn.Module):
    r"""A model as a module whose output is one plain tensor.

    Args:
        model (torch.nn.Module): The model, whose output is a :class:`MowstOutput`.
        output (str): A field of it.

    Raises:
        ValueError: If the field is unknown.
    """

    def __init__(self, model: torch.nn.Module, output: str) -> None:
        super().__init__()
        if output not in MowstOutput._fields:
            raise ValueError(f"unknown output '{output}', choose from {list(MowstOutput._fields)}")
        self.model = model
        self.output = output

    def forward(
        self,
        x: Tensor | Features,
        edge_index: Any,
        edge_weight: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""Runs the model and returns the field."""
        return getattr(self.model(x, edge_index, edge_weight, **kwargs), self.output)

    def __repr__(self) -> str:
        return f"{self.model!r}.{self.output}"
