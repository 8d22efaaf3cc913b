r"""The MATLAB files of LINKX: the college friendship graphs of facebook100, genius and pokec."""

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

HOME = "https://github.com/CUAI/Non-Homophily-Large-Scale"
ADDRESS = f"{HOME}/raw/master/data"
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


def read_edge_list(path: Path) -> Data:
    r"""Reads the layout of genius and pokec: :obj:`edge_index`, :obj:`node_feat` and :obj:`label`, -1 for none. The
    graph becomes undirected.

    Args:
        path (Path): The MATLAB file.

    Raises:
        ValueError: If the file is damaged.
    """
    variables = load_mat(path, ["edge_index", "node_feat", "label"])
    try:
        x = torch.from_numpy(variables["node_feat"]).float().contiguous()
        edge_index = torch.from_numpy(variables["edge_index"].astype(np.int64))
        y = torch.from_numpy(variables["label"].astype(np.int64).ravel())
        fits = edge_index.size(0) == 2 and 0 <= edge_index.min() <= edge_index.max() < x.size(0)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} must hold arrays of numbers: {error}") from error
    if not fits:
        raise ValueError(f"{path}: edge_index must hold two rows of node ids from 0 to {x.size(0) - 1}")
    return Data(x=x, edge_index=to_undirected(edge_index, num_nodes=x.size(0)), y=y)


def college(name: str, file: str | None = None, split_files: tuple[str, ...] = (), **statistics: Any) -> DatasetInfo:
    r"""The row of a college of facebook100: its file belongs into :obj:`linkx/<name>/raw/data.mat`.

    Args:
        name (str): The name in lower case, such as :obj:`"rutgers89"`.
        file (str, optional): The file that LINKX publishes. (default: :obj:`None`)
        split_files (tuple[str, ...], optional): As in :class:`DatasetInfo`. (default: :obj:`()`)
        statistics: Fields of :class:`DatasetInfo`.
    """
    return _row(
        name,
        file="data.mat",
        published=f"facebook100/{file}.mat" if file else None,
        read=read_facebook100,
        split_files=split_files,
        preprocessing=("one-hot metadata as features", "undirected"),
        **({} if file else {"home": "https://archive.org/details/oxford-2005-facebook-matrix"}),
        **statistics,
    )


def _one_hot(columns: np.ndarray) -> Tensor:
    values, codes = zip(*(np.unique(column, return_inverse=True) for column in columns.T), strict=True)
    widths = [len(value) for value in values]
    offsets = np.cumsum([0, *widths[:-1]])
    x = torch.zeros(len(columns), sum(widths))
    x.scatter_(1, torch.from_numpy(np.stack(codes, axis=1) + offsets), 1.0)
    return x


def _row(
    name: str, file: str, published: str | None, split_files: tuple[str, ...] = (), home: str = HOME, **fields: Any
) -> DatasetInfo:
    urls = {split_file: f"{ADDRESS}/splits/{split_file}" for split_file in split_files if split_file.endswith(".npy")}
    return DatasetInfo(
        name=name,
        family="linkx",
        folder=name,
        files=(f"raw/{file}",),
        split_files=split_files,
        urls=urls | ({f"raw/{file}": f"{ADDRESS}/{published}"} if published else {}),
        draw=stratified_split,
        protocol="5 published: 50/25/25" if split_files else "seeded, stratified 50/25/25",
        num_classes=2,
        home=home,
        **fields,
    )


LINKX = (
    college(
        "penn94",
        file="Penn94",
        split_files=("penn94-splits.npz", "fb100-Penn94-splits.npy"),
        num_nodes=41554,
        num_edges=2724458,
        num_features=4814,
    ),
    college("cornell5", file="Cornell5", num_nodes=18660, num_edges=1581554, num_features=4735),
    college("amherst41", file="Amherst41", num_nodes=2235, num_edges=181908, num_features=1193),
    college("johnshopkins55", file="Johns%20Hopkins55", num_nodes=5180, num_edges=373172, num_features=2406),
    college("reed98", file="Reed98", num_nodes=962, num_edges=37624, num_features=745),
    _row(
        "genius",
        file="genius.mat",
        published="genius.mat",
        read=read_edge_list,
        split_files=("genius-splits.npz", "genius-splits.npy"),
        metric="roc_auc",
        num_nodes=421961,
        num_features=12,
        preprocessing=("undirected",),
    ),
    _row(
        "pokec",
        file="pokec.mat",
        published=None,
        read=read_edge_list,
        split_files=("pokec-splits.npz", "pokec-splits.npy"),
        cached=True,
        num_nodes=1632803,
        num_edges=44603928,
        num_features=65,
        preprocessing=("undirected",),
    ),
)
