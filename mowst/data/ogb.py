r"""ogbn-arxiv, arxiv-year and ogbn-products in the tables of the Open Graph Benchmark."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce, to_undirected

from mowst.data.info import DatasetInfo, check_edges, make_mask
from mowst.data.splits import stratified_split
from mowst.io import load_csv
from mowst.task import SPLITS

TABLES = ("raw/num-node-list", "raw/num-edge-list", "raw/node-feat", "raw/edge")
NUM_YEAR_CLASSES = 5
ARCHIVES = "https://snap.stanford.edu/ogb/data/nodeproppred"
LINKX_SPLITS = "https://github.com/CUAI/Non-Homophily-Large-Scale/raw/master/data/splits"


def read_ogb(*paths: Path) -> Data:
    r"""Reads `"Open Graph Benchmark" <https://arxiv.org/abs/2005.00687>`_: the :obj:`TABLES`, the
    labels, and the node ids of train, val and test. The graph becomes undirected.
    """
    data = _read_graph(*paths[:4])
    num_nodes = data.x.size(0)
    data.edge_index = to_undirected(data.edge_index, num_nodes=num_nodes)
    data.y = _read_column(paths[4], num_nodes)
    for split, path in zip(SPLITS, paths[5:], strict=True):
        data[f"{split}_mask"] = make_mask(path, _read_column(path), num_nodes)
    return data


def read_arxiv_year(*paths: Path) -> Data:
    r"""Reads the graph of ogbn-arxiv with the labels of LINKX: the year of a paper, in five classes
    between the quantiles :math:`q_1, \ldots, q_4` of all years at :math:`k / 5`,

    .. math::
        y_v = |\{k : \mathrm{year}_v \ge q_k\}|.

    As in LINKX, citations keep their direction.
    """
    data = _read_graph(*paths[:4])
    years = _read_column(paths[4], data.x.size(0)).numpy()
    quantiles = np.quantile(years, np.arange(1, NUM_YEAR_CLASSES) / NUM_YEAR_CLASSES)
    data.y = torch.from_numpy(np.searchsorted(quantiles, years, side="right"))
    data.edge_index = coalesce(data.edge_index)
    return data


def _read_graph(node_count: Path, edge_count: Path, features: Path, edges: Path) -> Data:
    x, edge_index = _read_table(features, np.float32), _read_table(edges, np.int64).t()
    _check_count(features, x.size(0), node_count)
    _check_count(edges, edge_index.size(1), edge_count)
    check_edges(edges, edge_index, num_nodes=x.size(0))
    return Data(x=x, edge_index=edge_index.contiguous())


def _check_count(path: Path, found: int, count_path: Path) -> None:
    count = _read_column(count_path).tolist()
    if count != [found]:
        expected = f"{count_path.name} says {count}"
        raise ValueError(f"{path} has {found} rows, but {expected}: is it truncated?")


def _read_column(path: Path, num_rows: int | None = None) -> Tensor:
    table = _read_table(path, np.int64)
    rows = num_rows or len(table)
    if table.shape != (rows, 1):
        raise ValueError(f"{path} must hold one column of {rows} rows, got {tuple(table.shape)}")
    return table.view(-1)


def _read_table(path: Path, dtype: type) -> Tensor:
    return torch.from_numpy(np.array(load_csv(path, dtype=dtype), order="C"))


def _describe(
    name: str, base: str, tables: tuple[str, ...], read: Callable, **fields: Any
) -> DatasetInfo:
    files = [f"{table}.csv.gz" for table in (*TABLES, *tables)]
    urls = dict.fromkeys(files, f"{ARCHIVES}/{base}.zip")
    for file in fields.get("split_files", ()):
        if file.endswith(".npy"):
            urls[file] = f"{LINKX_SPLITS}/{file}"
    return DatasetInfo(
        name,
        family="ogb",
        folder=f"ogbn_{base}",
        publisher_folder=f"ogbn_{base}",
        files=tuple(files),
        urls=urls,
        cached=True,
        read=read,
        home=f"https://ogb.stanford.edu/docs/nodeprop/#ogbn-{base}",
        **{"preprocessing": ("undirected",), **fields},
    )


ARXIV = ("split/time/train", "split/time/valid", "split/time/test")
PRODUCTS = tuple(f"split/sales_ranking/{part}" for part in ("train", "valid", "test"))

OGB = (
    _describe(
        "ogbn-arxiv",
        "arxiv",
        ("raw/node-label", *ARXIV),
        read_ogb,
        draw=partial(stratified_split, fractions=(0.54, 0.17, 0.29)),
        num_splits=1,
        protocol="by year",
        sizes=(169343, 2315598, 128, 40),
        licence="ODC-BY",
    ),
    _describe(
        "ogbn-products",
        "products",
        ("raw/node-label", *PRODUCTS),
        read_ogb,
        draw=partial(stratified_split, fractions=(0.08, 0.02, 0.9)),
        num_splits=1,
        protocol="by sales rank",
        sizes=(2449029, None, 100, 47),
        licence="Amazon",
    ),
    _describe(
        "arxiv-year",
        "arxiv",
        ("raw/node_year",),
        read_arxiv_year,
        split_files=("arxiv-year-splits.npz", "arxiv-year-splits.npy"),
        num_splits=5,
        protocol="50/25/25",
        sizes=(169343, 1166243, 128, NUM_YEAR_CLASSES),
        preprocessing=("year in 5 quantiles as label",),
        licence="ODC-BY",
    ),
)
