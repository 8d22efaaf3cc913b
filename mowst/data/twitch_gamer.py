r"""The mutual followers of Twitch streamers, with the features and labels of LINKX."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst.data.info import DatasetInfo
from mowst.data.splits import stratified_split
from mowst.io import load_csv

LABEL = "mature"
FEATURES = ("views", "life_time", "created_at", "updated_at", "dead_account", "language", "affiliate")


def read_twitch_gamer(feature_path: Path, edge_path: Path) -> Data:
    r"""Reads `"Twitch Gamers" <https://arxiv.org/abs/2101.03091>`_ as LINKX does: a date is the number YYYYMMDD, a
    language the rank of its first occurrence, and every feature is standardised over all nodes,

    .. math::
        x_{vj} \leftarrow (x_{vj} - \bar{x}_j) / s_j, \qquad s_j^2 = \tfrac{1}{N-1} \sum_v (x_{vj} - \bar{x}_j)^2

    here in double precision, since float32 cannot hold such dates. The label is whether the content is for adults.

    Args:
        feature_path (Path): The table of streamers, ordered by :obj:`numeric_id`.
        edge_path (Path): The table of edges, each listed once.

    Raises:
        ValueError: If a table is damaged, lacks a column, or its nodes are not in order.
    """
    nodes = load_csv(feature_path, header=True, columns=["numeric_id", LABEL, *FEATURES])
    edges = load_csv(edge_path, header=True)
    if nodes["numeric_id"].tolist() != list(range(len(nodes))):
        raise ValueError(f"{feature_path}: the numeric_id of row k must be k, from 0 to {len(nodes) - 1}")
    try:
        x = pd.DataFrame({name: _numbers(nodes[name]) for name in FEATURES}).to_numpy(dtype=np.float64)
        edge_index, y = edges.to_numpy(dtype=np.int64).T, nodes[LABEL].to_numpy(dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{feature_path}, {edge_path} must hold whole numbers, dates, languages: {error}") from error
    if len(edge_index) != 2 or not 0 <= edge_index.min() <= edge_index.max() < len(nodes):
        raise ValueError(f"{edge_path} must hold pairs of node ids from 0 to {len(nodes) - 1}")
    x = (x - x.mean(axis=0)) / np.where((std := x.std(axis=0, ddof=1)) > 0, std, 1)
    return Data(
        x=torch.from_numpy(x).float(),
        edge_index=to_undirected(torch.tensor(edge_index), num_nodes=len(nodes)),
        y=torch.tensor(y),
    )


def _numbers(column: pd.Series) -> pd.Series:
    if column.name == "language":
        return pd.Series(pd.factorize(column)[0])
    dates = str(column.name).endswith("_at")
    return column.astype(str).str.replace("-", "").astype(np.int64) if dates else column


TWITCH_GAMER = (
    DatasetInfo(
        name="twitch-gamer",
        family="linkx",
        folder="twitch-gamer",
        files=("raw/twitch-gamer_feat.csv", "raw/twitch-gamer_edges.csv"),
        split_files=("twitch-gamer-splits.npz", "twitch-gamer-splits.npy"),
        urls={
            "twitch-gamer-splits.npy": "https://github.com/CUAI/Non-Homophily-Large-Scale/raw/master/data/splits/"
            "twitch-gamer-splits.npy"
        },
        cached=True,
        read=read_twitch_gamer,
        draw=stratified_split,
        protocol="5 published: 50/25/25",
        num_nodes=168114,
        num_edges=13595114,
        num_features=7,
        num_classes=2,
        preprocessing=("standardised features", "undirected"),
        home="https://github.com/CUAI/Non-Homophily-Large-Scale",
    ),
)
