r"""Handwritten digits: the features show one half of an image, the edges come from the other."""

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst.data.info import DatasetInfo

NUM_NEIGHBORS = 3


def read_digits() -> Data:
    r"""Reads the 1,797 digits that come with scikit-learn. The features are the 32 pixels of the
    left half, scaled to :math:`[0, 1]`. Edges join every digit to its 3 nearest neighbours by the
    right half. The two experts thus err on different nodes.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    left, right = np.split(images.reshape(-1, 8, 8), 2, axis=2)
    edge_index = to_undirected(_find_nearest(right.reshape(-1, 32)), num_nodes=len(labels))
    x = torch.from_numpy(left.reshape(-1, 32) / 16).float()
    return Data(x=x, edge_index=edge_index, y=torch.from_numpy(labels).long())


def _find_nearest(points: np.ndarray) -> torch.Tensor:
    # The pixels are whole numbers, so the squared distances are exact. The stable sort gives ties
    # to the lower node id: the graph is the same on every machine.
    norm = (points**2).sum(axis=1)
    distance = norm[:, None] + norm - 2 * points @ points.T
    np.fill_diagonal(distance, np.inf)
    neighbors = np.argsort(distance, axis=1, kind="stable")[:, :NUM_NEIGHBORS]
    nodes = np.repeat(np.arange(len(points)), NUM_NEIGHBORS)
    return torch.from_numpy(np.stack([nodes, neighbors.ravel()]))


DIGITS = (
    DatasetInfo(
        "digits",
        family="bundled",
        read=read_digits,
        sizes=(1797, 7738, 32, 10),
        preprocessing=(
            "left half as features in [0, 1]",
            "3 nearest neighbours of the right half as edges",
        ),
        home="https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html",
    ),
)
