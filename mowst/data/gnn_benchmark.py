r"""Amazon Computers and Photo, Coauthor CS and Physics, in the archives of the GNN benchmark."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.utils import from_scipy_sparse_matrix, remove_self_loops, to_undirected

from mowst.data.info import DatasetInfo, Sizes
from mowst.data.splits import stratified_split
from mowst.io import CSR_PARTS, build_csr, load_npz

ADDRESS = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"


def read_gnn_benchmark(path: Path, counts: bool = False) -> Data:
    r"""Reads `"Pitfalls of Graph Neural Network Evaluation" <https://arxiv.org/abs/1811.05868>`_:
    the adjacency and the features as CSR matrices in one archive. As in PyG, features become 0 or 1
    (unless :obj:`counts`), self-loops are removed, and the graph becomes undirected.
    """
    keys = [f"{matrix}_{part}" for matrix in ("adj", "attr") for part in CSR_PARTS]
    arrays = load_npz(path, [*keys, "labels"])
    adjacency = build_csr(arrays, path, prefix="adj_")
    features = build_csr(arrays, path, prefix="attr_")
    if not counts:
        features.data = features.data > 0
    features.data = features.data.astype(np.float32)
    edge_index, _ = remove_self_loops(from_scipy_sparse_matrix(adjacency)[0])
    return Data(
        x=torch.from_numpy(features.toarray()),
        edge_index=to_undirected(edge_index, num_nodes=adjacency.shape[0]),
        y=torch.from_numpy(arrays["labels"]).long(),
    )


def _describe(
    name: str, folder: str, file: str, sizes: Sizes, published: bool = False, counts: bool = False
) -> DatasetInfo:
    family, short_name = folder.split("/")
    return DatasetInfo(
        name,
        family=family,
        folder=short_name,
        files=(f"raw/{file}",),
        split_files=(f"{short_name.lower()}-60-20-20.npz",) if published else (),
        urls={f"raw/{file}": f"{ADDRESS}/{file}"},
        read=partial(read_gnn_benchmark, counts=counts),
        draw=partial(stratified_split, fractions=(0.6, 0.2, 0.2)),
        num_splits=1 if published else None,
        protocol="60/20/20" if published else "seeded, stratified 60/20/20",
        sizes=sizes,
        preprocessing=(
            "word counts" if counts else "features 0 or 1",
            "undirected",
            "no self-loops",
        ),
        home="https://github.com/shchur/gnn-benchmark",
        licence="MIT",
    )


COMPUTERS, PHOTO = "amazon_electronics_computers.npz", "amazon_electronics_photo.npz"
CS, PHYSICS = "ms_academic_cs.npz", "ms_academic_phy.npz"
CS_SIZES = (18333, 163788, 6805, 15)

GNN_BENCHMARK = (
    _describe("computers", "amazon/Computers", COMPUTERS, (13752, 491722, 767, 10), published=True),
    _describe("photo", "amazon/Photo", PHOTO, (7650, 238162, 745, 8)),
    _describe("cs", "coauthor/CS", CS, CS_SIZES, published=True),
    _describe("cs-counts", "coauthor/CS", CS, CS_SIZES, published=True, counts=True),
    _describe("physics", "coauthor/Physics", PHYSICS, (34493, 495924, 8415, 5)),
)
