r"""A generated graph of two populations, each of which only one of the two experts can classify."""

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst.data.info import DatasetInfo
from mowst.data.splits import stratified_split

SEPARATION = 3.0
SPREAD = 0.5  # of the features without a class, around the neutral centre
ANCHORS = 0.1  # the share of population 0 that population 1 is joined to


def csbm(
    num_nodes: int = 4000,
    seed: int = 0,
    num_classes: int = 4,
    num_features: int = 16,
    degree: int = 5,
    separation: float = SEPARATION,
) -> Data:
    r"""Draws a contextual stochastic block model of two equally large populations with balanced classes.

    .. math::
        x_v \sim \mathcal{N}(\mu_{y_v}, I) \;\;\text{(population 0)}, \qquad
        x_v \sim \mathcal{N}(0, \tfrac{1}{4} I) \;\;\text{(population 1)}, \qquad \sum_c \mu_c = 0

    In population 0 the features tell the class, and the edges go to random nodes of the population. In population 1
    the features are noise around the class-neutral centre, so an MLP is unsure there, and the neighbours tell the
    class: all are of the node's own class, from a tenth of population 0, the anchors. The graph is undirected.

    With the defaults, half of the nodes for training, and hidden size 64, test accuracy on population 0 and 1 is
    about .95 and .25 for a 2-layer MLP, .69 and .99 for a 2-layer GCN; chance is .25.

    Args:
        num_nodes (int, optional): The number of nodes. (default: :obj:`4000`)
        seed (int, optional): The seed of the draw; the global random state is untouched. (default: :obj:`0`)
        num_classes (int, optional): The number of classes. (default: :obj:`4`)
        num_features (int, optional): The number of features. (default: :obj:`16`)
        degree (int, optional): The edges that each node draws. (default: :obj:`5`)
        separation (float, optional): The distance of a class centre :math:`\mu_c` from the origin, before the centres
            are shifted to sum to zero, in standard deviations of the features around it. (default: :obj:`3.0`)

    Returns:
        The graph with :obj:`population`, 0 or 1 for each node.

    Raises:
        ValueError: If there are fewer features than classes, or too few nodes for an anchor in each class.
    """
    if num_features < num_classes:
        raise ValueError(f"num_features must be at least num_classes = {num_classes}, got {num_features}")
    if num_nodes * ANCHORS < 2 * num_classes:
        raise ValueError(f"num_nodes must be at least {round(2 * num_classes / ANCHORS)}, got {num_nodes}")
    generator = torch.Generator().manual_seed(seed)
    population = torch.arange(num_nodes) % 2
    y = torch.arange(num_nodes) // 2 % num_classes
    edges = [_random_edges(population, degree, generator), _anchor_edges(y, population, degree, generator)]
    return Data(
        x=_features(y, population, num_classes, num_features, separation, generator),
        edge_index=to_undirected(torch.cat(edges, dim=1), num_nodes=num_nodes),
        y=y,
        population=population,
    )


def _features(
    y: Tensor, population: Tensor, num_classes: int, num_features: int, separation: float, generator: torch.Generator
) -> Tensor:
    centres = separation * torch.eye(num_classes, num_features)
    centres = centres - centres.mean(dim=0)
    noise = torch.randn(y.numel(), num_features, generator=generator)
    return torch.where(population.unsqueeze(1) == 0, centres[y] + noise, SPREAD * noise)


def _random_edges(population: Tensor, degree: int, generator: torch.Generator) -> Tensor:
    nodes = (population == 0).nonzero().view(-1)
    edges = _draw(nodes, nodes, degree, generator)
    return edges[:, edges[0] != edges[1]]


def _anchor_edges(y: Tensor, population: Tensor, degree: int, generator: torch.Generator) -> Tensor:
    edges = []
    for label in y.unique():
        clear, noisy = (((population == k) & (y == label)).nonzero().view(-1) for k in (0, 1))
        edges.append(_draw(noisy, clear[: int(ANCHORS * clear.numel())], degree, generator))
    return torch.cat(edges, dim=1)


def _draw(nodes: Tensor, targets: Tensor, degree: int, generator: torch.Generator) -> Tensor:
    sources = nodes.repeat_interleave(degree)
    return torch.stack([sources, targets[torch.randint(targets.numel(), sources.shape, generator=generator)]])


CSBM = (
    DatasetInfo(
        name="csbm",
        family="generated",
        read=csbm,
        draw=stratified_split,
        protocol="seeded, stratified 50/25/25",
        num_nodes=4000,
        num_edges=39150,
        num_features=16,
        num_classes=4,
    ),
)
