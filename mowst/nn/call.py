r"""What an expert and a gate take and return, checked where they are called."""

from typing import Any

import torch
from torch import Tensor

from mowst.labels import label_logits
from mowst.nn.conditional import (
    extract_subgraph,
    find_fastest_form,
    is_pyg_model,
    split_layers,
    takes_graph,
)
from mowst.nn.dispersion import two_class_logits
from mowst.nn.nodewise import normalizes_nodes
from mowst.nn.signature import (
    is_mixture,
    list_tensors,
    requires_batch,
    takes_edge_weight,
    takes_edges,
    takes_features,
)
from mowst.nn.wrappers import unwrap
from mowst.sparse.features import Features, as_tensor
from mowst.sparse.graph import Graph, as_graph
from mowst.sparse.layerwise import LayerCache, Trace

# On more nodes, hidden layers cost more memory than the bookkeeping of chunks costs time.
MAX_NODES = 2**19
# The number of nodes of a chunk.
CHUNK = 2**16


def call_expert(
    expert: torch.nn.Module,
    x: Features | Tensor,
    edge_index: Any = None,
    edge_weight: Tensor | None = None,
    nodes: Tensor | None = None,
    cache: LayerCache | None = None,
    trace: Trace | None = None,
    multilabel: bool = False,
    **kwargs: Any,
) -> Tensor:
    r"""Returns the logits of an expert for all nodes or for some, as :obj:`expert(x)` or
    :obj:`expert(x, edge_index[, edge_weight=])`.

    Experts of this package take :class:`~mowst.sparse.features.Features` and a
    :class:`~mowst.sparse.graph.Graph` as they are. Other modules get plain tensors, and PyG's
    models the form of the graph on which they run fastest. A :obj:`batch` that a forward requires,
    as those of SGFormer and Polynormer do, is one graph of all nodes. An expert that is a mixture
    returns its log-probabilities.

    For some nodes, an expert that reads the graph runs layer by layer on the nodes that it needs,
    or on a subgraph, if that is possible and cheaper (:mod:`mowst.nn.conditional`), and on all
    nodes otherwise. On large graphs, layers run in chunks of nodes in evaluation mode without
    gradients.

    Args:
        expert (torch.nn.Module): The expert.
        x (Features or torch.Tensor): The node features.
        edge_index (Graph, torch.Tensor or SparseTensor, optional): The graph. (default:
            :obj:`None`)
        edge_weight (torch.Tensor, optional): The edge weights of a plain :obj:`edge_index`.
            (default: :obj:`None`)
        nodes (torch.Tensor, optional): The ids of the nodes to predict. All nodes if :obj:`None`.
            (default: :obj:`None`)
        cache (LayerCache, optional): The rows that this expert has computed before. It also sets
            how many nodes are computed at a time. (default: :obj:`None`)
        trace (list, optional): Collects the number of nodes and edges of each layer that ran for
            some nodes. (default: :obj:`None`)
        multilabel (bool, optional): If set to :obj:`True`, the expert returns a logit for each of
            several labels. (default: :obj:`False`)
        **kwargs (optional): Additional arguments of the expert, next to the tensors of a
            :class:`~mowst.sparse.graph.Graph` that its forward names.

    Returns:
        torch.Tensor: Logits in the precision of the features. The one logit of a binary expert, or
            of each label, is expanded to two.

    Shapes:
        - **x:** :math:`(N, F)`, **edge_index:** :math:`(2, E)`, **edge_weight:** :math:`(E)`,
          **nodes:** :math:`(n)`
        - **output:** :math:`(N, C)` or :math:`(n, C)`, or of several labels :math:`(N, L, 2)` or
          :math:`(n, L, 2)`

    Raises:
        ValueError: If edge weights are given to an expert that takes the graph but cannot use
            weights (PyG's GraphSAGE, GIN and GAT would ignore them), if the graph or a tensor that
            the forward requires is missing, or if the output is not of shape :math:`(N, C)` or not
            floating point.
    """
    if isinstance(expert, torch.nn.DataParallel):
        expert = expert.module  # it would split nodes and edges over devices
    name = type(unwrap(expert)).__name__
    if takes_edges(expert):
        if edge_index is None:
            raise ValueError(f"{name} reads the graph: give edge_index")
        if isinstance(edge_index, Graph):
            as_graph(edge_index, edge_weight, x.shape[0])
        weighted = edge_weight is not None or (
            isinstance(edge_index, Graph) and edge_index.edge_weight is not None
        )
        if weighted and not takes_edge_weight(expert):
            raise ValueError(
                f"{name} cannot use edge_weight and would ignore it: drop the weights, or take an "
                "expert whose forward has an edge_weight (GCN has one)"
            )
    if is_mixture(expert):
        log_prob: Any = expert.log_prob
        return log_prob(x, edge_index, edge_weight, nodes=nodes, cache=cache, trace=trace, **kwargs)
    kwargs = _add_tensors(expert, edge_index, kwargs)
    if not takes_graph(expert):
        x = as_tensor(x)
        _clear_cached(expert)
    if (
        cache is None
        and x.shape[0] > MAX_NODES
        and not torch.is_grad_enabled()
        and not expert.training
    ):
        cache = LayerCache(CHUNK, keep=False)
    if cache is None and (nodes is None or _is_every(nodes, x.shape[0])):
        logits = _run_all(expert, x, edge_index, edge_weight, None, kwargs)
    elif kwargs or takes_edges(expert) or normalizes_nodes(expert, in_training=True):
        logits = _run_some(expert, x, edge_index, edge_weight, nodes, cache, trace, kwargs)
    else:
        logits = _run_rows(expert, x, nodes, cache)
    expand = label_logits if multilabel else two_class_logits
    return expand(logits.to(x.dtype) if x.dtype.is_floating_point else logits)


def call_gate(gate: torch.nn.Module, logits: Tensor, x: Features | Tensor) -> Tensor:
    r"""Returns the confidence of shape :math:`(N)`, as :obj:`gate(logits)` or
    :obj:`gate(logits, x=x)`.

    Raises:
        ValueError: If the result is not of shape :math:`(N)`, not floating point, or leaves
            :math:`[0, 1]`.
        FloatingPointError: If it contains NaN.
    """
    value = gate(logits, x=as_tensor(x)) if takes_features(gate) else gate(logits)
    name = type(unwrap(gate)).__name__
    if not _is_float(value) or value.shape != logits.shape[:1]:
        raise ValueError(
            f"{name} must return a floating point confidence of shape [N] = [{logits.size(0)}], "
            f"got {_describe(value)}"
        )
    if torch.compiler.is_compiling():
        return value.to(logits.dtype)  # a graph that is traced cannot depend on values
    if not torch.equal(value.clamp(0, 1), value):
        bad = value[~((value >= 0) & (value <= 1))]
        count = int(bad.isnan().sum())
        if count > 0:
            raise FloatingPointError(f"{count} of {value.numel()} confidences of {name} became NaN")
        raise ValueError(
            f"{name} must return confidences in [0, 1]: {bad.numel()} of {value.numel()} are "
            f"outside, for example {float(bad[0]):.4g}"
        )
    return value.to(logits.dtype)


def _add_tensors(expert: torch.nn.Module, graph: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    # The arguments of an expert with the tensors of the graph that it names.
    names, kind = list_tensors(expert), type(unwrap(expert)).__name__
    if isinstance(graph, Graph):
        kwargs = {key: graph.tensors[key] for key in names if key in graph.tensors} | kwargs
    for name, is_required in names.items():
        if is_required and name not in kwargs and name != "batch":  # see requires_batch
            raise ValueError(
                f"{kind} requires {name}, which was not given: set it as a field of the graph "
                f"(data.{name}; labels y are never passed), or pass it as a keyword argument"
            )
    if is_pyg_model(unwrap(expert)) and "edge_attr" in kwargs and "edge_attr" not in names:
        raise ValueError(
            f"{kind} cannot use edge_attr and would ignore it: build it with edge_dim if it has "
            "one (GAT and PNA have), or take another expert"
        )
    return kwargs


def _is_every(nodes: Tensor, num_nodes: int) -> bool:
    return nodes.numel() == num_nodes and nodes.equal(torch.arange(num_nodes, device=nodes.device))


def _run_rows(
    expert: torch.nn.Module, x: Features | Tensor, nodes: Tensor | None, cache: LayerCache | None
) -> Tensor:
    if nodes is None:
        nodes = torch.arange(x.shape[0], device=x.device)
    size = None if cache is None else cache.chunk_size
    logits = []
    for part in nodes.split(size or max(nodes.numel(), 1)):
        rows = x.rows(part) if isinstance(x, Features) else x[part]
        logits.append(_run_all(expert, rows, None, None, None, {}))
    return torch.cat(logits)


def _run_some(
    expert: torch.nn.Module,
    x: Features | Tensor,
    edge_index: Any,
    edge_weight: Tensor | None,
    nodes: Tensor | None,
    cache: LayerCache | None,
    trace: Trace | None,
    kwargs: dict[str, Any],
) -> Tensor:
    layers = None if kwargs else split_layers(expert, x, edge_index, edge_weight)
    if cache is not None and layers is not None:
        return cache.logits(layers, nodes, trace)
    if nodes is not None and layers is not None:
        logits = layers.logits(nodes, trace)
        if logits is not None:
            return logits
    elif nodes is not None and not kwargs:
        subgraph = extract_subgraph(expert, x.shape[0], edge_index, edge_weight, nodes)
        if subgraph is not None:
            subset, edges, weight, at = subgraph
            return _run_all(expert, x[subset], edges, weight, trace, {})[at]
    if cache is None:
        logits = _run_all(expert, x, edge_index, edge_weight, trace, kwargs)
        return logits if nodes is None else logits.index_select(0, nodes)
    return cache.take_rows(
        lambda: _run_all(expert, x, edge_index, edge_weight, trace, kwargs),
        (x, edge_index, edge_weight),
        nodes,
    )


def _run_all(
    expert: torch.nn.Module,
    x: Features | Tensor,
    edge_index: Any,
    edge_weight: Tensor | None,
    trace: Trace | None,
    kwargs: dict[str, Any],
) -> Tensor:
    if not takes_edges(expert):
        logits = expert(x, **kwargs)
    else:
        edges, weight = find_fastest_form(expert, x, edge_index, edge_weight)
        if weight is not None:
            kwargs = {**kwargs, "edge_weight": weight}
        if requires_batch(expert) and "batch" not in kwargs:
            one_graph = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
            kwargs = {**kwargs, "batch": one_graph}
        logits = expert(x, edges, **kwargs)
    if not _is_float(logits) or logits.dim() not in (1, 2) or logits.size(0) != x.shape[0]:
        name = type(unwrap(expert)).__name__
        raise ValueError(
            f"{name} must return logits of shape [N, C] with N = {x.shape[0]} nodes, got "
            f"{_describe(logits)}"
        )
    if trace is not None:
        trace.append((x.shape[0], as_graph(edge_index, num_nodes=x.shape[0]).num_edges))
    return logits


def _clear_cached(expert: torch.nn.Module) -> None:
    # PyG's layers with cached=True would answer from the first graph that they saw.
    for module in expert.modules():
        if getattr(module, "cached", False):
            for name in list(vars(module)):
                if name.startswith("_cached"):
                    setattr(module, name, None)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    if _is_float(value):
        return f"{list(value.shape)}"
    return f"{list(value.shape)} of {value.dtype}, {value.layout}"
