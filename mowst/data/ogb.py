r"""ogbn-arxiv and ogbn-products in the compressed tables of the Open Graph Benchmark, and arxiv-year."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce, to_undirected

from mowst.data.info import DatasetInfo
from mowst.data.splits import stratified_split
from mowst.io import load_csv
from mowst.task import SPLITS

TABLES = ("num-node-list", "num-edge-list", "node-feat", "edge")
NUM_YEAR_CLASSES = 5


def read_ogb(*paths: Path) -> Data:
    r"""Reads `"Open Graph Benchmark" <https://arxiv.org/abs/2005.00687>`_, whose tables have no header. The graph
    becomes undirected.

    Args:
        paths (Path): The tables :obj:`TABLES`, the labels, and the node ids of train, val and test.

    Raises:
        ValueError: If a table is damaged, or they do not belong together.
    """
    data = _read_graph(*paths[: len(TABLES)])
    num_nodes = data.x.size(0)
    data.edge_index = to_undirected(data.edge_index, num_nodes=num_nodes)
    data.y = _read_column(paths[len(TABLES)], num_nodes)
    for split, path in zip(SPLITS, paths[len(TABLES) + 1 :], strict=True):
        nodes = _read_column(path)
        if not 0 <= nodes.min() <= nodes.max() < num_nodes:
            raise ValueError(f"{path} names nodes {nodes.min()} to {nodes.max()}, the graph has {num_nodes}")
        data[f"{split}_mask"] = torch.zeros(num_nodes, 1, dtype=torch.bool).index_fill(0, nodes, True)
    return data


def read_arxiv_year(*paths: Path) -> Data:
    r"""Reads the graph of ogbn-arxiv with the labels of LINKX: the year of a paper, in five classes between the
    quantiles :math:`q_1, \ldots, q_4` of all years at :math:`k / 5`,

    .. math::
        y_v = |\{k : \mathrm{year}_v \ge q_k\}|.

    As there, citations keep their direction.

    Args:
        paths (Path): The tables :obj:`TABLES` and the years.

    Raises:
        ValueError: If a table is damaged, or they do not belong together.
    """
    data = _read_graph(*paths[:-1])
    years = _read_column(paths[-1], data.x.size(0)).numpy()
    quantiles = np.quantile(years, np.arange(1, NUM_YEAR_CLASSES) / NUM_YEAR_CLASSES)
    data.y = torch.from_numpy(np.searchsorted(quantiles, years, side="right"))
    data.edge_index = coalesce(data.edge_index)
    return data


def _read_graph(node_count: Path, edge_count: Path, features: Path, edges: Path) -> Data:
    x, edge_index = _read_table(features, np.float32), _read_table(edges, np.int64).t()
    for path, count_path, found in ((features, node_count, x.size(0)), (edges, edge_count, edge_index.size(1))):
        if (expected := _read_column(count_path).tolist()) != [found]:
            raise ValueError(f"{path} has {found} rows, but {count_path.name} says {expected}: is it truncated?")
    if edge_index.size(0) != 2 or not 0 <= edge_index.min() <= edge_index.max() < x.size(0):
        raise ValueError(f"{edges} must hold pairs of node ids from 0 to {x.size(0) - 1}")
    return Data(x=x, edge_index=edge_index.contiguous())


def _read_column(path: Path, num_rows: int | None = None) -> Tensor:
    table = _read_table(path, np.int64)
    if table.shape != (num_rows or len(table), 1):
        raise ValueError(f"{path} must hold one column of {num_rows or len(table)} rows, got {tuple(table.shape)}")
    return table.view(-1)


def _read_table(path: Path, dtype: type) -> Tensor:
    return torch.from_numpy(np.array(load_csv(path, dtype=dtype), order="C"))


def _row(name: str, folder: str, archive: str, tables: tuple[str, ...], read: Callable, **fields: Any) -> DatasetInfo:
    files = tuple(f"{table}.csv.gz" for table in tables)
    return DatasetInfo(
        name=name,
        family="ogb",
        folder=folder,
        files=files,
        urls=dict.fromkeys(files, f"https://snap.stanford.edu/ogb/data/nodeproppred/{archive}.zip")
        | {file: f"{LINKX_SPLITS}/{file}" for file in fields.get("split_files", ()) if file.endswith(".npy")},
        cached=True,
        read=read,
        **fields,
    )


LINKX_SPLITS = "https://github.com/CUAI/Non-Homophily-Large-Scale/raw/master/data/splits"
GRAPH = tuple(f"raw/{table}" for table in TABLES)
ARXIV, PRODUCTS = (
    tuple(f"split/{folder}/{part}" for part in ("train", "valid", "test")) for folder in ("time", "sales_ranking")
)

OGB = (
    _row(
        "ogbn-arxiv",
        folder="ogbn_arxiv",
        archive="arxiv",
        tables=(*GRAPH, "raw/node-label", *ARXIV),
        read=read_ogb,
        draw=partial(stratified_split, fractions=(0.54, 0.17, 0.29)),
        protocol="1 published: by year",
        num_nodes=169343,
        num_edges=2315598,
        num_features=128,
        num_classes=40,
        preprocessing=("undirected",),
        home="https://ogb.stanford.edu/docs/nodeprop/#ogbn-arxiv",
        licence="ODC-BY",
    ),
    _row(
        "ogbn-products",
        folder="ogbn_products",
        archive="products",
        tables=(*GRAPH, "raw/node-label", *PRODUCTS),
        read=read_ogb,
        draw=partial(stratified_split, fractions=(0.08, 0.02, 0.9)),
        protocol="1 published: by sales rank",
        num_nodes=2449029,
        num_features=100,
        num_classes=47,
        preprocessing=("undirected",),
        home="https://ogb.stanford.edu/docs/nodeprop/#ogbn-products",
        licence="Amazon",
    ),
    _row(
        "arxiv-year",
        folder="ogbn_arxiv",
        archive="arxiv",
        tables=(*GRAPH, "raw/node_year"),
        read=read_arxiv_year,
        split_files=("arxiv-year-splits.npz", "arxiv-year-splits.npy"),
        draw=stratified_split,
        protocol="5 published: 50/25/25",
        num_nodes=169343,
        num_edges=1166243,
        num_features=128,
        num_classes=NUM_YEAR_CLASSES,
        preprocessing=("year in 5 quantiles as label",),
        home="https://ogb.stanford.edu/docs/nodeprop/#ogbn-arxiv",
        licence="ODC-BY",
    ),
)
