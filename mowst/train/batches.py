r"""The batches of an epoch: which training nodes a loss is computed on, and on which part of the graph."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader

from mowst.graph.adjacency import adjacency, edges_of
from mowst.graph.part import Part
from mowst.graph.rows import RowTaker
from mowst.task import GraphTask
from mowst.train.config import TrainConfig

NUM_PARTS, BATCH_SIZE, NUM_NEIGHBORS = 4, 1024, (10, 10)


@dataclass(frozen=True, eq=False)
class Batch:
    r"""Some of the training nodes.

    Args:
        features (RowTaker): the features of all training nodes.
        rows (Tensor): which of them these are, by position, :math:`(n)`.
        share (float): their share of all training nodes, or of these nodes' class weights.
        graph (Data, optional): the graph that experts read, with :obj:`x`, :obj:`edge_index` and :obj:`edge_weight`.
            (default: an empty one)
        at (Tensor, optional): where the training nodes lie in that graph, :math:`(n)`. (default: :obj:`None`)
    """

    features: RowTaker
    rows: Tensor
    share: float
    graph: Data = field(default_factory=Data)
    at: Tensor | None = None

    @cached_property
    def x(self) -> Tensor:
        r"""The features of the training nodes, :math:`(n, F)`."""
        return self.features(self.rows)


@dataclass(frozen=True)
class Draw:
    r"""A batch before it is made: nodes, or positions among the training nodes, and the seed of all that is random in
    it, so that it is the same batch whichever process makes it.
    """

    ids: Tensor
    seed: int

    @contextmanager
    def seeded(self) -> Iterator[None]:
        r"""A context in which torch's generators start from the seed; they are put back at its end."""
        device = self.ids.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield


class Batches:
    r"""Batches of the training nodes. Every epoch goes once through all of them, in an order that follows torch's
    generator. The loss of a batch is that of its training nodes, summed, over the number of all training nodes
    (or the sum of their class weights), so that the losses of an epoch sum up to the loss :math:`L` over all
    training nodes: of :math:`K` steps, each minimises :math:`K` times its part, whose mean over the epoch is
    :math:`L`.

    Where no expert reads the graph, batches are rows of the training nodes. Else they are

    .. code-block:: text

        random      the parts of a random partition of all nodes, each with the graph that it induces, drawn as by
                    torch_geometric.loader.RandomNodeLoader; parts without training nodes are left out
        neighbor    some training nodes with the graph that they and sampled neighbours induce, sampled by
                    torch_geometric.loader.NeighborLoader

    A batch has two training nodes or more, if there are two. Of its graph our experts get the operators that
    :class:`~mowst.graph.part.Part` describes, and others the edges with their weights, and so the degrees in it. Norms
    over nodes see the nodes of the batch.

    Args:
        task (GraphTask): the task.
        config (TrainConfig): the settings.
        graph (bool): whether an expert reads the graph.
    """

    def __init__(self, task: GraphTask, config: TrainConfig, graph: bool) -> None:
        self.task = task
        self.config = config
        self.graph = graph
        y, weight = task.labels("train"), task.class_weights
        self._weights = torch.ones_like(y, dtype=torch.float64) if weight is None else weight.double()[y]
        self._of_all, self._of_train = RowTaker(task.data.x), RowTaker(task.features("train"))
        self._sampler: NeighborLoader | None = None
        if graph:
            self._whole = adjacency(task.data.edge_index, task.data.edge_weight, task.num_nodes)
            self._row_of = torch.full((task.num_nodes,), -1, device=y.device)
            self._row_of[task.index("train")] = torch.arange(y.numel(), device=y.device)
        if graph and config.batches == "neighbor":
            edges = Data(edge_index=task.data.edge_index.cpu(), num_nodes=task.num_nodes)
            self._sampler = NeighborLoader(edges, num_neighbors=list(config.num_neighbors or NUM_NEIGHBORS))

    def steps(self, size: int = 1) -> list[list[Draw]]:
        r"""The batches of an epoch, drawn anew, in steps of `size` each; the last may be a smaller one."""
        draws = self._partition()
        seeds = torch.randint(2**63 - 1, (len(draws),)).tolist()
        drawn = [Draw(ids.to(self._weights.device), seed) for ids, seed in zip(draws, seeds, strict=True)]
        return [drawn[i : i + size] for i in range(0, len(drawn), size)]

    def losses(self, loss: Callable[[Batch], Tensor], step: Sequence[Draw], scale: float) -> Iterator[Tensor]:
        r"""The losses of the batches of a step, times `scale`, each to be differentiated before the next is made."""
        for draw in step:
            with draw.seeded():
                yield scale * loss(self.make(draw))

    def make(self, draw: Draw) -> Batch:
        r"""The batch of a draw, in whose :meth:`~Draw.seeded` context it is to be made; the one before it is void."""
        ids = draw.ids
        if not self.graph:
            return self._batch(ids)
        if self._sampler is None:
            nodes = ids.sort().values
            at = (self._row_of[nodes] >= 0).nonzero().view(-1)
        else:
            wanted = self.task.index("train")[ids]
            nodes = self._sampler(wanted.cpu()).n_id.sort().values.to(ids.device)
            at = torch.searchsorted(nodes, wanted)
        edge_index, edge_weight = edges_of(Part(self._whole, nodes))
        graph = Data(x=self._of_all(nodes), edge_index=edge_index, edge_weight=edge_weight)
        return self._batch(self._row_of[nodes[at]], graph=graph, at=at)

    def _batch(self, rows: Tensor, **graph: Any) -> Batch:
        share = float(self._weights[rows].sum() / self._weights.sum())
        return Batch(self._of_train, rows, share, **graph)

    def _partition(self) -> Sequence[Tensor]:
        size = self.task.num_nodes if self.graph and self._sampler is None else self._weights.numel()
        order = torch.randperm(size)
        if self.config.batches == "neighbor":
            parts = order.split(self.config.batch_size or BATCH_SIZE)
        else:
            parts = order.tensor_split(min(self.config.num_parts or NUM_PARTS, size))
        learns = self._row_of.cpu() >= 0 if self.graph and self._sampler is None else torch.ones(size, dtype=torch.bool)
        return _joined([part for part in parts if learns[part].any()], learns)


def _joined(parts: list[Tensor], learns: Tensor) -> list[Tensor]:
    # A norm over the training nodes of a batch has no variance of one: it joins the nodes behind it, the last those
    # before it.
    joined: list[Tensor] = []
    for k, part in enumerate(parts):
        alone = k == len(parts) - 1 and int(learns[part].sum()) < 2
        if joined and (alone or int(learns[joined[-1]].sum()) < 2):
            joined[-1] = torch.cat([joined[-1], part])
        else:
            joined.append(part)
    return joined


def check_sampler(config: TrainConfig) -> None:
    r"""Raises an :obj:`ImportError` that says how to install it, where neighbours cannot be sampled."""
    known: Any = torch_geometric.typing
    if config.batches == "neighbor" and not (known.WITH_PYG_LIB or known.WITH_TORCH_SPARSE):
        raise ImportError(
            "batches='neighbor' samples by PyG's NeighborLoader, which needs pyg-lib or torch-sparse: "
            "pip install pyg-lib -f https://data.pyg.org/whl/torch-${TORCH}+cpu.html, or from source "
            "pip install --no-build-isolation torch-scatter torch-sparse; batches='random' needs neither"
        )
