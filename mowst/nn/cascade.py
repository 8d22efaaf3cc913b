r"""A cascade of experts, weak to strong: each answers as far as it is confident, and passes the rest on."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.nn.inits import reset

from mowst.nn.contract import call_confidence, call_expert
from mowst.nn.evaluating import evaluating
from mowst.nn.mixture import MIXES, candidate_mixes, mixture_prob, most_probable
from mowst.nn.routing import routed, routing_rule
from mowst.nn.saving import describe, load_weights, read_model, rebuild_part, write_model

# Names of routes, choices and methods beside those of experts.
RESERVED = ("mixture", *MIXES, "mowst", "mowst-star")


class CascadeOutput(NamedTuple):
    r"""The output of :class:`Cascade`, whose entries follow the experts, weak to strong.

    Shapes:
        - **prob:** class probabilities of the answer :math:`(N, C)`
        - **confidences:** the share of what reaches an expert that it answers, for all but the last :math:`(N)`
        - **logits:** :math:`(N, C)` each
    """

    prob: Tensor
    confidences: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]


class Cascade(torch.nn.Module):
    r"""A mixture of :math:`K` experts ordered weak to strong,

    .. math::
        \hat{\mathbf{y}} = \mathbf{m}_1, \qquad \mathbf{m}_k = C_k(\mathbf{p}_k) \, \mathbf{p}_k +
        \left( 1 - C_k(\mathbf{p}_k) \right) \mathbf{m}_{k+1}, \qquad \mathbf{m}_K = \mathbf{p}_K

    where the confidence :math:`C_k` of expert :math:`k` reads that expert's prediction :math:`\mathbf{p}_k` only. Read
    as a probability, it decides whether expert :math:`k` answers or passes the node on to the next. The `"Mixture of
    Weak & Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_ paper is the case :math:`K = 2`, which is
    :class:`~mowst.nn.mowst.Mowst`, and mentions the others.

    Args:
        experts (list or dict): the experts, weak to strong, by name if in a dictionary; else their names are
            :obj:`"expert1"` to :obj:`"expertK"`. Each is :obj:`expert(x)` or :obj:`expert(x, edge_index[,
            edge_weight=])` :math:`\to (N, C)` logits, as its forward says.
        confidences (list or dict): one confidence for each expert but the last, :obj:`confidence(logits)` or
            :obj:`confidence(logits, x=x)` :math:`\to (N)` in :math:`[0, 1]`; unnamed, :obj:`"confidence1"` to
            :obj:`"confidence(K-1)"`.
        mix (str, optional): what is mixed, in training, validation and test alike: :obj:`"prob"`, :obj:`"logit"`, or
            :obj:`"auto"`, which is the first until training chooses. (default: :obj:`"auto"`)
        detach_dispersion (bool, optional): if set to :obj:`True`, no gradient reaches an expert through its
            confidence. (default: :obj:`False`)

    Raises:
        ValueError: if there are fewer than two experts, not one confidence fewer than experts, two parts of one name or
            one called like a mixture or method, or if :obj:`mix` is unknown.

    Shapes:
        - **input:** node features :math:`(N, F)`, edge indices :math:`(2, E)`, edge weights :math:`(E)` *(optional)*
        - **output:** a :class:`CascadeOutput`
    """

    def __init__(
        self,
        experts: Sequence[torch.nn.Module] | Mapping[str, torch.nn.Module],
        confidences: Sequence[torch.nn.Module] | Mapping[str, torch.nn.Module],
        mix: str = "auto",
        detach_dispersion: bool = False,
    ) -> None:
        super().__init__()
        experts, confidences = _named(experts, "expert"), _named(confidences, "confidence")
        if len(experts) < 2 or len(confidences) != len(experts) - 1:
            raise ValueError(
                "give two experts or more, and a confidence for each but the last: got "
                f"{len(experts)} experts, {len(confidences)} confidences"
            )
        names = (*experts, *confidences)
        if unfit := [name for name in names if name in RESERVED or names.count(name) > 1]:
            raise ValueError(f"no part can be called {unfit[0]!r}: that is {list(RESERVED)}, or another part's name")
        self.expert_names = tuple(experts)
        self.gate_names = tuple(confidences)
        for name, part in (experts | confidences).items():
            self.add_module(name, part)
        self.mixes = candidate_mixes(mix)
        self.mix = self.mixes[0]
        self.detach_dispersion = detach_dispersion
        self.temperatures = [1.0] * len(experts)
        self.route = "mixture"

    @property
    def parts(self) -> tuple[str, ...]:
        r"""The names of all experts and confidences."""
        return (*self.expert_names, *self.gate_names)

    @property
    def route(self) -> str:
        r"""Who answers: the :obj:`"mixture"`, or, by name, one expert alone, which is the mixture with confidences of 0
        and 1: values that a learned gate cannot reach. Saved with the model.
        """
        return self._route

    @route.setter
    def route(self, route: str) -> None:
        if route not in (known := ("mixture", *self.expert_names)):
            raise ValueError(f"unknown route '{route}', choose from {list(known)}")
        self._route = route

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters, the temperatures to 1, the route to :obj:`"mixture"` and what is
        mixed to what it was at first.
        """
        for name in self.parts:
            reset(getattr(self, name))
        self.temperatures = [1.0] * len(self.expert_names)
        self.route, self.mix = "mixture", self.mixes[0]

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Tensor | None = None, **kwargs: Any) -> Any:
        r"""Runs all experts on all nodes.

        Args:
            x (Tensor): node features of shape :math:`(N, F)`.
            edge_index (Tensor or SparseTensor): the graph, in any form that the experts take.
            edge_weight (Tensor, optional): edge weights of shape :math:`(E)`. (default: :obj:`None`)
            **kwargs (optional): further arguments of the last expert, such as :obj:`edge_attr`.
        """
        logits, confidences = [], []
        for k in range(len(self.expert_names)):
            last = k == len(self.expert_names) - 1
            logits.append(self.logits(k, x, edge_index, edge_weight, **kwargs if last else {}))
            if not last:
                confidences.append(self.gate(k, logits[k], x))
        confidences = self.routed(confidences)
        return CascadeOutput(self.mixture(logits, confidences), tuple(confidences), tuple(logits))

    def logits(self, k: int, x: Tensor, edge_index: Any = None, edge_weight: Tensor | None = None, **kw: Any) -> Tensor:
        r"""The logits :math:`\mathbf{z}_k / T_k` of expert :math:`k`, counted from 0, see
        :func:`~mowst.nn.contract.call_expert`; the temperature :math:`T_k` is 1 unless it was calibrated.
        """
        out = call_expert(getattr(self, self.expert_names[k]), x, edge_index, edge_weight, **kw)
        return out if self.temperatures[k] == 1 else out / self.temperatures[k]

    def gate(self, k: int, logits: Tensor, x: Tensor) -> Tensor:
        r"""The confidence of shape :math:`(N)` of expert :math:`k` in its logits, whatever the route."""
        return call_confidence(
            getattr(self, self.gate_names[k]), logits.detach() if self.detach_dispersion else logits, x
        )

    def routed(self, confidences: Sequence[Tensor]) -> list[Tensor]:
        r"""The confidences under the current route: as given, or 0 before the one expert that answers and 1 there."""
        if self.route == "mixture":
            return list(confidences)
        return [
            torch.full_like(c, float(name == self.route))
            for name, c in zip(self.expert_names, confidences, strict=False)
        ]

    def mixture(self, logits: Sequence[Tensor], confidences: Sequence[Tensor]) -> Tensor:
        r"""The mixed class probabilities of shape :math:`(N, C)`, see :func:`~mowst.nn.mixture.mixture_prob`."""
        if len({z.shape for z in logits}) > 1:
            given = zip(self.expert_names, logits, strict=False)
            raise ValueError("the experts disagree: " + ", ".join(f"{n} logits {list(z.shape)}" for n, z in given))
        return mixture_prob(logits, confidences, self.mix)

    @torch.no_grad()
    def predict(
        self,
        x: Tensor,
        edge_index: Any,
        edge_weight: Tensor | None = None,
        *,
        threshold: float | None = None,
        budget: float | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""The predicted classes of shape :math:`(N)`, in evaluation mode and without gradients. Who answers is
        :attr:`route`; or, where one of the three choices is made, whatever the route, the confidences send each node to
        one expert alone, and an expert runs for the nodes that reach it: layer by layer on those that it must compute,
        where that is cheaper than all nodes.

        Args:
            x (Tensor): node features of shape :math:`(N, F)`.
            edge_index (Tensor or SparseTensor): the graph.
            edge_weight (Tensor, optional): edge weights of shape :math:`(E)`. (default: :obj:`None`)
            threshold (float, optional): a node is answered by the first expert whose confidence is at least
                :obj:`threshold`, and by the last where there is none. (default: :obj:`None`)
            budget (float, optional): of two experts, the strong one answers this share of the nodes, rounded down:
                those of the least confidence, in the order of nodes where it is equal. (default: :obj:`None`)
            sample (bool, optional): if set to :obj:`True`, an expert answers where a draw from :math:`U(0, 1)` stays
                below its confidence, and passes on elsewhere: the paper's inference, whose expected score is exact in
                :func:`~mowst.metrics.expected_score`. (default: :obj:`False`)
            generator (torch.Generator, optional): the source of the draws. (default: :obj:`None`)
            **kwargs (optional): further arguments of the last expert.

        Raises:
            ValueError: if two choices are made, the budget is no share, or there are more than two experts for it.
            FloatingPointError: if a prediction is NaN.
        """
        rule = routing_rule(threshold, budget, sample, generator)
        if budget is not None and len(self.expert_names) > 2:
            raise ValueError(f"a budget is for two experts, here are {len(self.expert_names)}: give a threshold")
        last = len(self.gate_names)

        def logits(k: int, nodes: Tensor | None) -> Tensor:
            return self.logits(k, x, edge_index, edge_weight, nodes=nodes, **kwargs if k == last else {})

        with evaluating(self):
            if rule is not None:
                return most_probable(routed(self, rule, x, logits)[0])
            if self.route != "mixture":
                return most_probable(logits(self.expert_names.index(self.route), None))
            return most_probable(Cascade.forward(self, x, edge_index, edge_weight, **kwargs).prob)

    def as_module(self, output: str = "prob") -> torch.nn.Module:
        r"""This model as a module that returns one plain tensor, for explainers and metrics.

        Args:
            output (str, optional): a field of the output that holds one tensor. (default: :obj:`"prob"`)
        """
        if output not in self._outputs:
            raise ValueError(f"unknown output '{output}', choose from {list(self._outputs)}")
        return _OneOutput(self, output)

    _outputs: tuple[str, ...] = ("prob",)

    def save(self, path: str | PathLike[str]) -> None:
        r"""Writes weights, route, temperatures and the description of the parts to one safetensors file, whole or not
        at all.

        Raises:
            ValueError: if a lazy module has not seen its first input yet, and so has no weights to save.
        """
        settings = {"mixes": self.mixes, "detach_dispersion": self.detach_dispersion, **self.get_extra_state()}
        names = {"experts": self.expert_names, "confidences": self.gate_names}
        write_model(path, self.state_dict(), settings | names | {n: describe(getattr(self, n)) for n in self.parts})

    @classmethod
    def load(cls, path: str | PathLike[str], *, trust: bool = False, **parts: torch.nn.Module | None) -> Any:
        r"""Rebuilds a model from a file that :meth:`save` wrote. The experts and gates of this package rebuild
        themselves; a module of another package is passed in, built with the arguments that it had.

        Args:
            path (str): the file.
            trust (bool, optional): if set to :obj:`True`, import paths that the file names are followed, which runs
                the code they lead to. (default: :obj:`False`)
            **parts (torch.nn.Module, optional): by name, parts to use in place of the described ones.

        Raises:
            ValueError: if the file is not such a file, if a part cannot be rebuilt (it is named) or is not in it, or
                if the weights do not fit.
        """
        state, spec = read_model(path)
        names = (*spec["experts"], *spec["confidences"])
        if unknown := [name for name in parts if name not in names]:
            raise ValueError(f"the model in '{path}' has no part {unknown[0]!r}, only {', '.join(names)}")
        made = {
            name: rebuild_part(spec[name], role=name, trust=trust) if (part := parts.get(name)) is None else part
            for name in names
        }
        experts, gates = ({name: made[name] for name in spec[kind]} for kind in ("experts", "confidences"))
        model = cls._of(experts, gates)
        model.mixes, model.detach_dispersion = tuple(spec["mixes"]), spec["detach_dispersion"]
        load_weights(model, state, source=path)
        model.set_extra_state(spec)
        return model

    @classmethod
    def _of(cls, experts: dict[str, torch.nn.Module], confidences: dict[str, torch.nn.Module]) -> "Cascade":
        return cls(experts, confidences)

    def get_extra_state(self) -> dict[str, Any]:
        return {"route": self.route, "mix": self.mix, "temperatures": list(self.temperatures)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self.route, (self.mix,) = state["route"], candidate_mixes(state["mix"])
        self.temperatures = list(state["temperatures"])

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={_one_line(getattr(self, name))}" for name in self.parts)
        return f"{type(self).__name__}({inner}, mix='{self.mix}')"


class _OneOutput(torch.nn.Module):
    def __init__(self, model: Cascade, output: str) -> None:
        super().__init__()
        self.model = model
        self.output = output

    def forward(self, x: Tensor, edge_index: Any, edge_weight: Tensor | None = None, **kwargs: Any) -> Tensor:
        return getattr(self.model(x, edge_index, edge_weight, **kwargs), self.output)

    def __repr__(self) -> str:
        return f"{self.model!r}.{self.output}"


def _named(parts: Sequence[torch.nn.Module] | Mapping[str, torch.nn.Module], kind: str) -> dict[str, torch.nn.Module]:
    if isinstance(parts, Mapping):
        return dict(parts)
    return {f"{kind}{number}": part for number, part in enumerate(parts, start=1)}


def _one_line(module: torch.nn.Module) -> str:
    text = repr(module)
    return text if "\n" not in text else f"{type(module).__name__}(...)"
