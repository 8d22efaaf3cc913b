r"""The mixture of a weak and a strong expert."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.nn.inits import reset

from mowst.nn.contract import call_confidence, call_expert
from mowst.nn.mixture import check_mix, mixture_prob
from mowst.nn.saving import describe, load_weights, read_model, rebuild_part, write_model

PARTS = ("weak", "strong", "confidence")
ROUTES = ("mixture", "weak", "strong")


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


class Mowst(torch.nn.Module):
    r"""The mixture of a cheap weak expert and a graph neural network from the `"Mixture of Weak & Strong Experts on
    Graphs" <https://arxiv.org/abs/2311.05185>`_ paper

    .. math::
        \hat{\mathbf{y}}_v = C(\mathbf{p}_v) \, \mathbf{p}_v + \left( 1 - C(\mathbf{p}_v) \right) \mathbf{p}'_v

    where :math:`\mathbf{p}_v = \mathrm{softmax}(f_w(\mathbf{x}_v))` is the weak prediction,
    :math:`\mathbf{p}'_v = \mathrm{softmax}(f_s(\mathbf{X}, \mathbf{E})_v)` the strong one, and the confidence
    :math:`C` reads the weak prediction only. Read as a probability, :math:`C` is the share of answers that need no
    GNN (:meth:`predict`).

    Args:
        weak (torch.nn.Module): the weak expert, :obj:`weak(x)` (or :obj:`weak(x, edge_index)`, if its forward says
            so) :math:`\to (N, C)` logits.
        strong (torch.nn.Module): the strong expert, any GNN :obj:`strong(x, edge_index[, edge_weight=])`
            :math:`\to (N, C)` logits.
        confidence (torch.nn.Module): the confidence, :obj:`confidence(logits)` (or :obj:`confidence(logits, x=x)`,
            if its forward says so) :math:`\to (N)` in :math:`[0, 1]`.
        mix (str, optional): what is mixed, in training, validation and test alike: :obj:`"prob"` or
            :obj:`"logit"`. (default: :obj:`"prob"`)
        detach_dispersion (bool, optional): if set to :obj:`True`, no gradient reaches the weak expert through the
            confidence. (default: :obj:`False`)

    Raises:
        ValueError: if :obj:`mix` is unknown or the two experts disagree on the number of classes.

    Shapes:
        - **input:** node features :math:`(N, F)`, edge indices :math:`(2, E)`, edge weights :math:`(E)` *(optional)*
        - **output:** a :class:`MowstOutput`
    """

    def __init__(
        self,
        weak: torch.nn.Module,
        strong: torch.nn.Module,
        confidence: torch.nn.Module,
        mix: str = "prob",
        detach_dispersion: bool = False,
    ) -> None:
        super().__init__()
        self.weak = weak
        self.strong = strong
        self.confidence = confidence
        self.mix = check_mix(mix)
        self.detach_dispersion = detach_dispersion
        self.route = "mixture"

    @property
    def route(self) -> str:
        r"""Who answers: the :obj:`"mixture"`, or the :obj:`"weak"` or :obj:`"strong"` expert alone, which is the
        mixture at :math:`C = 1` or :math:`C = 0`: values that a learned gate cannot reach. Saved with the model.
        """
        return self._route

    @route.setter
    def route(self, route: str) -> None:
        if route not in ROUTES:
            raise ValueError(f"unknown route '{route}', choose from {list(ROUTES)}")
        self._route = route

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters, and the route to :obj:`"mixture"`."""
        for role in PARTS:
            reset(getattr(self, role))
        self.route = "mixture"

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Tensor | None = None, **kwargs: Any) -> MowstOutput:
        r"""Runs both experts on all nodes.

        Args:
            x (Tensor): node features of shape :math:`(N, F)`.
            edge_index (Tensor or SparseTensor): the graph, in any form that the strong expert takes.
            edge_weight (Tensor, optional): edge weights of shape :math:`(E)`. (default: :obj:`None`)
            **kwargs (optional): further arguments of the strong expert, such as :obj:`edge_attr`.
        """
        weak = call_expert(self.weak, x, edge_index, edge_weight)
        confidence = self.routed(self.gate(weak, x))
        strong = call_expert(self.strong, x, edge_index, edge_weight, **kwargs)
        return MowstOutput(self.mixture(weak, strong, confidence), confidence, weak, strong)

    def gate(self, weak: Tensor, x: Tensor) -> Tensor:
        r"""The confidence of shape :math:`(N)` that the gate gives the weak logits, whatever the route."""
        return call_confidence(self.confidence, weak.detach() if self.detach_dispersion else weak, x)

    def routed(self, confidence: Tensor) -> Tensor:
        r"""The share of the weak expert under the current route: all, none, or the given confidence."""
        if self.route == "mixture":
            return confidence
        return torch.full_like(confidence, float(self.route == "weak"))

    def mixture(self, weak: Tensor, strong: Tensor, confidence: Tensor) -> Tensor:
        r"""The mixed class probabilities of shape :math:`(N, C)`, see
        :func:`~mowst.nn.mixture.mixture_prob`.
        """
        if weak.shape != strong.shape:
            raise ValueError(f"the experts disagree: weak logits {list(weak.shape)}, strong {list(strong.shape)}")
        return mixture_prob(weak, strong, confidence, self.mix)

    @torch.no_grad()
    def predict(
        self,
        x: Tensor,
        edge_index: Any,
        edge_weight: Tensor | None = None,
        *,
        threshold: float | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""The predicted classes of shape :math:`(N)`, in evaluation mode and without gradients. The strong expert
        does not run where no node needs it.

        Args:
            x (Tensor): node features of shape :math:`(N, F)`.
            edge_index (Tensor or SparseTensor): the graph.
            edge_weight (Tensor, optional): edge weights of shape :math:`(E)`. (default: :obj:`None`)
            threshold (float, optional): if given, the weak expert alone answers where
                :math:`C_v \geq` :obj:`threshold` and the strong expert alone elsewhere; else the mixture answers.
                (default: :obj:`None`)
            sample (bool, optional): if set to :obj:`True`, the weak expert answers where a draw from
                :math:`U(0, 1)` stays below :math:`C_v`, the strong expert elsewhere: the paper's inference, whose
                expected score is exact in :func:`~mowst.metrics.expected_score`. (default: :obj:`False`)
            generator (torch.Generator, optional): the source of the draws. (default: :obj:`None`)
            **kwargs (optional): further arguments of the strong expert.

        Raises:
            ValueError: if both :obj:`threshold` and :obj:`sample` are given.
        """
        if threshold is not None and sample:
            raise ValueError("give a threshold or sample=True, not both")
        with evaluating(self):
            weak = call_expert(self.weak, x, edge_index, edge_weight)
            share = self.routed(self.gate(weak, x))
            if sample:
                draw = torch.rand(share.shape, generator=generator, device=share.device, dtype=share.dtype)
                share = (draw < share).to(share.dtype)
            elif threshold is not None and self.route == "mixture":
                share = (share >= threshold).to(share.dtype)
            if (share == 1).all():
                return weak.argmax(dim=-1)
            strong = call_expert(self.strong, x, edge_index, edge_weight, **kwargs)
        return self.mixture(weak, strong, share).argmax(dim=-1)

    def as_module(self, output: str = "prob") -> torch.nn.Module:
        r"""This model as a module that returns one plain tensor, for explainers and metrics.

        Args:
            output (str, optional): a field of :class:`MowstOutput`. (default: :obj:`"prob"`)
        """
        if output not in MowstOutput._fields:
            raise ValueError(f"unknown output '{output}', choose from {list(MowstOutput._fields)}")
        return _OneOutput(self, output)

    def save(self, path: str | PathLike[str]) -> None:
        r"""Writes weights, route and the description of the parts to one safetensors file, whole or not at all.

        Raises:
            ValueError: if a lazy module has not seen its first input yet, and so has no weights to save.
        """
        settings = {"mix": self.mix, "detach_dispersion": self.detach_dispersion, "route": self.route}
        parts = {role: describe(getattr(self, role)) for role in PARTS}
        write_model(path, self.state_dict(), settings | parts)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        weak: torch.nn.Module | None = None,
        strong: torch.nn.Module | None = None,
        confidence: torch.nn.Module | None = None,
        trust: bool = False,
    ) -> "Mowst":
        r"""Rebuilds a model from a file that :meth:`save` wrote. The experts and gates of this package rebuild
        themselves; a module of another package is passed in, built with the arguments that it had.

        Args:
            path (str): the file.
            weak, strong, confidence (torch.nn.Module, optional): a part to use in place of the described one.
                (default: :obj:`None`)
            trust (bool, optional): if set to :obj:`True`, import paths that the file names are followed, which runs
                the code they lead to. (default: :obj:`False`)

        Raises:
            ValueError: if the file is not such a file, if a part cannot be rebuilt (it is named), or if the weights
                do not fit.
        """
        state, spec = read_model(path)
        given = {"weak": weak, "strong": strong, "confidence": confidence}
        parts = {
            role: rebuild_part(spec[role], role=role, trust=trust) if part is None else part
            for role, part in given.items()
        }
        model = cls(**parts, mix=spec["mix"], detach_dispersion=spec["detach_dispersion"])
        load_weights(model, state, source=path)
        model.route = spec["route"]
        return model

    def get_extra_state(self) -> dict[str, str]:
        return {"route": self.route}

    def set_extra_state(self, state: dict[str, str]) -> None:
        self.route = state["route"]

    def __repr__(self) -> str:
        inner = ", ".join(f"{role}={_one_line(getattr(self, role))}" for role in PARTS)
        return f"{type(self).__name__}({inner}, mix='{self.mix}')"


@contextmanager
def evaluating(*modules: torch.nn.Module) -> Iterator[None]:
    r"""A context in which modules are in evaluation mode; each submodule's own mode is restored at its end."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training


class _OneOutput(torch.nn.Module):
    def __init__(self, model: Mowst, output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Tensor | None = None, **kwargs: Any) -> Tensor:
        return getattr(self.model(x, edge_index, edge_weight, **kwargs), self.output)

    def __repr__(self) -> str:
        return f"{self.model!r}.{self.output}"


def _one_line(module: torch.nn.Module) -> str:
    text = repr(module)
    return text if "\n" not in text else f"{type(module).__name__}(...)"
