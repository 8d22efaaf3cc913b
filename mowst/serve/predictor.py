r"""Predictions for some nodes of a graph that changes."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from mowst.forms import make_tensor, unpack
from mowst.labels import label_prob
from mowst.nn.evaluating import evaluating
from mowst.nn.mixture import most_probable
from mowst.nn.mowst import EXPERTS, Mowst
from mowst.nn.routing import route_nodes, routing_rule
from mowst.nn.signature import list_tensors, make_graph
from mowst.nn.softmax import softmax
from mowst.serve.inputs import (
    GRAPH,
    check_finite,
    read_data,
    read_edges,
    read_features,
    read_ids,
    read_weights,
)
from mowst.serve.watch import ModelWatch
from mowst.sparse import Features, Graph
from mowst.sparse.layerwise import LayerCache, Trace


@dataclass(frozen=True)
class Statistics:
    r"""The cost of one call of :meth:`Predictor.predict`.

    Args:
        num_nodes: The number of different nodes.
        deferred_share: The share of them that the strong expert ran for.
        touched_nodes: The rows that layers of graph experts computed, summed over the layers.
        touched_edges: The edges that they read, summed over the layers.
        milliseconds: The time of the call.
    """

    num_nodes: int
    deferred_share: float
    touched_nodes: int
    touched_edges: int
    milliseconds: float


class Prediction(NamedTuple):
    r"""The result of :meth:`Predictor.predict`.

    Shapes:
        - **labels:** predicted classes :math:`(n)`, or 0 or 1 for several labels :math:`(n, L)`
        - **prob:** class probabilities :math:`(n, C)`, or those of several labels :math:`(n, L)`
        - **confidence:** the confidence of the gate, or 1 and 0 if the weak or the strong expert
          predicts all nodes :math:`(n)`
        - **deferred:** whether the strong expert ran for the node :math:`(n)`
    """

    labels: Tensor
    prob: Tensor
    confidence: Tensor
    deferred: Tensor
    statistics: Statistics


def _lock(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    @torch.no_grad()
    def locked(self: "Predictor", *args: Any, **kwargs: Any) -> Any:
        with self._mutex:
            return method(self, *args, **kwargs)

    return locked


class Predictor:
    r"""Predicts some nodes of a graph that may change. The predictions are those of
    :meth:`~mowst.nn.mowst.Mowst.predict` on the current graph. The strong expert runs for the
    deferred nodes, on what its layers need. Calls from several threads wait for each other.

    Nodes, features and edges are tensors, arrays or lists. Nodes are ids, one id, or a mask of all
    nodes. Invalid ones raise a :class:`ValueError` and change nothing. So do edge weights with
    which an expert cannot predict.

    With :obj:`cache=True`, rows that a layer computed are kept until the weights change, or
    features, edges or degrees at most :math:`l` hops away for layer :math:`l`. An expert that
    cannot run layer by layer, such as GAT, keeps its logits of all nodes until anything changes.

    Args:
        model (Mowst): The trained model.
        data (Data): The graph, with :obj:`x`, :obj:`edge_index`, optionally :obj:`edge_weight`, and
            the fields that the forward of an expert names, such as :obj:`edge_attr`. It is copied,
            except with a :obj:`folder`, and must not be changed in place then.
        threshold, budget (float, optional): See :meth:`~mowst.nn.mowst.Mowst.predict`. A budget is
            a share of the nodes of each call. Without both, the prediction follows the model's
            route. (default: :obj:`None`)
        cache (bool, optional): If set to :obj:`True`, rows of layers are kept between calls.
            (default: :obj:`False`)
        chunk_size (int, optional): The number of nodes that a layer computes at a time.
            (default: :obj:`None`)
        folder (str, optional): An existing folder for rows of layers in memory-mapped files, which
            are deleted with this object. (default: :obj:`None`)

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If the data are no graph or not finite, or both a threshold and a budget are
            given.
    """

    def __init__(
        self,
        model: Mowst,
        data: Data,
        *,
        threshold: float | None = None,
        budget: float | None = None,
        cache: bool = False,
        chunk_size: int | None = None,
        folder: str | PathLike[str] | None = None,
    ) -> None:
        if folder is not None and not Path(folder).is_dir():
            raise FileNotFoundError(f"the folder '{folder}' for hidden rows does not exist")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        self.model = model
        self._rule = routing_rule(threshold, budget, False, None)
        names = (*GRAPH, *list_tensors(model))
        data = read_data(data, names)
        if folder is None:
            data = data.clone(*names)
        self._graph = make_graph(model, data)
        self._mutex = threading.RLock()
        self._folder = None if folder is None else TemporaryDirectory(prefix="mowst-", dir=folder)
        self._caches: dict[str, LayerCache] = {}
        if cache or chunk_size is not None or folder is not None:
            for expert in EXPERTS:
                place = None
                if self._folder is not None:
                    place = Path(self._folder.name, expert)
                    place.mkdir()
                self._caches[expert] = LayerCache(chunk_size, place, keep=cache)
        self._watch = ModelWatch(model) if cache else None
        self._set_x(data.x.detach())

    @property
    def num_nodes(self) -> int:
        r"""The current number of nodes."""
        return self._graph.num_nodes

    @property
    def data(self) -> Data:
        r"""A copy of the current graph."""
        graph = self._graph
        edges = {"edge_index": graph.edge_index, "edge_weight": graph.edge_weight}
        return Data(x=self._x, **edges, **graph.tensors).clone()

    @_lock
    def predict(self, nodes: Any) -> Prediction:
        r"""Predicts the given nodes :math:`(n)`, which may repeat.

        Raises:
            FloatingPointError: If a prediction is NaN.
        """
        start = time.perf_counter()
        nodes, back = self._read_ids(nodes).unique(return_inverse=True)
        if self._watch is not None and self._watch.has_changed():
            for layer_cache in self._caches.values():
                layer_cache.clear()
        trace: Trace = []
        with evaluating(self.model):
            prob, confidence, deferred = self._predict(nodes, trace)
        labels = most_probable(prob)
        share = int(deferred.sum()) / max(nodes.numel(), 1)
        touched_nodes = sum(num_nodes for num_nodes, _ in trace)
        touched_edges = sum(num_edges for _, num_edges in trace)
        rows = labels[back], label_prob(prob[back]), confidence[back], deferred[back]
        milliseconds = 1000 * (time.perf_counter() - start)
        statistics = Statistics(nodes.numel(), share, touched_nodes, touched_edges, milliseconds)
        return Prediction(*rows, statistics)

    @_lock
    def add_nodes(self, x: Any, **tensors: Any) -> Tensor:
        r"""Adds nodes with features :math:`(n, F)`, and with a row of each further tensor of the
        nodes that an expert reads. Returns their ids :math:`(n)`.
        """
        x = read_features(x, like=self._x)
        if not self.model.inductive:
            raise ValueError("an expert has parameters for each node and accepts no new nodes")
        graph, first = self._graph, self.num_nodes
        extended = self._extend("node", tensors, x.size(0))
        self._graph = Graph(graph.edge_index, graph.edge_weight, first + x.size(0), extended)
        self._set_x(torch.cat([self._x, x]))
        return torch.arange(first, self.num_nodes, device=x.device)

    @_lock
    def add_edges(self, edge_index: Any, edge_weight: Any = None, **tensors: Any) -> None:
        r"""Adds directed edges :math:`(2, E)`, with weights :math:`(E)` in a weighted graph, and
        with a row of each further tensor of the edges that an expert reads, such as
        :obj:`edge_attr`.
        """
        old, edge_index = self._graph, read_edges(edge_index)
        if edge_weight is not None:
            edge_weight = read_weights(edge_weight, edge_index.size(-1))
        new = Graph(edge_index, edge_weight, self.num_nodes)
        weight = None
        if old.edge_weight is not None and new.edge_weight is not None:
            weight = torch.cat([old.edge_weight, new.edge_weight.to(old.edge_weight)])
        elif old.edge_weight is not new.edge_weight:
            known = "without" if old.edge_weight is None else "with"
            raise ValueError(
                f"the graph is {known} edge weights, the new edges must be {known} too"
            )
        extended = self._extend("edge", tensors, new.num_edges)
        edge_index = torch.cat([old.edge_index, new.edge_index.to(old.edge_index)], dim=1)
        graph = Graph(edge_index, weight, self.num_nodes, extended)
        if new.edge_weight is not None and bool((new.edge_weight < 0).any()):
            self._check_predicts(graph, new.edge_index[1].unique())
        self._graph = graph

    @_lock
    def set_features(self, nodes: Any, x: Any) -> None:
        r"""Replaces the features of the given nodes :math:`(n)` by :math:`(n, F)`."""
        ids, x = self._read_ids(nodes), read_features(x, like=self._x)
        if ids.numel() != x.size(0) or ids.unique().numel() != ids.numel():
            given = f"got {ids.numel()} and {x.size(0)}"
            raise ValueError(f"give as many different ids as rows of features, {given}")
        self._set_x(self._x.index_copy(0, ids, x))

    def _extend(self, level: str, rows: dict[str, Tensor], count: int) -> dict[str, Any]:
        # The tensors of the graph with rows for new nodes or edges.
        tensors = dict(self._graph.tensors)
        names = [name for name in tensors if self._graph.find_level(name) == level]
        if set(rows) != set(names):
            wanted, given = ", ".join(names) or "none", ", ".join(rows) or "none"
            raise ValueError(
                f"the experts read these tensors of each {level}: {wanted}; give them, as keyword "
                f"arguments, got {given}"
            )
        for name, value in rows.items():
            value, old = make_tensor(unpack(value), name), tensors[name]
            shape = [count, *old.shape[1:]]
            if list(value.shape) != shape:
                raise ValueError(
                    f"{name} of the new {level}s must be of shape {shape}, got {list(value.shape)}"
                )
            check_finite(name, value)
            tensors[name] = torch.cat([old, value.to(old)])
        return tensors

    def _set_x(self, x: Tensor) -> None:
        # Features keep the first hop of all nodes. With a cache, layers compute what is needed.
        self._x = x
        self._inputs = x if self._caches else Features(x)

    def _check_predicts(self, graph: Graph, nodes: Tensor) -> None:
        # Sums of negative weights may have no root or no inverse.
        with evaluating(self.model):
            for expert in EXPERTS:
                logits = self.model.logits(expert, self._x, graph, nodes=nodes)
                if not logits.isfinite().all():
                    name = type(getattr(self.model, expert)).__name__
                    raise ValueError(f"with these edge weights, the logits of {name} are NaN")

    def _predict(self, nodes: Tensor, trace: Trace) -> tuple[Tensor, Tensor, Tensor]:
        # The class probabilities, the confidence, and which nodes are deferred.
        model, x = self.model, self._x

        def compute_logits(expert: str, nodes: Tensor | None) -> Tensor:
            graph, cache = self._graph, self._caches.get(expert)
            return model.logits(expert, self._inputs, graph, nodes=nodes, cache=cache, trace=trace)

        def compute_confidence(weak: Tensor, nodes: Tensor | None) -> Tensor:
            return model.confidence(weak, x[nodes])

        if self._rule is not None:
            routed = route_nodes(self._rule, compute_logits, compute_confidence, nodes)
            return softmax(routed[0]), *routed[1:]
        deferred = torch.full_like(nodes, model.route != "weak", dtype=torch.bool)
        if model.route != "mixture":
            prob = softmax(compute_logits(model.route, nodes))
            return prob, torch.full_like(prob[:, 0], model.route == "weak"), deferred
        weak, strong = compute_logits("weak", nodes), compute_logits("strong", nodes)
        confidence = compute_confidence(weak, nodes)
        return model.mixture(weak, strong, confidence), confidence, deferred

    def _read_ids(self, nodes: Any) -> Tensor:
        return read_ids(nodes, self.num_nodes).to(self._x.device)
