r"""Generated inputs of benchmarks."""

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst import GraphTask


def draw_power_law(num_nodes: int, num_edges: int, seed: int = 0, exponent: float = 2.5) -> Tensor:
    r"""Draws an undirected graph whose expected degrees follow a power law. Edge ends are drawn
    with probabilities :math:`\propto k^{-1 / (\gamma - 1)}` for the node of rank :math:`k`, and
    ranks are assigned at random.

    Args:
        num_nodes (int): The number of nodes.
        num_edges (int): The approximate number of directed edges; repeated pairs and self-loops are
            dropped.
        seed (int, optional): The seed of the draw. (default: :obj:`0`)
        exponent (float, optional): The exponent :math:`\gamma` of the degree distribution.
            (default: :obj:`2.5`)

    Shapes:
        - **output:** edge indices :math:`(2, E)`
    """
    generator = torch.Generator().manual_seed(seed)
    mass = torch.arange(1, num_nodes + 1, dtype=torch.double).pow(-1 / (exponent - 1)).cumsum(0)
    draws = torch.rand(2, num_edges // 2, generator=generator, dtype=torch.double) * mass[-1]
    rank = torch.searchsorted(mass, draws).clamp_(max=num_nodes - 1)
    edges = torch.randperm(num_nodes, generator=generator)[rank]
    return to_undirected(edges[:, edges[0] != edges[1]], num_nodes=num_nodes)


def draw_one_hot(num_nodes: int, num_features: int, num_columns: int = 6, seed: int = 0) -> Tensor:
    r"""Draws one-hot codes of random categorical columns, :math:`(N, F)`, as sparse as those of
    facebook100.
    """
    generator = torch.Generator().manual_seed(seed)
    width = num_features // num_columns
    codes = torch.randint(width, (num_nodes, num_columns), generator=generator)
    codes += width * torch.arange(num_columns)
    return torch.zeros(num_nodes, num_features).scatter_(1, codes, 1.0)


def draw_task(
    num_nodes: int, num_edges: int, num_classes: int, x: Tensor, seed: int = 0
) -> GraphTask:
    r"""Draws a task with random labels on a power-law graph, half of the nodes for training, a
    quarter for validation.
    """
    generator = torch.Generator().manual_seed(seed)
    part = torch.randperm(num_nodes, generator=generator) % 4
    data = Data(
        x=x,
        edge_index=draw_power_law(num_nodes, num_edges, seed),
        y=torch.randint(num_classes, (num_nodes,), generator=generator),
    )
    masks = {"train": part < 2, "val": part == 2, "test": part == 3}
    return GraphTask(data, masks=masks, num_classes=num_classes, name="power-law")
