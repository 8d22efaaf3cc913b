r"""Flickr in the release of GraphSAINT."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce, from_scipy_sparse_matrix

from mowst.data.info import DatasetInfo
from mowst.data.splits import stratified_split
from mowst.io import CSR_PARTS, csr_of, load_npy, load_npz, read_json

ROLES = {"train": "tr", "val": "va", "test": "te"}
DRIVE = "https://drive.usercontent.google.com/download?confirm=t&id="
FILES = {
    "raw/adj_full.npz": "1crmsTbd1-2sEXsGwa2IKnIB7Zd3TmUsy",
    "raw/feats.npy": "1join-XdvX3anJU_MLVtick7MgeAQiWIZ",
    "raw/class_map.json": "1uxIkbtg5drHTsKt-PAsZZ4_yJmgFmle9",
    "raw/role.json": "1htXCtuktuCW8TR8KiKfrFDAxUgekQoV7",
}


def read_flickr(adjacency: Path, features: Path, classes: Path, roles: Path) -> Data:
    r"""Reads `"GraphSAINT" <https://arxiv.org/abs/1907.04931>`_: the full adjacency, from which edges between any two
    roles are taken, the features as they are, the class of each node, and the nodes of each role.

    Args:
        adjacency (Path): The archive of the adjacency in CSR.
        features (Path): The array of the features.
        classes (Path): The JSON object of node id and class.
        roles (Path): The JSON object of :obj:`tr`, :obj:`va`, :obj:`te` and node ids.

    Raises:
        ValueError: If a file is damaged, or they do not belong together.
    """
    matrix = csr_of(load_npz(adjacency, CSR_PARTS), adjacency)
    x = torch.from_numpy(load_npy(features)).float()
    num_nodes = x.size(0)
    if matrix.shape != (num_nodes, num_nodes):
        raise ValueError(f"{adjacency} is of shape {matrix.shape}, but {features} has {num_nodes} rows")
    y = torch.full((num_nodes,), -1)
    labels, nodes = _read_object(classes), _read_object(roles)
    y[_ids(classes, list(labels), num_nodes)] = _integers(classes, list(labels.values()))
    if missing := [role for role in ROLES.values() if role not in nodes]:
        raise ValueError(f"{roles} lacks {', '.join(missing)}")
    masks = {
        f"{split}_mask": torch.zeros(num_nodes, 1, dtype=torch.bool).index_fill(
            0, _ids(roles, nodes[role], num_nodes), True
        )
        for split, role in ROLES.items()
    }
    return Data(x=x, edge_index=coalesce(from_scipy_sparse_matrix(matrix)[0]), y=y, **masks)


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, found {type(content).__name__}")
    return content


def _integers(path: Path, values: list) -> Tensor:
    try:
        return torch.tensor([int(value) for value in values])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold whole numbers, one class per node: {error}") from error


def _ids(path: Path, values: list, num_nodes: int) -> Tensor:
    nodes = _integers(path, values)
    if nodes.numel() and not 0 <= nodes.min() <= nodes.max() < num_nodes:
        raise ValueError(f"{path} names nodes {nodes.min()} to {nodes.max()}, the graph has {num_nodes}")
    return nodes


FLICKR = (
    DatasetInfo(
        name="flickr",
        family="graphsaint",
        folder="Flickr",
        files=tuple(FILES),
        urls={file: DRIVE + address for file, address in FILES.items()},
        read=read_flickr,
        draw=stratified_split,
        protocol="1 published: 50/25/25",
        num_nodes=89250,
        num_edges=899756,
        num_features=500,
        num_classes=7,
        home="https://github.com/GraphSAINT/GraphSAINT",
    ),
)
