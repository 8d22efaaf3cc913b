r"""Handwritten digits seen from two sides: the features show one half of an image, the edges come from the other."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst.data.info import DatasetInfo
from mowst.data.splits import stratified_split

NUM_NEIGHBORS = 3


def read_digits() -> Data:
    r"""The 1,797 digits that come with scikit-learn. The features are the 32 pixels of the left half, scaled to
    :math:`[0, 1]`; every digit is joined to its 3 nearest neighbours by the right half. So neither view knows what
    the other knows, and the two experts err on different nodes.
    """
    images, labels = load_digits(return_X_y=True)
    left, right = np.split(images.reshape(-1, 8, 8), 2, axis=2)
    edge_index = to_undirected(_nearest(right.reshape(-1, 32)), num_nodes=len(labels))
    x = torch.from_numpy(left.reshape(-1, 32) / 16).float()
    return Data(x=x, edge_index=edge_index, y=torch.from_numpy(labels).long())


def _nearest(points: np.ndarray) -> torch.Tensor:
    # The pixels are whole numbers, so the squared distances are exact, and the stable sort gives ties to the lower
    # node id: the graph is the same on every machine.
    norm = (points**2).sum(axis=1)
    distance = norm[:, None] + norm - 2 * points @ points.T
    np.fill_diagonal(distance, np.inf)
    neighbors = np.argsort(distance, axis=1, kind="stable")[:, :NUM_NEIGHBORS]
    nodes = np.repeat(np.arange(len(points)), NUM_NEIGHBORS)
    return torch.from_numpy(np.stack([nodes, neighbors.ravel()]))


DIGITS = (
    DatasetInfo(
        name="digits",
        family="bundled",
        read=read_digits,
        draw=stratified_split,
        protocol="seeded, stratified 50/25/25",
        num_nodes=1797,
        num_edges=7738,
        num_features=32,
        num_classes=10,
        preprocessing=("left half as features in [0, 1]", "3 nearest neighbours of the right half as edges"),
        home="https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html",
    ),
)
