r"""Generated graph of two populations, each of which only one of the two experts can classify."""

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst.data.info import DatasetInfo

SEPARATION = 3.0
SPREAD = 0.5  # standard deviation of the features of population 1
ANCHORS = 0.1  # share of population 0 that population 1 is joined to


def csbm(
    num_nodes: int = 4000,
    seed: int = 0,
    num_classes: int = 4,
    num_features: int = 16,
    degree: int = 5,
    separation: float = SEPARATION,
) -> Data:
    r"""Draws a contextual stochastic block model of two equal populations with balanced classes.

    .. math::
        x_v \sim \mathcal{N}(\mu_{y_v}, I) \;\;\text{(population 0)}, \qquad
        x_v \sim \mathcal{N}(0, \tfrac{1}{4} I) \;\;\text{(population 1)}, \qquad
        \sum_c \mu_c = 0

    In population 0 the features determine the class, and the edges join random nodes of the
    population. In population 1 the features are noise around the origin, so an MLP is unsure there.
    The neighbours determine the class: all are of the node's own class, from a tenth of population
    0, the anchors. The graph is undirected.

    With the defaults, half of the nodes for training, and hidden size 64, the test accuracy on
    population 0 and 1 is about .95 and .25 for a 2-layer MLP, .69 and .99 for a 2-layer GCN. Chance
    is .25.

    Args:
        num_nodes (int, optional): The number of nodes. (default: :obj:`4000`)
        seed (int, optional): The seed. The global random state is not changed. (default: :obj:`0`)
        num_classes (int, optional): The number of classes. (default: :obj:`4`)
        num_features (int, optional): The number of features. (default: :obj:`16`)
        degree (int, optional): The number of edges that each node draws. (default: :obj:`5`)
        separation (float, optional): The distance of a class centre :math:`\mu_c` from the origin,
            before the centres are shifted to sum to zero. (default: :obj:`3.0`)

    Returns:
        The graph with :obj:`population`, 0 or 1 for each node.
    """
    if num_features < num_classes:
        wanted = f"at least num_classes = {num_classes}"
        raise ValueError(f"num_features must be {wanted}, got {num_features}")
    if num_nodes * ANCHORS < 2 * num_classes:
        minimum = round(2 * num_classes / ANCHORS)
        raise ValueError(f"num_nodes must be at least {minimum}, got {num_nodes}")
    generator = torch.Generator().manual_seed(seed)
    population = torch.arange(num_nodes) % 2
    y = torch.arange(num_nodes) // 2 % num_classes
    edges = _draw_edges(y, population, degree, generator)
    centres = separation * torch.eye(num_classes, num_features)
    centres = centres - centres.mean(dim=0)
    noise = torch.randn(num_nodes, num_features, generator=generator)
    return Data(
        x=torch.where(population.unsqueeze(1) == 0, centres[y] + noise, SPREAD * noise),
        edge_index=to_undirected(edges, num_nodes=num_nodes),
        y=y,
        population=population,
    )


def _draw_edges(y: Tensor, population: Tensor, degree: int, generator: torch.Generator) -> Tensor:
    nodes = (population == 0).nonzero().view(-1)
    drawn = _join(nodes, nodes, degree, generator)
    edges = [drawn[:, drawn[0] != drawn[1]]]
    for label in y.unique():
        clear = ((population == 0) & (y == label)).nonzero().view(-1)
        noisy = ((population == 1) & (y == label)).nonzero().view(-1)
        anchors = clear[: int(ANCHORS * clear.numel())]
        edges.append(_join(noisy, anchors, degree, generator))
    return torch.cat(edges, dim=1)


def _join(nodes: Tensor, targets: Tensor, degree: int, generator: torch.Generator) -> Tensor:
    sources = nodes.repeat_interleave(degree)
    drawn = torch.randint(targets.numel(), sources.shape, generator=generator)
    return torch.stack([sources, targets[drawn]])


CSBM = (DatasetInfo("csbm", family="generated", read=csbm, sizes=(4000, 39150, 16, 4)),)
