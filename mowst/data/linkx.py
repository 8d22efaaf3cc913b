r"""Graphs of LINKX: the college friendships of facebook100, genius, pokec and Twitch streamers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import from_scipy_sparse_matrix, to_undirected

from mowst.data.info import DatasetInfo, check_edges
from mowst.io import load_csv, load_mat

HOME = "https://github.com/CUAI/Non-Homophily-Large-Scale"
ADDRESS = f"{HOME}/raw/master/data"
COLLEGES = "https://archive.org/details/oxford-2005-facebook-matrix"
GENDER = 1  # column of the metadata
TWITCH_LABEL = "mature"
DATES = ["created_at", "updated_at"]
TWITCH_FEATURES = ["views", "life_time", *DATES, "dead_account", "language", "affiliate"]


def read_facebook100(path: Path) -> Data:
    r"""Reads `"Large Scale Learning on Non-Homophilous Graphs"
    <https://arxiv.org/abs/2110.14446>`_: friendships :obj:`A` and the metadata :obj:`local_info`
    (status, gender, major, second major, dorm, year, high school). The label is the gender; 0 means
    unlabelled. The features are the other columns, one-hot.
    """
    variables = load_mat(path, ["A", "local_info"])
    metadata = variables["local_info"].astype(np.int64)
    edge_index, _ = from_scipy_sparse_matrix(variables["A"])
    return Data(
        x=_encode_one_hot(np.delete(metadata, GENDER, axis=1)),
        edge_index=to_undirected(edge_index, num_nodes=len(metadata)),
        y=torch.from_numpy(metadata[:, GENDER] - 1),
    )


def read_edge_list(path: Path) -> Data:
    r"""Reads genius or pokec: :obj:`edge_index`, :obj:`node_feat` and :obj:`label` (-1 for
    unlabelled nodes). The graph becomes undirected.
    """
    variables = load_mat(path, ["edge_index", "node_feat", "label"])
    try:
        x = torch.from_numpy(variables["node_feat"]).float().contiguous()
        edge_index = torch.from_numpy(variables["edge_index"].astype(np.int64))
        y = torch.from_numpy(variables["label"].astype(np.int64).ravel())
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} must hold arrays of numbers: {error}") from error
    check_edges(path, edge_index, num_nodes=x.size(0))
    return Data(x=x, edge_index=to_undirected(edge_index, num_nodes=x.size(0)), y=y)


def read_twitch_gamer(feature_path: Path, edge_path: Path) -> Data:
    r"""Reads `"Twitch Gamers" <https://arxiv.org/abs/2101.03091>`_ as LINKX does. A date is the
    number YYYYMMDD, a language the rank of its first occurrence. Every feature is standardised,

    .. math::
        x_{vj} \leftarrow (x_{vj} - \bar{x}_j) / s_j, \qquad
        s_j^2 = \tfrac{1}{N-1} \sum_v (x_{vj} - \bar{x}_j)^2

    in double precision, since float32 cannot hold such dates. The label is whether the content is
    for adults. Rows are ordered by :obj:`numeric_id`, and each edge is listed once.
    """
    columns = ["numeric_id", TWITCH_LABEL, *TWITCH_FEATURES]
    nodes = load_csv(feature_path, header=True, columns=columns)
    edges = load_csv(edge_path, header=True)
    if nodes["numeric_id"].tolist() != list(range(len(nodes))):
        wanted = f"the numeric_id of row k must be k, from 0 to {len(nodes) - 1}"
        raise ValueError(f"{feature_path}: {wanted}")
    try:
        x = np.stack([_to_numbers(name, nodes[name]) for name in TWITCH_FEATURES], axis=1)
        y = nodes[TWITCH_LABEL].to_numpy(dtype=np.int64)
        edge_index = edges.to_numpy(dtype=np.int64).T
    except (TypeError, ValueError) as error:
        kinds = "whole numbers, dates, languages"
        raise ValueError(f"{feature_path}, {edge_path} must hold {kinds}: {error}") from error
    check_edges(edge_path, edge_index, num_nodes=len(nodes))
    deviation = x.std(axis=0, ddof=1)
    x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return Data(
        x=torch.from_numpy(x).float(),
        edge_index=to_undirected(torch.tensor(edge_index), num_nodes=len(nodes)),
        y=torch.tensor(y),
    )


def _to_numbers(name: str, column: Any) -> np.ndarray:
    if name == "language":
        ranks: dict[str, int] = {}
        for value in column:
            ranks.setdefault(value, len(ranks))
        return np.array([ranks[value] for value in column], dtype=np.float64)
    if name in DATES:
        column = column.astype(str).str.replace("-", "").astype(np.int64)
    return column.to_numpy(dtype=np.float64)


def _encode_one_hot(columns: np.ndarray) -> Tensor:
    blocks = []
    for column in columns.T:
        values, codes = np.unique(column, return_inverse=True)
        block = torch.zeros(len(column), len(values))
        blocks.append(block.scatter_(1, torch.from_numpy(codes).view(-1, 1), 1.0))
    return torch.cat(blocks, dim=1)


def _describe(
    name: str, files: dict[str, str | None], read: Callable, splits: str = "", **fields: Any
) -> DatasetInfo:
    # `files` maps raw files to their addresses, `splits` is the name in the published split file.
    urls = {file: f"{ADDRESS}/{address}" for file, address in files.items() if address}
    if splits:
        urls[f"{splits}-splits.npy"] = f"{ADDRESS}/splits/{splits}-splits.npy"
        fields["split_files"] = (f"{name}-splits.npz", f"{splits}-splits.npy")
        fields["num_splits"] = 5
        fields["protocol"] = "50/25/25"
    return DatasetInfo(
        name,
        family="linkx",
        folder=name,
        files=tuple(files),
        urls=urls,
        read=read,
        **{"home": HOME, "preprocessing": ("undirected",), **fields},
    )


def describe_college(name: str, file: str | None = None, **fields: Any) -> DatasetInfo:
    r"""Describes a college of facebook100 by its name in lower case, such as :obj:`"rutgers89"`,
    and the file that LINKX publishes, if any. It is stored as :obj:`linkx/<name>/raw/data.mat`.
    """
    address = f"facebook100/{file}.mat" if file else None
    return _describe(
        name,
        {"raw/data.mat": address},
        read_facebook100,
        preprocessing=("one-hot metadata as features", "undirected"),
        **{"home": HOME if file else COLLEGES, "sizes": (None, None, None, 2), **fields},
    )


LINKX = (
    describe_college("penn94", "Penn94", splits="fb100-Penn94", sizes=(41554, 2724458, 4814, 2)),
    describe_college("cornell5", "Cornell5", sizes=(18660, 1581554, 4735, 2)),
    describe_college("amherst41", "Amherst41", sizes=(2235, 181908, 1193, 2)),
    describe_college("johnshopkins55", "Johns%20Hopkins55", sizes=(5180, 373172, 2406, 2)),
    describe_college("reed98", "Reed98", sizes=(962, 37624, 745, 2)),
    _describe(
        "genius",
        {"raw/genius.mat": "genius.mat"},
        read_edge_list,
        splits="genius",
        sizes=(421961, None, 12, 2),
        metric="roc_auc",
    ),
    _describe(
        "pokec",
        {"raw/pokec.mat": None},
        read_edge_list,
        splits="pokec",
        sizes=(1632803, 44603928, 65, 2),
        cached=True,
    ),
    _describe(
        "twitch-gamer",
        {"raw/twitch-gamer_feat.csv": None, "raw/twitch-gamer_edges.csv": None},
        read_twitch_gamer,
        splits="twitch-gamer",
        sizes=(168114, 13595114, 7, 2),
        cached=True,
        preprocessing=("standardised features", "undirected"),
    ),
)
