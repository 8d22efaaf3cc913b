r"""The mixture of a weak and a strong expert."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn.inits import reset

from mowst.labels import label_prob
from mowst.nn.call import call_expert, call_gate
from mowst.nn.conditional import chooses_sparse
from mowst.nn.evaluating import evaluating
from mowst.nn.mixture import candidate_mixes, mixture_log_prob, mixture_prob, most_probable
from mowst.nn.output import MowstOutput, OneOutput
from mowst.nn.registry import GATES
from mowst.nn.routing import route_nodes, routing_rule
from mowst.nn.saving import describe, load_weights, read_model, rebuild_part, write_model
from mowst.nn.signature import list_tensors, make_graph
from mowst.nn.softmax import log_softmax, softmax
from mowst.nn.wrappers import list_plain_names, unwrap
from mowst.sparse.features import Features, as_tensor, find_sparse_form

EXPERTS = ("weak", "strong")
PARTS = (*EXPERTS, "gate")
ROUTES = ("mixture", *EXPERTS)


class Mowst(torch.nn.Module):
    r"""The mixture of a weak expert and a graph neural network from the `"Mixture of Weak & Strong
    Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_ paper

    .. math::
        \hat{\mathbf{y}}_v = C(\mathbf{p}_v) \, \mathbf{p}_v + \left( 1 - C(\mathbf{p}_v) \right)
        \mathbf{p}'_v

    where :math:`\mathbf{p}_v = \mathrm{softmax}(f_w(\mathbf{x}_v))` is the weak prediction,
    :math:`\mathbf{p}'_v = \mathrm{softmax}(f_s(\mathbf{X}, \mathbf{E})_v)` the strong prediction,
    and the confidence
    :math:`C` reads the weak prediction only. Read as a probability, :math:`1 - C` is the share of
    nodes that are deferred to the GNN, see :meth:`predict`.

    A trained :class:`Mowst` is a legal expert of another one. Three experts are a mixture whose
    strong expert is a mixture.

    Args:
        weak (torch.nn.Module): The weak expert, :obj:`weak(x)` or, if its forward names the graph,
            :obj:`weak(x, edge_index)`. Returns logits.
        strong (torch.nn.Module): The strong expert, any GNN :obj:`strong(x, edge_index[,
            edge_weight=])`. Returns logits.
        gate (torch.nn.Module or str, optional): The gate, :obj:`gate(logits)` or, if its forward
            names the features, :obj:`gate(logits, x=x)`. Returns the confidence in :math:`[0, 1]`.
            The registered name of a gate whose arguments all have defaults builds it. (default:
            :obj:`"monotone"`)
        mix (str, optional): What is mixed in training, validation and test: :obj:`"prob"`,
            :obj:`"logit"`, or :obj:`"auto"`, which is :obj:`"prob"` until training chooses.
            (default: :obj:`"auto"`)
        detach_dispersion (bool, optional): If set to :obj:`True`, no gradient reaches the weak
            expert through the gate. (default: :obj:`False`)
        multilabel (bool, optional): If set to :obj:`True`, nodes have several labels: the experts
            return a logit :math:`z_l` for each of :math:`L` labels, with the probability
            :math:`\sigma(z_l)`. The logits are expanded to :math:`[0, z_l]` of shape
            :math:`(N, L, 2)`, see :mod:`mowst.labels`, also for the gate, which returns one
            confidence for each node. (default: :obj:`False`)

    Shapes:
        - **input:** node features :math:`(N, F)`, edge indices :math:`(2, E)`, edge weights
          :math:`(E)` *(optional)*
        - **output:** a :class:`MowstOutput`

    Raises:
        ValueError: If :obj:`mix` or the name of the gate is unknown, the gate needs sizes, or an
            expert is a mixture for labels of another kind.
    """

    def __init__(
        self,
        weak: torch.nn.Module,
        strong: torch.nn.Module,
        gate: torch.nn.Module | str = "monotone",
        mix: str = "auto",
        detach_dispersion: bool = False,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        self.multilabel: bool = multilabel
        for expert in (unwrap(weak), unwrap(strong)):
            if isinstance(expert, Mowst) and expert.multilabel != multilabel:
                given = f"multilabel={multilabel}, its expert {expert!r} has {not multilabel}"
                raise ValueError(f"a mixture and its experts have labels of one kind: {given}")
        self.weak = weak
        self.strong = strong
        self.gate = _build_gate(gate) if isinstance(gate, str) else gate
        self.mixes = candidate_mixes(mix)
        self.mix = self.mixes[0]
        self.detach_dispersion = detach_dispersion
        self.temperatures = {"weak": 1.0, "strong": 1.0}
        self.route = "mixture"
        self.fitted = False

    @property
    def route(self) -> str:
        r"""What :meth:`predict` returns: the :obj:`"mixture"`, or the :obj:`"weak"` or
        :obj:`"strong"` expert alone. One expert alone is the mixture at a confidence of 1 or 0,
        which a learned gate cannot reach. Saved with the model.
        """
        return self._route

    @route.setter
    def route(self, route: str) -> None:
        if route not in ROUTES:
            raise ValueError(f"unknown route '{route}', choose from {list(ROUTES)}")
        self._route = route

    @property
    def inductive(self) -> bool:
        r"""Whether both experts accept nodes that they were not trained with."""
        experts = (unwrap(self.weak), unwrap(self.strong))
        return all(getattr(expert, "inductive", True) for expert in experts)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters, the temperatures, the route and what is mixed."""
        for name in PARTS:
            reset(getattr(self, name))
        self.temperatures = {"weak": 1.0, "strong": 1.0}
        self.route = "mixture"
        self.mix = self.mixes[0]
        self.fitted = False

    def forward(
        self,
        x: Tensor | Features,
        edge_index: Any,
        edge_weight: Tensor | None = None,
        **kwargs: Any,
    ) -> MowstOutput:
        r"""Runs both experts on all nodes.

        Args:
            x (torch.Tensor): The node features.
            edge_index (torch.Tensor or SparseTensor): The graph, in any form that the experts
                accept.
            edge_weight (torch.Tensor, optional): The edge weights. (default: :obj:`None`)
            **kwargs (optional): Additional arguments of the experts, such as :obj:`edge_attr`.
                Those that the forward of the weak expert names reach it. Those that the forward of
                the strong expert or none of them names reach the strong expert.
        """
        return self.outputs(x, edge_index, edge_weight, route=self.route, **kwargs)

    def outputs(
        self,
        x: Tensor | Features,
        edge_index: Any,
        edge_weight: Tensor | None = None,
        *,
        nodes: Tensor | None = None,
        route: str = "mixture",
        **kwargs: Any,
    ) -> MowstOutput:
        r"""Runs both experts and the gate on all nodes or on some, by default as the mixture
        whatever the :attr:`route` of the model.

        Args:
            x, edge_index, edge_weight, **kwargs: See :meth:`forward`.
            nodes (torch.Tensor, optional): The ids of the nodes to predict. All nodes if
                :obj:`None`. (default: :obj:`None`)
            route (str, optional): See :attr:`route`. (default: :obj:`"mixture"`)
        """
        of = self._split_arguments(kwargs)
        weak = self.logits("weak", x, edge_index, edge_weight, nodes=nodes, **of["weak"])
        if route == "mixture":
            confidence = self.confidence(weak, x if nodes is None else x[nodes])
        else:
            confidence = weak.new_full(weak.shape[:1], float(route == "weak"))
        strong = self.logits("strong", x, edge_index, edge_weight, nodes=nodes, **of["strong"])
        return MowstOutput(self.mixture(weak, strong, confidence), confidence, weak, strong)

    def logits(
        self,
        expert: str,
        x: Tensor | Features,
        edge_index: Any = None,
        edge_weight: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""Returns the logits :math:`\mathbf{z} / T` of one expert, see
        :func:`~mowst.nn.call.call_expert`. The temperature :math:`T` is 1 unless
        :func:`~mowst.train.gate_fit.fit_gate` has fitted it.

        Args:
            expert (str): :obj:`"weak"` or :obj:`"strong"`.
            x, edge_index, edge_weight: See :meth:`forward`.
            **kwargs (optional): Additional arguments of :func:`~mowst.nn.call.call_expert`.
        """
        kwargs["multilabel"] = self.multilabel
        out = call_expert(getattr(self, expert), x, edge_index, edge_weight, **kwargs)
        temperature = self.temperatures[expert]
        return out if temperature == 1 else out / temperature

    def confidence(self, weak: Tensor, x: Tensor | Features) -> Tensor:
        r"""Returns the confidence of shape :math:`(N)` in weak logits, whatever the
        :attr:`route`.
        """
        weak = weak.detach() if self.detach_dispersion else weak
        return call_gate(self.gate, weak, as_tensor(x))

    def mixture(self, weak: Tensor, strong: Tensor, confidence: Tensor) -> Tensor:
        r"""Returns the class probabilities of the mixture, see
        :func:`~mowst.nn.mixture.mixture_prob`.
        """
        if weak.shape != strong.shape:
            raise ValueError(
                f"the experts disagree: weak logits {list(weak.shape)}, strong logits "
                f"{list(strong.shape)}"
            )
        return mixture_prob(weak, strong, confidence, self.mix)

    def log_prob(
        self,
        x: Tensor | Features,
        edge_index: Any,
        edge_weight: Tensor | None = None,
        nodes: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""Returns the logarithm of the predicted class probabilities, which are the logits of this
        model as an expert of another one.

        Args:
            x, edge_index, edge_weight, **kwargs: See :meth:`forward`.
            nodes (torch.Tensor, optional): The ids of the nodes to predict. All nodes if
                :obj:`None`. (default: :obj:`None`)
        """
        of = self._split_arguments(kwargs)
        if self.route != "mixture":
            more = of[self.route]
            logits = self.logits(self.route, x, edge_index, edge_weight, nodes=nodes, **more)
            return log_softmax(logits)
        strong = self.logits("strong", x, edge_index, edge_weight, nodes=nodes, **of["strong"])
        weak = self.logits("weak", x, edge_index, edge_weight, nodes=nodes, **of["weak"])
        confidence = self.confidence(weak, x if nodes is None else x[nodes])
        return mixture_log_prob(weak, strong, confidence, self.mix)

    @torch.no_grad()
    def predict_proba(
        self,
        x: Tensor | Features | Data,
        edge_index: Any = None,
        edge_weight: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""Returns the class probabilities of shape :math:`(N, C)`, or the probability of each of
        several labels of shape :math:`(N, L)`, under the :attr:`route`, in evaluation mode.

        Args:
            x, edge_index, edge_weight, **kwargs: See :meth:`predict`.
        """
        return label_prob(self._predict_prob(x, edge_index, edge_weight, **kwargs))

    @torch.no_grad()
    def predict(
        self,
        x: Tensor | Features | Data,
        edge_index: Any = None,
        edge_weight: Tensor | None = None,
        *,
        threshold: float | None = None,
        budget: float | None = None,
        sample: bool = False,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""Returns the predicted classes of shape :math:`(N)`, or 0 or 1 for each of several labels
        of shape :math:`(N, L)`, in evaluation mode.

        By default the prediction follows the :attr:`route`. With :obj:`threshold`, :obj:`budget` or
        :obj:`sample`, the confidence decides for each node which of the two experts predicts it,
        for every route. The strong expert then runs for the deferred nodes only: layer by layer on
        the nodes that it needs, where that is cheaper than the full graph.

        Args:
            x (torch.Tensor or torch_geometric.data.Data): The node features, or a graph with
                :obj:`x`, :obj:`edge_index`, optionally :obj:`edge_weight`, and further fields that
                the forward of an expert names, such as :obj:`edge_attr`.
            edge_index, edge_weight: See :meth:`forward`; not given with a graph.
            threshold (float, optional): Nodes with a confidence below :obj:`threshold` are
                deferred. (default: :obj:`None`)
            budget (float, optional): The share of nodes to defer, rounded down. The nodes of the
                lowest confidence are deferred first, and those of equal confidence in the order of
                their ids. (default: :obj:`None`)
            sample (bool, optional): If set to :obj:`True`, a node is deferred with probability
                :math:`1 - C_v`, as in the paper. The expected score is exact in
                :func:`~mowst.metrics.expected_score`. (default: :obj:`False`)
            generator (torch.Generator, optional): The random number generator of :obj:`sample`.
                (default: :obj:`None`)
            **kwargs (optional): See :meth:`forward`.

        Raises:
            ValueError: If more than one of the three choices is made, the budget is not in
                :math:`[0, 1]`, or the graph has no features.
            FloatingPointError: If a prediction is NaN.
        """
        rule = routing_rule(threshold, budget, sample, generator)
        if rule is None:
            return most_probable(self._predict_prob(x, edge_index, edge_weight, **kwargs))
        features, edge_index, edge_weight = self._unpack(x, edge_index, edge_weight)
        of = self._split_arguments(kwargs)
        with evaluating(self):

            def compute_logits(expert: str, nodes: Tensor | None) -> Tensor:
                more = {"nodes": nodes, **of[expert]}
                return self.logits(expert, features, edge_index, edge_weight, **more)

            def compute_confidence(weak: Tensor, nodes: Tensor | None) -> Tensor:
                return self.confidence(weak, features if nodes is None else features[nodes])

            return most_probable(route_nodes(rule, compute_logits, compute_confidence)[0])

    def as_module(self, output: str = "prob") -> torch.nn.Module:
        r"""Returns this model as a module whose output is one plain tensor, for explainers, metrics
        and :func:`torch.export.export`. Export, like :obj:`torch.compile(fullgraph=True)`, requires
        a strong expert that torch can trace, such as PyG's models. The sparse products of this
        package's GNNs cannot be traced.

        Args:
            output (str, optional): A field of :class:`MowstOutput`. (default: :obj:`"prob"`)
        """
        return OneOutput(self, output)

    def save(self, path: str | PathLike[str]) -> None:
        r"""Writes weights, route, temperatures and a description of the parts to one safetensors
        file. The file is written atomically. A compiled or parallel part is saved as the module
        inside.

        Raises:
            ValueError: If a lazy module has not been initialized yet.
        """
        names = list_plain_names(self)
        state = {names[name]: value for name, value in self.state_dict().items()}
        write_model(path, state, self.describe())

    @classmethod
    def load(
        cls, path: str | PathLike[str], *, trust: bool = False, **parts: torch.nn.Module | None
    ) -> "Mowst":
        r"""Loads a model, in evaluation mode, from a file that :meth:`save` wrote. Experts and
        gates of this package are rebuilt. Modules of other packages are passed in, built with the
        arguments that they had.

        Args:
            path (str): The file.
            trust (bool, optional): If set to :obj:`True`, import paths in the file are followed,
                which runs code. (default: :obj:`False`)
            **parts (torch.nn.Module, optional): :obj:`weak`, :obj:`strong` or :obj:`gate`, to use
                instead of the described part.

        Raises:
            ValueError: If the file is not a model file, if a part cannot be rebuilt, or if the
                weights do not fit.
        """
        state, spec = read_model(path)
        model = cls.rebuild(spec, trust=trust, **parts)
        load_weights(model, state, source=path)
        return model.eval()

    def describe(self) -> dict[str, Any]:
        r"""Returns everything but the weights, as plain values: the input of :meth:`rebuild`."""
        settings = {
            "mixes": list(self.mixes),
            "detach_dispersion": self.detach_dispersion,
            "multilabel": self.multilabel,
            **self.get_extra_state(),
        }
        return settings | {name: describe(getattr(self, name)) for name in PARTS}

    @classmethod
    def rebuild(
        cls, spec: Mapping[str, Any], *, trust: bool = False, **parts: torch.nn.Module | None
    ) -> "Mowst":
        r"""Builds the freshly initialized model that :meth:`describe` described, see
        :meth:`load`.
        """
        unknown = sorted(parts.keys() - set(PARTS))
        if unknown:
            raise ValueError(f"a model has no part {unknown[0]!r}, only {', '.join(PARTS)}")
        made: dict[str, torch.nn.Module] = {}
        for name in PARTS:
            given = parts.get(name)
            if given is not None:
                made[name] = given
            elif "mixture" in spec[name]:
                made[name] = cls.rebuild(spec[name]["mixture"], trust=trust)
            else:
                made[name] = rebuild_part(spec[name], role=name, trust=trust)
        multilabel = spec.get("multilabel", False)
        model = cls(made["weak"], made["strong"], made["gate"], multilabel=multilabel)
        model.detach_dispersion = spec["detach_dispersion"]
        model.mixes = tuple(spec["mixes"])
        model.set_extra_state(spec)
        return model

    def get_extra_state(self) -> dict[str, Any]:
        return {"route": self.route, "mix": self.mix, "temperatures": dict(self.temperatures)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self.route = state["route"]
        (self.mix,) = candidate_mixes(state["mix"])
        self.temperatures = dict(state["temperatures"])

    def _predict_prob(
        self, x: Any, edge_index: Any, edge_weight: Tensor | None, **kwargs: Any
    ) -> Tensor:
        x, edge_index, edge_weight = self._unpack(x, edge_index, edge_weight)
        experts = (self.weak, self.strong)
        with evaluating(self):
            if self.route == "mixture":
                if kwargs.get("nodes") is None and all(map(chooses_sparse, experts)):
                    x = find_sparse_form(x)  # once for both experts
                return self.outputs(x, edge_index, edge_weight, **kwargs).prob
            more = self._split_arguments(kwargs)[self.route]
            return softmax(self.logits(self.route, x, edge_index, edge_weight, **more)).contiguous()

    def _split_arguments(self, kwargs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        # The arguments of each expert. What no forward names is for the strong expert.
        if not kwargs:
            return {"weak": {}, "strong": {}}
        weak, strong = list_tensors(self.weak), list_tensors(self.strong)
        found: dict[str, dict[str, Any]] = {"weak": {}, "strong": {}}
        for name, value in kwargs.items():
            if name in weak:
                found["weak"][name] = value
            if name in strong or name not in weak:
                found["strong"][name] = value
        return found

    def _unpack(
        self, x: Tensor | Features | Data, edge_index: Any, edge_weight: Tensor | None
    ) -> tuple[Tensor | Features, Any, Tensor | None]:
        # Returns the features, edges and weights of a graph, or those that were given.
        if not isinstance(x, Data):
            return x, edge_index, edge_weight
        if edge_index is not None or edge_weight is not None:
            raise ValueError("give a graph, or its x, edge_index and edge_weight, not both")
        if x.x is None:
            raise ValueError(f"the graph has no features x: {x}")
        return x.x, None if x.edge_index is None else make_graph(self, x), None

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={_describe_in_line(getattr(self, name))}" for name in PARTS)
        kind = ", multilabel=True" if self.multilabel else ""
        return f"{type(self).__name__}({inner}, mix='{self.mix}'{kind})"


def _build_gate(name: str) -> torch.nn.Module:
    try:
        return GATES.build(name)
    except TypeError as error:
        raise ValueError(
            f"the gate {name!r} needs sizes ({error}): pass "
            f"mowst.build_gate({name!r}, in_channels=..., num_classes=...)"
        ) from error


def _describe_in_line(module: torch.nn.Module) -> str:
    text = repr(module)
    return text if "\n" not in text else f"{type(module).__name__}(...)"
