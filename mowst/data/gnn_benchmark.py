r"""Amazon Computers and Photo, Coauthor CS and Physics, in the archives of the GNN benchmark."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.utils import from_scipy_sparse_matrix, remove_self_loops, to_undirected

from mowst.data.info import DatasetInfo
from mowst.data.splits import stratified_split
from mowst.io import CSR_PARTS, csr_of, load_npz

ADDRESS = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"


def read_gnn_benchmark(path: Path, counts: bool = False) -> Data:
    r"""Reads `"Pitfalls of Graph Neural Network Evaluation" <https://arxiv.org/abs/1811.05868>`_: the adjacency and
    the features as CSR matrices, in one archive. As in PyG, features become 0 or 1 unless the counts are wanted,
    self-loops go, and the graph becomes undirected.

    Args:
        path (Path): The archive.
        counts (bool, optional): Whether features stay as the archive has them. (default: :obj:`False`)

    Raises:
        ValueError: If the archive is damaged.
    """
    keys = [f"{matrix}_{part}" for matrix in ("adj", "attr") for part in CSR_PARTS]
    arrays = load_npz(path, [*keys, "labels"])
    adjacency, features = (csr_of(arrays, path, prefix=f"{matrix}_") for matrix in ("adj", "attr"))
    edge_index, _ = remove_self_loops(from_scipy_sparse_matrix(adjacency)[0])
    features.data = features.data.astype(np.float32) if counts else (features.data > 0).astype(np.float32)
    return Data(
        x=torch.from_numpy(features.toarray()),
        edge_index=to_undirected(edge_index, num_nodes=adjacency.shape[0]),
        y=torch.from_numpy(arrays["labels"]).long(),
    )


def _row(
    name: str,
    family: str,
    folder: str,
    file: str,
    split_file: str | None = None,
    counts: bool = False,
    **statistics: Any,
) -> DatasetInfo:
    return DatasetInfo(
        name=name,
        family=family,
        folder=folder,
        files=(f"raw/{file}",),
        split_files=(split_file,) if split_file else (),
        urls={f"raw/{file}": f"{ADDRESS}/{file}"},
        read=partial(read_gnn_benchmark, counts=counts),
        draw=partial(stratified_split, fractions=(0.6, 0.2, 0.2)),
        protocol="1 published: 60/20/20" if split_file else "seeded, stratified 60/20/20",
        preprocessing=("word counts" if counts else "features 0 or 1", "undirected", "no self-loops"),
        home="https://github.com/shchur/gnn-benchmark",
        licence="MIT",
        **statistics,
    )


GNN_BENCHMARK = (
    _row(
        "computers",
        family="amazon",
        folder="Computers",
        file="amazon_electronics_computers.npz",
        split_file="computers-60-20-20.npz",
        num_nodes=13752,
        num_edges=491722,
        num_features=767,
        num_classes=10,
    ),
    _row(
        "photo",
        family="amazon",
        folder="Photo",
        file="amazon_electronics_photo.npz",
        num_nodes=7650,
        num_edges=238162,
        num_features=745,
        num_classes=8,
    ),
    _row(
        "cs",
        family="coauthor",
        folder="CS",
        file="ms_academic_cs.npz",
        split_file="cs-60-20-20.npz",
        num_nodes=18333,
        num_edges=163788,
        num_features=6805,
        num_classes=15,
    ),
    _row(
        "cs-counts",
        family="coauthor",
        folder="CS",
        file="ms_academic_cs.npz",
        split_file="cs-60-20-20.npz",
        counts=True,
        num_nodes=18333,
        num_edges=163788,
        num_features=6805,
        num_classes=15,
    ),
    _row(
        "physics",
        family="coauthor",
        folder="Physics",
        file="ms_academic_phy.npz",
        num_nodes=34493,
        num_edges=495924,
        num_features=8415,
        num_classes=5,
    ),
)
