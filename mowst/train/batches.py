r"""The batches of an epoch: which training nodes a loss is computed on, and on which part of the
graph.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric.data import Data

from mowst.sparse.features import Features, RowTaker
from mowst.sparse.graph import Graph
from mowst.sparse.sampler import NeighborSampler
from mowst.sparse.subgraph import Subgraph
from mowst.task import GraphTask
from mowst.train.config import TrainConfig
from mowst.train.inputs import TaskInputs

NUM_PARTS, BATCH_SIZE, NUM_NEIGHBORS = 4, 1024, (10, 10)


@dataclass(frozen=True, eq=False)
class Batch:
    r"""Some of the training nodes.

    Args:
        take_rows (RowTaker): Takes the features of training nodes by position.
        rows (torch.Tensor): The positions of these nodes among the training nodes, :math:`(n)`.
        share (float): Their share of all training nodes, or of the class weights of all training
            nodes.
        graph (Subgraph, optional): The graph that experts read. (default: :obj:`None`)
        graph_x (Features, optional): The features of its nodes. (default: :obj:`None`)
        at (torch.Tensor, optional): The positions of the training nodes in the graph, :math:`(n)`.
            (default: :obj:`None`)
    """

    take_rows: RowTaker
    rows: Tensor
    share: float
    graph: Subgraph | None = None
    graph_x: Features | None = None
    at: Tensor | None = None

    @cached_property
    def x(self) -> Features:
        r"""The features of the training nodes, :math:`(n, F)`."""
        return self.take_rows(self.rows)


@dataclass(frozen=True)
class Draw:
    r"""A batch before it is made: nodes, or positions among the training nodes, and the seed of
    everything random in it, so that each process would make the same batch.
    """

    ids: Tensor
    seed: int

    @contextmanager
    def seed_generators(self) -> Iterator[None]:
        r"""A context in which the generators of torch start from the seed. They are restored at its
        end.
        """
        device = self.ids.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield


class Batches:
    r"""Batches of the training nodes. Each epoch goes once through all training nodes, in an order
    drawn by torch's generator. The loss of a batch is the sum over its training nodes, divided by
    the number of all training nodes (or by the sum of their class weights). The losses of an epoch
    therefore add up to the loss :math:`L` over all training nodes. With :math:`K` steps, each step
    minimises :math:`K` times its part, whose mean over the epoch is :math:`L`.

    If no expert reads the graph, batches are rows of the training nodes. Otherwise they are

    .. code-block:: text

        random      the parts of a random partition of all nodes, each with the graph that it
                    induces, as drawn by torch_geometric.loader.RandomNodeLoader; parts without
                    training nodes are left out
        neighbor    some training nodes with the graph that they and sampled neighbors induce, see
                    mowst.sparse.sampler; pyg-lib samples where it is installed

    A batch has at least two training nodes, if there are two. The experts of this package read its
    graph as a :class:`~mowst.sparse.subgraph.Subgraph`, with the degrees of the whole graph. Other
    experts read its edges and weights. Normalization over nodes reads the nodes of the batch.

    Args:
        task (GraphTask): The task.
        config (TrainConfig): The settings.
        inputs (TaskInputs): The inputs of the task.
        reads_graph (bool): Whether an expert reads the graph.
    """

    def __init__(
        self, task: GraphTask, config: TrainConfig, inputs: TaskInputs, reads_graph: bool
    ) -> None:
        self.task = task
        self.config = config
        self.inputs = inputs
        self.reads_graph = reads_graph
        y, weight = task.labels("train"), task.class_weights
        if weight is None:
            self._weights = torch.ones(y.size(0), dtype=torch.float64, device=y.device)
        else:
            self._weights = weight.double()[y]
        self._take_nodes = RowTaker(inputs.x)
        self._take_train = RowTaker(inputs.train_rows)
        self._sampler: Callable[[Tensor], Tensor] | None = None
        if reads_graph:
            self._row_of = torch.full((task.num_nodes,), -1, device=y.device)
            self._row_of[task.index("train")] = torch.arange(y.size(0), device=y.device)
        if reads_graph and config.batches == "neighbor":
            self._sampler = make_sampler(inputs.graph, config.num_neighbors or NUM_NEIGHBORS)

    def draw_steps(self, size: int = 1) -> list[list[Draw]]:
        r"""Draws the batches of an epoch, in steps of :obj:`size` each. The last step may be
        smaller.
        """
        parts = self._draw_partition()
        seeds = torch.randint(2**63 - 1, (len(parts),)).tolist()
        draws = [
            Draw(ids.to(self._weights.device), seed) for ids, seed in zip(parts, seeds, strict=True)
        ]
        return [draws[start : start + size] for start in range(0, len(draws), size)]

    def make_losses(
        self, compute_loss: Callable[[Batch], Tensor], step: Sequence[Draw], scale: float
    ) -> list[Callable[[], Tensor]]:
        r"""Returns a function for each batch of a step that makes the batch and computes its loss,
        times :obj:`scale`. Its gradient is computed before the next batch is made, which reuses the
        memory.
        """
        return [partial(self._compute_loss, compute_loss, draw, scale) for draw in step]

    def make_batch(self, draw: Draw) -> Batch:
        r"""Makes the batch of a draw, in the context of :meth:`Draw.seed_generators`. The batch
        before it becomes invalid.
        """
        ids = draw.ids
        if not self.reads_graph:
            return Batch(self._take_train, ids, self._compute_share(ids))
        if self._sampler is None:
            nodes = ids.sort().values
            at = (self._row_of[nodes] >= 0).nonzero().view(-1)
        else:
            wanted = self.task.index("train")[ids]
            nodes = self._sampler(wanted)
            at = torch.searchsorted(nodes, wanted)
        rows = self._row_of[nodes[at]]
        return Batch(
            self._take_train,
            rows,
            self._compute_share(rows),
            graph=Subgraph(self.inputs.graph, nodes),
            graph_x=self._take_nodes(nodes),
            at=at,
        )

    def _compute_loss(
        self, compute_loss: Callable[[Batch], Tensor], draw: Draw, scale: float
    ) -> Tensor:
        with draw.seed_generators():
            return scale * compute_loss(self.make_batch(draw))

    def _compute_share(self, rows: Tensor) -> float:
        return float(self._weights[rows].sum() / self._weights.sum())

    def _draw_partition(self) -> list[Tensor]:
        draws_nodes = self.reads_graph and self._sampler is None
        size = self.task.num_nodes if draws_nodes else self._weights.numel()
        order = torch.randperm(size)
        if self.config.batches == "neighbor":
            parts = order.split(self.config.batch_size or BATCH_SIZE)
        else:
            parts = order.tensor_split(min(self.config.num_parts or NUM_PARTS, size))
        trains = self._row_of.cpu() >= 0 if draws_nodes else torch.ones(size, dtype=torch.bool)
        return join_small([part for part in parts if trains[part].any()], trains)


def join_small(parts: list[Tensor], trains: Tensor) -> list[Tensor]:
    r"""Joins each part with a single training node to the next one, and the last part to the one
    before it: a normalization over one training node has no variance.

    Args:
        parts (list[torch.Tensor]): The nodes of each part.
        trains (torch.Tensor): The mask of training nodes.
    """
    joined: list[Tensor] = []
    for k, part in enumerate(parts):
        is_small_end = k == len(parts) - 1 and int(trains[part].sum()) < 2
        if joined and (is_small_end or int(trains[joined[-1]].sum()) < 2):
            joined[-1] = torch.cat([joined[-1], part])
        else:
            joined.append(part)
    return joined


def make_sampler(graph: Graph, num_neighbors: Sequence[int]) -> Callable[[Tensor], Tensor]:
    r"""Returns a function from node ids to the sorted ids of their sampled neighborhood: by PyG's
    :class:`~torch_geometric.loader.NeighborLoader` if pyg-lib is installed, and by
    :class:`~mowst.sparse.sampler.NeighborSampler` otherwise.
    """
    known: Any = torch_geometric.typing
    if not known.WITH_PYG_LIB:
        return NeighborSampler(graph, num_neighbors)
    from torch_geometric.loader import NeighborLoader

    edges = Data(edge_index=graph.edge_index.cpu(), num_nodes=graph.num_nodes)
    loader = NeighborLoader(edges, num_neighbors=list(num_neighbors))

    def sample(nodes: Tensor) -> Tensor:
        return loader(nodes.cpu()).n_id.sort().values.to(nodes.device)

    return sample
