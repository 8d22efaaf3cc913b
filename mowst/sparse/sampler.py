r"""Sampled neighbourhoods, without compiled extensions of PyG."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mowst.sparse.graph import Graph


class NeighborSampler:
    r"""Samples the nodes that are reached from given nodes against the direction of the edges, as
    :class:`torch_geometric.loader.NeighborLoader` does. In each hop, every node that the hop before
    reached for the first time draws some of the edges into it, all equally likely, and reaches
    their sources. A source of two parallel edges is therefore drawn twice as often.

    Random numbers are drawn by torch's generator.

    Args:
        graph (Graph): The graph.
        num_neighbors (list[int]): The number of edges to draw in each hop, or :obj:`-1` for all. A
            node with fewer edges draws all of them.
        replace (bool, optional): If set to :obj:`True`, edges are drawn with replacement. (default:
            :obj:`False`)

    Shapes:
        - **input:** node ids :math:`(n)`
        - **output:** the ids of these and all reached nodes, sorted :math:`(m)`
    """

    def __init__(self, graph: Graph, num_neighbors: Sequence[int], replace: bool = False) -> None:
        by_target = graph.edges_by_target
        self._first = torch.from_numpy(by_target.indptr)
        self._sources = torch.from_numpy(by_target.indices)
        self.num_neighbors = tuple(num_neighbors)
        self.replace = replace

    def __call__(self, nodes: Tensor) -> Tensor:
        frontier = nodes.cpu().unique()
        found = torch.zeros(self._first.numel() - 1, dtype=torch.bool)
        found[frontier] = True
        for count in self.num_neighbors:
            reached = self._sources[self._draw_edges(frontier, count)].long()
            frontier = reached[~found[reached]].unique()
            found[frontier] = True
        return found.nonzero().view(-1).to(nodes.device)

    def _draw_edges(self, nodes: Tensor, count: int) -> Tensor:
        # The positions of the drawn edges in the list that is sorted by target.
        first = self._first[nodes].long()
        degree = self._first[nodes + 1].long() - first
        if count < 0:
            draws = torch.zeros_like(degree, dtype=torch.bool)
        elif self.replace:
            draws = degree > 0
        else:
            draws = degree > count
        drawn = draw_integers(degree[draws], max(count, 0), self.replace)
        drawn = drawn + first[draws].unsqueeze(-1)
        first, degree = first[~draws], degree[~draws]
        # [first, first + degree) of each node that takes all of its edges.
        ends = degree.cumsum(0)
        taken = torch.arange(int(degree.sum())) + (first - ends + degree).repeat_interleave(degree)
        return torch.cat([drawn.view(-1), taken])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_neighbors}, replace={self.replace})"


def draw_integers(size: Tensor, count: int, replace: bool = False) -> Tensor:
    r"""Draws integers :math:`0 \leq i < s` for each size :math:`s`. Without replacement, all sets
    of :obj:`count` integers are equally likely, by Robert Floyd's algorithm: its step
    :math:`k = 1, \ldots, c` draws from the first :math:`s - c + k` integers, and takes the last of
    them instead if the drawn one was taken before. No step depends on the size.

    Args:
        size (torch.Tensor): The sizes, at least 1 with replacement and :obj:`count` without.
        count (int): The number of integers :math:`c` to draw for each size.
        replace (bool, optional): Whether to draw with replacement. (default: :obj:`False`)

    Shapes:
        - **size:** :math:`(n)`
        - **output:** :math:`(n, c)`
    """
    uniform = torch.rand(size.numel(), count, dtype=torch.float64)
    if replace:
        return (uniform * size.unsqueeze(-1)).long()
    drawn = torch.empty(size.numel(), count, dtype=torch.long)
    for step in range(count):
        last = size - count + step
        new = (uniform[:, step] * (last + 1)).long()
        taken = (drawn[:, :step] == new.unsqueeze(-1)).any(dim=-1)
        drawn[:, step] = torch.where(taken, last, new)
    return drawn
