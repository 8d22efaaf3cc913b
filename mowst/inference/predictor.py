r"""Serving: the answers for some nodes of a graph, at the cost of those nodes."""

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

from mowst.nn.cascade import Cascade
from mowst.nn.evaluating import evaluating
from mowst.nn.layers import LayerCache, Trace
from mowst.nn.routing import routed, routing_rule


@dataclass(frozen=True)
class Statistics:
    r"""What one call of :meth:`Predictor.predict` took.

    Args:
        num_nodes: the number of different nodes that were asked for.
        activated: the share of them for which the last expert was asked.
        touched_nodes: the rows that layers of graph experts computed, summed over the layers.
        touched_edges: the edges that they read for these, summed over the layers.
        milliseconds: the time of the call.
    """

    num_nodes: int
    activated: float
    touched_nodes: int
    touched_edges: int
    milliseconds: float


class Prediction(NamedTuple):
    r"""The answer of :meth:`Predictor.predict`.

    Shapes:
        - **labels:** the predicted classes :math:`(n)`
        - **prob:** class probabilities :math:`(n, C)`
        - **expert:** the number of the strongest expert that was asked, 0 for the weakest :math:`(n)`
    """

    labels: Tensor
    prob: Tensor
    expert: Tensor
    statistics: Statistics


def _alone(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    @torch.no_grad()
    def locked(self: "Predictor", *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class Predictor:
    r"""Answers for some nodes of a graph that may grow and change, as :meth:`~mowst.nn.cascade.Cascade.predict` answers
    for all nodes of the graph as it is: the weak expert for the nodes that are asked for, a graph expert for those that
    are passed on to it, on what its layers must compute for them. Calls from several threads wait for each other, so
    that each sees the graph before or after a change.

    With :obj:`cache=True`, rows that a layer has computed are kept, and forgotten when a change reaches them: layer
    :math:`l` reaches :math:`l` hops behind the changed features, edges or degrees. An expert that does not run layer by
    layer, such as one with attention, keeps its answers for all nodes until anything changes.

    With :obj:`chunk_size`, layers compute so many nodes at a time, and with :obj:`folder` their rows are in
    memory-mapped files, so that of a layer only the rows in use need memory.

    Args:
        model (Cascade): a trained model. Its answers are right also after its weights have changed in place.
        data (Data): the graph, with :obj:`x`, :obj:`edge_index` and, if the model wants them, :obj:`edge_weight`; not
            copied, so it must not be changed in place.
        threshold (float, optional): see :meth:`~mowst.nn.cascade.Cascade.predict`; without threshold and budget the
            model's route answers. (default: :obj:`None`)
        budget (float, optional): the share of the nodes of each call that the strong one of two experts answers.
            (default: :obj:`None`)
        cache (bool, optional): whether rows of layers are kept from call to call. (default: :obj:`False`)
        chunk_size (int, optional): the number of nodes that a layer computes at a time. (default: :obj:`None`)
        folder (str, optional): an existing folder, in which the files live as long as this object.
            (default: :obj:`None`)

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if the data have no features or edges, both a threshold and a budget are given, or a budget for more
            than two experts.
    """

    def __init__(
        self,
        model: Cascade,
        data: Data,
        *,
        threshold: float | None = None,
        budget: float | None = None,
        cache: bool = False,
        chunk_size: int | None = None,
        folder: str | PathLike[str] | None = None,
    ) -> None:
        if not isinstance(getattr(data, "x", None), Tensor) or not isinstance(data.edge_index, Tensor):
            raise ValueError(f"data must be a graph with x and edge_index (of a task: task.data), got {data!r}")
        if not data.x.is_floating_point():
            raise ValueError(f"features must be floating point, got {data.x.dtype}")
        if folder is not None and not Path(folder).is_dir():
            raise FileNotFoundError(f"folder for hidden rows: there is no folder '{folder}'")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        if budget is not None and len(model.expert_names) > 2:
            raise ValueError(f"a budget is for two experts, here are {len(model.expert_names)}: give a threshold")
        self.model = model
        self._rule = routing_rule(threshold, budget, False, None)
        self._x, self._edge_index, self._edge_weight = data.x, data.edge_index, data.get("edge_weight")
        self._lock = threading.RLock()
        self._scratch = None if folder is None else TemporaryDirectory(prefix="mowst-", dir=folder)
        self._caches: list[LayerCache | None] = [None] * len(model.expert_names)
        if cache or chunk_size is not None or folder is not None:
            self._caches = [LayerCache(chunk_size, self._folder(name), keep=cache) for name in model.expert_names]
        self._versions = self._weights()

    @property
    def num_nodes(self) -> int:
        r"""The number of nodes of the graph as it is."""
        return self._x.size(0)

    @property
    def data(self) -> Data:
        r"""The graph as it is."""
        return Data(x=self._x, edge_index=self._edge_index, edge_weight=self._edge_weight)

    @_alone
    def predict(self, node_ids: Tensor | list[int]) -> Prediction:
        r"""The answers for some nodes, in the order of their ids, which may repeat.

        Args:
            node_ids (Tensor or list): ids of shape :math:`(n)`.

        Raises:
            ValueError: if there is no such node.
        """
        start = time.perf_counter()
        wanted, back = self._ids(node_ids).unique(return_inverse=True)
        if self._versions != (versions := self._weights()):
            self._clear()
            self._versions = versions
        trace: Trace = []
        with evaluating(self.model):
            prob, expert = self._answer(wanted, trace)
        last = len(self.model.expert_names) - 1
        activated = float((expert == last).double().mean()) if wanted.numel() else 0.0
        nodes, edges = (sum(counts) for counts in zip(*trace, strict=True)) if trace else (0, 0)
        prob, expert = prob[back], expert[back]
        milliseconds = 1000 * (time.perf_counter() - start)
        statistics = Statistics(wanted.numel(), activated, nodes, edges, milliseconds)
        return Prediction(prob.argmax(dim=-1), prob, expert, statistics)

    @_alone
    def add_nodes(self, x: Tensor) -> Tensor:
        r"""Adds nodes without edges.

        Args:
            x (Tensor): their features of shape :math:`(n, F)`.

        Returns:
            Tensor: their ids of shape :math:`(n)`.

        Raises:
            ValueError: if the features do not fit, or an expert has parameters for each node.
        """
        x = self._features(x)
        for name in self.model.expert_names:
            if not getattr(getattr(self.model, name), "inductive", True):
                raise ValueError(f"{name} has parameters for each node that it was trained with: it takes no new nodes")
        ids = torch.arange(self.num_nodes, self.num_nodes + x.size(0), device=x.device)
        self._x = torch.cat([self._x, x])
        return ids

    @_alone
    def add_edges(self, edge_index: Tensor, edge_weight: Tensor | None = None) -> None:
        r"""Adds directed edges; an undirected edge is two.

        Args:
            edge_index (Tensor): sources and targets of shape :math:`(2, E)`.
            edge_weight (Tensor, optional): their weights of shape :math:`(E)`, of a weighted graph.
                (default: :obj:`None`)

        Raises:
            ValueError: if there is no such node, or only one of graph and new edges is weighted.
        """
        if edge_index.dim() != 2 or edge_index.size(0) != 2:
            raise ValueError(f"edge_index must have shape [2, num_edges], got {list(edge_index.shape)}")
        edges = self._ids(edge_index.reshape(-1)).view(2, -1)
        if (edge_weight is None) != (self._edge_weight is None):
            graph, new = ("without" if weight is None else "with" for weight in (self._edge_weight, edge_weight))
            raise ValueError(f"the graph is {graph} edge weights, the new edges came {new} them")
        if edge_weight is not None:
            if edge_weight.shape != edge_index.shape[1:]:
                raise ValueError(f"edge_weight must have shape [{edges.size(1)}], got {list(edge_weight.shape)}")
            self._edge_weight = torch.cat([self._edge_weight, edge_weight.to(self._edge_weight)])
        self._edge_index = torch.cat([self._edge_index, edges.to(self._edge_index.dtype)], dim=1)

    @_alone
    def set_features(self, ids: Tensor | list[int], x: Tensor) -> None:
        r"""Replaces the features of some nodes.

        Args:
            ids (Tensor or list): different ids of shape :math:`(n)`.
            x (Tensor): their new features of shape :math:`(n, F)`.

        Raises:
            ValueError: if there is no such node, an id repeats, or the features do not fit.
        """
        ids, x = self._ids(ids), self._features(x)
        if ids.numel() != x.size(0) or ids.unique().numel() != ids.numel():
            raise ValueError(f"give as many different ids as rows of features, got {ids.numel()} and {x.size(0)}")
        self._x = self._x.index_copy(0, ids, x)

    def _answer(self, nodes: Tensor, trace: Trace) -> tuple[Tensor, Tensor]:
        model, last = self.model, len(self.model.expert_names) - 1

        def logits(k: int, nodes: Tensor | None) -> Tensor:
            edges = (self._edge_index, self._edge_weight)
            return model.logits(k, self._x, *edges, nodes=nodes, cache=self._caches[k], trace=trace)

        if self._rule is not None:
            answer, expert = routed(model, self._rule, self._x, logits, nodes)
            return answer.softmax(dim=-1), expert
        if model.route != "mixture":
            k = model.expert_names.index(model.route)
            return logits(k, nodes).softmax(dim=-1), torch.full_like(nodes, k)
        each = [logits(k, nodes) for k in range(last + 1)]
        gates = [model.gate(k, each[k], self._x[nodes]) for k in range(last)]
        return model.mixture(each, gates), torch.full_like(nodes, last)

    def _clear(self) -> None:
        for cache in filter(None, self._caches):
            cache.clear()

    def _weights(self) -> list[tuple[int, int]]:
        values = self.model.state_dict(keep_vars=True).values()
        return [(id(value), value._version) for value in values if isinstance(value, Tensor)]

    def _folder(self, name: str) -> Path | None:
        if self._scratch is None:
            return None
        (folder := Path(self._scratch.name) / name).mkdir()
        return folder

    def _ids(self, ids: Tensor | list[int]) -> Tensor:
        ids = torch.as_tensor(ids, device=self._x.device)
        if ids.dim() != 1 or (ids.numel() and (ids.is_floating_point() or ids.dtype == torch.bool)):
            raise ValueError(f"node ids must be integers of shape [n], got {ids.dtype} of shape {list(ids.shape)}")
        outside = ids[(ids < 0) | (ids >= self.num_nodes)]
        if outside.numel():
            raise ValueError(f"node ids must lie in [0, {self.num_nodes}), got {int(outside[0])}")
        return ids.long()

    def _features(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or x.size(1) != self._x.size(1) or not x.is_floating_point():
            shape = [x.size(0) if x.dim() else 1, self._x.size(1)]
            raise ValueError(f"features must be floating point of shape {shape}, got {x.dtype} of {list(x.shape)}")
        if bad := int((~x.isfinite()).any(dim=1).sum()):
            raise ValueError(f"features must be finite: {bad} of {x.size(0)} rows are not")
        return x.to(self._x)
