r"""What an expert and a confidence module must take and return, checked where they are called."""

import inspect
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.nn.models.basic_gnn import BasicGNN

from mowst.graph.formats import transposed_csr
from mowst.nn.conditional import partial_logits
from mowst.nn.dispersion import two_class_logits
from mowst.nn.experts.base import Expert


def takes_edges(expert: torch.nn.Module) -> bool:
    r"""Whether the forward of an expert wants the graph beside the features: a parameter of PyG's name
    (:obj:`edge_index`, or :obj:`adj...`), a second one without a default, or :obj:`*args`.
    """
    parameters = _parameters(type(expert).forward)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (
        any(p.kind is p.VAR_POSITIONAL or p.name == "edge_index" or p.name.startswith("adj") for p in parameters)
        or len([p for p in positional if p.default is p.empty]) > 1
    )


def takes_features(confidence: torch.nn.Module) -> bool:
    r"""Whether the forward of a confidence module wants the node features: it names a parameter :obj:`x`."""
    return any(p.name == "x" for p in _parameters(type(confidence).forward))


def call_expert(
    expert: torch.nn.Module,
    x: Tensor,
    edge_index: Any = None,
    edge_weight: Tensor | None = None,
    nodes: Tensor | None = None,
    **kwargs: Any,
) -> Tensor:
    r"""The logits of an expert for all nodes, or for those of the given ids, as :obj:`expert(x)` or
    :obj:`expert(x, edge_index[, edge_weight=])`. PyG's models get the form of the graph that they run fastest on, see
    :func:`~mowst.graph.formats.transposed_csr`.

    Returns:
        Tensor: logits of shape :math:`(N, C)`; the one logit of a binary expert is expanded to two.

    Raises:
        ValueError: if edge weights are given to an expert that reads the edges but cannot use weights (PyG's
            GraphSAGE, GIN and GAT would ignore them), if the graph is missing, or if the output is not
            :math:`(N, C)`.
    """
    name = type(expert).__name__
    if takes_edges(expert) and edge_index is None:
        raise ValueError(f"{name} reads the graph: give edge_index")
    if edge_weight is not None and takes_edges(expert) and not _takes_edge_weight(expert):
        raise ValueError(
            f"{name} cannot use edge_weight and would ignore it: drop the weights, or take an expert whose "
            "forward has an edge_weight (GCN has one)"
        )
    logits = None if nodes is None else _partial(expert, x, edge_index, edge_weight, nodes, **kwargs)
    partial = logits is not None
    if logits is None:
        edges = takes_edges(expert)
        logits = _call_on_fastest_form(expert, x, edge_index, edge_weight, **kwargs) if edges else expert(x)
    rows = nodes.numel() if nodes is not None and partial else x.size(0)
    if not isinstance(logits, Tensor) or logits.dim() not in (1, 2) or logits.size(0) != rows:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{name} must return logits of shape [N, C] with N = {rows} nodes, got {got}")
    return two_class_logits(logits if nodes is None or partial else logits[nodes])


def call_confidence(confidence: torch.nn.Module, logits: Tensor, x: Tensor) -> Tensor:
    r"""The confidence of shape :math:`(N)`, as :obj:`confidence(logits)` or :obj:`confidence(logits, x=x)`.

    Raises:
        ValueError: if the result is not of shape :math:`(N)` or leaves :math:`[0, 1]`.
    """
    value = confidence(logits, x=x) if takes_features(confidence) else confidence(logits)
    name = type(confidence).__name__
    if not isinstance(value, Tensor) or value.shape != logits.shape[:1]:
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} must return a confidence of shape [N] = [{logits.size(0)}], got {got}")
    inside = (value >= 0) & (value <= 1)
    if not inside.all():
        bad = value[~inside]
        raise ValueError(
            f"{name} must return confidences in [0, 1]: {bad.numel()} of {value.numel()} are outside or NaN, "
            f"for example {float(bad[0]):.4g}"
        )
    return value


def _partial(
    expert: torch.nn.Module, x: Tensor, edge_index: Any, edge_weight: Tensor | None, nodes: Tensor, **kwargs: Any
) -> Tensor | None:
    if not takes_edges(expert):
        return expert(x[nodes])
    if isinstance(expert, Expert):
        return expert(x, edge_index, edge_weight, nodes=nodes, **kwargs)
    return None if kwargs else partial_logits(expert, x, edge_index, edge_weight, nodes)


def _call_on_fastest_form(
    expert: torch.nn.Module, x: Tensor, edge_index: Any, edge_weight: Tensor | None, **kwargs: Any
) -> Tensor:
    if _multiplies_sparsely(expert) and isinstance(edge_index, Tensor):
        matrix = transposed_csr(edge_index, edge_weight, num_nodes=x.size(0))
        if matrix is not None:
            return expert(x, matrix, **kwargs)
    if edge_weight is not None:
        kwargs["edge_weight"] = edge_weight
    return expert(x, edge_index, **kwargs)


def _multiplies_sparsely(expert: torch.nn.Module) -> bool:
    # PyG's own models whose layers all have a sparse product beside their messages; an explainer needs the messages.
    return (
        isinstance(expert, BasicGNN)
        and not isinstance(expert, Expert)
        and all(isinstance(conv, MessagePassing) and conv.fuse and not conv.explain for conv in expert.convs)
    )


def _takes_edge_weight(expert: torch.nn.Module) -> bool:
    named = any(p.name == "edge_weight" or p.kind is p.VAR_KEYWORD for p in _parameters(type(expert).forward))
    return named and bool(getattr(expert, "supports_edge_weight", True))


@lru_cache(maxsize=256)
def _parameters(forward: Any) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(forward).parameters.values())[1:]  # without self
