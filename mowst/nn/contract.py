r"""What an expert and a confidence module must take and return, checked where they are called."""

import inspect
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from mowst.graph.adjacency import adjacency
from mowst.nn.conditional import fastest_form, layers_of, subgraph_of
from mowst.nn.dispersion import two_class_logits
from mowst.nn.layers import LayerCache, Trace


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
    cache: LayerCache | None = None,
    trace: Trace | None = None,
    **kwargs: Any,
) -> Tensor:
    r"""The logits of an expert for all nodes, or for those of the given ids, as :obj:`expert(x)` or
    :obj:`expert(x, edge_index[, edge_weight=])`. PyG's models get the form of the graph that they run fastest on. For
    some nodes, an expert that reads the graph runs layer by layer on what it must, or on a subgraph, where that can be
    done and is cheaper (:mod:`mowst.nn.conditional`), and else on all nodes.

    Args:
        expert (torch.nn.Module): the expert.
        x (Tensor): node features of shape :math:`(N, F)`.
        edge_index (Tensor or SparseTensor, optional): the graph. (default: :obj:`None`)
        edge_weight (Tensor, optional): edge weights of shape :math:`(E)`. (default: :obj:`None`)
        nodes (Tensor, optional): ids of the nodes to answer, of shape :math:`(n)`. (default: :obj:`None`)
        cache (LayerCache, optional): rows that this expert computed for some nodes before, and keeps now; tells also
            how many nodes are computed at a time. (default: :obj:`None`)
        trace (list, optional): takes the number of nodes and edges of each layer that ran for some nodes.
            (default: :obj:`None`)
        **kwargs (optional): further arguments of the expert.

    Returns:
        Tensor: logits of shape :math:`(N, C)` or :math:`(n, C)` in the precision of the features; the one logit of a
            binary expert is expanded to two.

    Raises:
        ValueError: if edge weights are given to an expert that reads the edges but cannot use weights (PyG's
            GraphSAGE, GIN and GAT would ignore them), if the graph is missing, or if the output is not
            :math:`(N, C)` or no floating point numbers.
    """
    name = type(expert).__name__
    if takes_edges(expert) and edge_index is None:
        raise ValueError(f"{name} reads the graph: give edge_index")
    if edge_weight is not None and takes_edges(expert) and not _takes_edge_weight(expert):
        raise ValueError(
            f"{name} cannot use edge_weight and would ignore it: drop the weights, or take an expert whose "
            "forward has an edge_weight (GCN has one)"
        )
    if cache is None and (nodes is None or _is_every(nodes, x.size(0))):
        logits = _of_all(expert, x, edge_index, edge_weight, None, kwargs)
    else:
        logits = _of_some(expert, x, edge_index, edge_weight, nodes, cache, trace, kwargs)
    return two_class_logits(logits.to(x.dtype) if x.is_floating_point() else logits)


def call_confidence(confidence: torch.nn.Module, logits: Tensor, x: Tensor) -> Tensor:
    r"""The confidence of shape :math:`(N)`, as :obj:`confidence(logits)` or :obj:`confidence(logits, x=x)`.

    Raises:
        ValueError: if the result is not of shape :math:`(N)`, no floating point numbers, or leaves :math:`[0, 1]`.
        FloatingPointError: if it holds NaN.
    """
    value = confidence(logits, x=x) if takes_features(confidence) else confidence(logits)
    name = type(confidence).__name__
    if not _is_float(value) or value.shape != logits.shape[:1]:
        raise ValueError(
            f"{name} must return a floating point confidence of shape [N] = [{logits.size(0)}], got {_told(value)}"
        )
    inside = (value >= 0) & (value <= 1)
    if not inside.all():
        bad = value[~inside]
        if count := int(bad.isnan().sum()):
            raise FloatingPointError(f"{count} of {value.numel()} confidences of {name} became NaN")
        raise ValueError(
            f"{name} must return confidences in [0, 1]: {bad.numel()} of {value.numel()} are outside, "
            f"for example {float(bad[0]):.4g}"
        )
    return value.to(logits.dtype)


def _is_every(nodes: Tensor, num_nodes: int) -> bool:
    return nodes.numel() == num_nodes and nodes.equal(torch.arange(num_nodes, device=nodes.device))


def _of_some(
    expert: torch.nn.Module,
    x: Tensor,
    edge_index: Any,
    edge_weight: Tensor | None,
    nodes: Tensor | None,
    cache: LayerCache | None,
    trace: Trace | None,
    kwargs: dict[str, Any],
) -> Tensor:
    if not takes_edges(expert):
        size = (cache and cache.chunk_size) or max(x.size(0), 1)
        parts = x.split(size) if nodes is None else (x[part] for part in nodes.split(size))
        return torch.cat([_of_all(expert, part, None, None, None, {}) for part in parts])
    layers = None if kwargs else layers_of(expert, x, edge_index, edge_weight)
    if cache is not None and layers is not None:
        return cache.logits(layers, nodes, trace)
    if nodes is not None and layers is not None:
        if (logits := layers.logits(nodes, trace)) is not None:
            return logits
    elif nodes is not None and not kwargs and (subgraph := subgraph_of(expert, x.size(0), edge_index, nodes)):
        subset, edges, at, kept = subgraph
        return _of_all(expert, x[subset], edges, None if edge_weight is None else edge_weight[kept], trace, {})[at]
    if cache is None:
        logits = _of_all(expert, x, edge_index, edge_weight, trace, kwargs)
        return logits if nodes is None else logits.index_select(0, nodes)
    graph = (x, edge_index, edge_weight)
    return cache.of_all(lambda: _of_all(expert, *graph, trace, kwargs), graph, nodes)


def _of_all(
    expert: torch.nn.Module,
    x: Tensor,
    edge_index: Any,
    edge_weight: Tensor | None,
    trace: Trace | None,
    kwargs: dict[str, Any],
) -> Tensor:
    if not takes_edges(expert):
        logits = expert(x)
    else:
        edges, weight = fastest_form(expert, x, edge_index, edge_weight)
        logits = expert(x, edges, **kwargs if weight is None else {**kwargs, "edge_weight": weight})
    if not _is_float(logits) or logits.dim() not in (1, 2) or logits.size(0) != x.size(0):
        name, got = type(expert).__name__, _told(logits)
        raise ValueError(f"{name} must return logits of shape [N, C] with N = {x.size(0)} nodes, got {got}")
    if trace is not None:
        trace.append((x.size(0), adjacency(edge_index, num_nodes=x.size(0)).edge_index.size(1)))
    return logits


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided


def _told(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{list(value.shape)}" if _is_float(value) else f"{list(value.shape)} of {value.dtype}, {value.layout}"


def _takes_edge_weight(expert: torch.nn.Module) -> bool:
    named = any(p.name == "edge_weight" or p.kind is p.VAR_KEYWORD for p in _parameters(type(expert).forward))
    return named and bool(getattr(expert, "supports_edge_weight", True))


@lru_cache(maxsize=256)
def _parameters(forward: Any) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(forward).parameters.values())[1:]  # without self
