r"""The mixture of a weak and a strong expert."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mowst.nn.cascade import Cascade


class MowstOutput(NamedTuple):
    r"""The output of :class:`Mowst`.

    Shapes:
        - **prob:** class probabilities of the answer :math:`(N, C)`
        - **confidence:** the share :math:`C_v` of the weak expert in it :math:`(N)`
        - **weak**, **strong:** logits :math:`(N, C)`
    """

    prob: Tensor
    confidence: Tensor
    weak: Tensor
    strong: Tensor


class Mowst(Cascade):
    r"""The mixture of a cheap weak expert and a graph neural network from the `"Mixture of Weak & Strong Experts on
    Graphs" <https://arxiv.org/abs/2311.05185>`_ paper

    .. math::
        \hat{\mathbf{y}}_v = C(\mathbf{p}_v) \, \mathbf{p}_v + \left( 1 - C(\mathbf{p}_v) \right) \mathbf{p}'_v

    where :math:`\mathbf{p}_v = \mathrm{softmax}(f_w(\mathbf{x}_v))` is the weak prediction,
    :math:`\mathbf{p}'_v = \mathrm{softmax}(f_s(\mathbf{X}, \mathbf{E})_v)` the strong one, and the confidence
    :math:`C` reads the weak prediction only. Read as a probability, :math:`C` is the share of answers that need no
    GNN (:meth:`predict`). It is the :class:`~mowst.nn.cascade.Cascade` of two experts.

    Args:
        weak (torch.nn.Module): the weak expert, :obj:`weak(x)` (or :obj:`weak(x, edge_index)`, if its forward says
            so) :math:`\to (N, C)` logits.
        strong (torch.nn.Module): the strong expert, any GNN :obj:`strong(x, edge_index[, edge_weight=])`
            :math:`\to (N, C)` logits.
        confidence (torch.nn.Module): the confidence, :obj:`confidence(logits)` (or :obj:`confidence(logits, x=x)`,
            if its forward says so) :math:`\to (N)` in :math:`[0, 1]`.
        mix (str, optional): what is mixed, in training, validation and test alike: :obj:`"prob"`, :obj:`"logit"`, or
            :obj:`"auto"`, which is the first until training chooses. (default: :obj:`"auto"`)
        detach_dispersion (bool, optional): if set to :obj:`True`, no gradient reaches the weak expert through the
            confidence. (default: :obj:`False`)

    Raises:
        ValueError: if :obj:`mix` is unknown.

    Shapes:
        - **input:** node features :math:`(N, F)`, edge indices :math:`(2, E)`, edge weights :math:`(E)` *(optional)*
        - **output:** a :class:`MowstOutput`
    """

    weak: torch.nn.Module
    strong: torch.nn.Module
    confidence: torch.nn.Module

    def __init__(
        self,
        weak: torch.nn.Module,
        strong: torch.nn.Module,
        confidence: torch.nn.Module,
        mix: str = "auto",
        detach_dispersion: bool = False,
    ) -> None:
        super().__init__({"weak": weak, "strong": strong}, {"confidence": confidence}, mix, detach_dispersion)

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Tensor | None = None, **kwargs: Any) -> MowstOutput:
        r"""Runs both experts on all nodes, see :meth:`~mowst.nn.cascade.Cascade.forward`."""
        prob, (confidence,), (weak, strong) = super().forward(x, edge_index, edge_weight, **kwargs)
        return MowstOutput(prob, confidence, weak, strong)

    _outputs = MowstOutput._fields

    @classmethod
    def _of(cls, experts: dict[str, torch.nn.Module], confidences: dict[str, torch.nn.Module]) -> "Mowst":
        if (*experts, *confidences) != ("weak", "strong", "confidence"):
            raise ValueError(f"the file holds a cascade of {', '.join(experts)}: load it with Cascade.load")
        return cls(experts["weak"], experts["strong"], confidences["confidence"])
