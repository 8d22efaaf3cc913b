r"""The college friendship graphs of facebook100, with the features and labels of LINKX."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import from_scipy_sparse_matrix, to_undirected

from mowst.data.info import DatasetInfo
from mowst.data.splits import stratified_split
from mowst.io import load_mat

GENDER = 1  # the column of the metadata


def read_facebook100(path: Path) -> Data:
    r"""Reads `"Large Scale Learning on Non-Homophilous Graphs" <https://arxiv.org/abs/2110.14446>`_: friendships
    :obj:`A` and the metadata :obj:`local_info` (status, gender, major, second major, dorm, year, high school). The
    label is the gender; a gender of 0 means unlabelled. The features are the other columns, one-hot.

    Args:
        path (Path): The MATLAB file.

    Raises:
        ValueError: If the file is damaged.
    """
    variables = load_mat(path, ["A", "local_info"])
    metadata = variables["local_info"].astype(np.int64)
    return Data(
        x=_one_hot(np.delete(metadata, GENDER, axis=1)),
        edge_index=to_undirected(from_scipy_sparse_matrix(variables["A"])[0], num_nodes=len(metadata)),
        y=torch.from_numpy(metadata[:, GENDER] - 1),
    )


def _one_hot(columns: np.ndarray) -> Tensor:
    values, codes = zip(*(np.unique(column, return_inverse=True) for column in columns.T), strict=True)
    widths = [len(value) for value in values]
    offsets = np.cumsum([0, *widths[:-1]])
    x = torch.zeros(len(columns), sum(widths))
    x.scatter_(1, torch.from_numpy(np.stack(codes, axis=1) + offsets), 1.0)
    return x


def _row(name: str, split_file: str | None = None, **statistics: Any) -> DatasetInfo:
    return DatasetInfo(
        name=name,
        family="linkx",
        folder=name,
        files=("data.mat",),
        split_file=split_file,
        read=read_facebook100,
        draw=stratified_split,
        protocol="5 published: 50/25/25" if split_file else "seeded, stratified 50/25/25",
        num_classes=2,
        preprocessing=("one-hot metadata as features", "undirected"),
        home="https://github.com/CUAI/Non-Homophily-Large-Scale",
        **statistics,
    )


LINKX = (
    _row("penn94", split_file="penn94-splits.npz", num_nodes=41554, num_edges=2724458, num_features=4814),
    _row("cornell5", num_nodes=18660, num_edges=1581554, num_features=4735),
    _row("amherst41", num_nodes=2235, num_edges=181908, num_features=1193),
    _row("johnshopkins55", num_nodes=5180, num_edges=373172, num_features=2406),
    _row("reed98", num_nodes=962, num_edges=37624, num_features=745),
)
