r"""Flickr in the release of GraphSAINT."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce, from_scipy_sparse_matrix

from mowst.data.info import DatasetInfo, make_mask
from mowst.data.splits import check_node_ids
from mowst.io import CSR_PARTS, build_csr, load_npy, load_npz, read_json

ROLES = {"train": "tr", "val": "va", "test": "te"}
DRIVE = "https://drive.usercontent.google.com/download?confirm=t&id="
FILES = {
    "raw/adj_full.npz": "1crmsTbd1-2sEXsGwa2IKnIB7Zd3TmUsy",
    "raw/feats.npy": "1join-XdvX3anJU_MLVtick7MgeAQiWIZ",
    "raw/class_map.json": "1uxIkbtg5drHTsKt-PAsZZ4_yJmgFmle9",
    "raw/role.json": "1htXCtuktuCW8TR8KiKfrFDAxUgekQoV7",
}


def read_flickr(adjacency: Path, features: Path, classes: Path, roles: Path) -> Data:
    r"""Reads `"GraphSAINT" <https://arxiv.org/abs/1907.04931>`_: the full adjacency matrix in CSR,
    the features, the class of each node, and the nodes of each role.
    """
    matrix = build_csr(load_npz(adjacency, CSR_PARTS), adjacency)
    x = torch.from_numpy(load_npy(features)).float()
    num_nodes = x.size(0)
    if matrix.shape != (num_nodes, num_nodes):
        shape = f"shape {matrix.shape}"
        raise ValueError(f"{adjacency} is of {shape}, but {features} has {num_nodes} rows")
    labels, nodes = _read_object(classes), _read_object(roles)
    labelled = _to_integers(classes, list(labels))
    check_node_ids(classes, labelled, num_nodes)
    y = torch.full((num_nodes,), -1)
    y[labelled] = _to_integers(classes, list(labels.values()))
    masks = {}
    for split, role in ROLES.items():
        if role not in nodes:
            raise ValueError(f"{roles} lacks {role}")
        masks[f"{split}_mask"] = make_mask(roles, _to_integers(roles, nodes[role]), num_nodes)
    return Data(x=x, edge_index=coalesce(from_scipy_sparse_matrix(matrix)[0]), y=y, **masks)


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, found {type(content).__name__}")
    return content


def _to_integers(path: Path, values: list) -> Tensor:
    try:
        return torch.tensor([int(value) for value in values], dtype=torch.int64)
    except (TypeError, ValueError) as error:
        problem = f"must hold whole numbers, one class per node: {error}"
        raise ValueError(f"{path} {problem}") from error


FLICKR = (
    DatasetInfo(
        "flickr",
        family="graphsaint",
        folder="Flickr",
        files=tuple(FILES),
        urls={file: DRIVE + address for file, address in FILES.items()},
        read=read_flickr,
        num_splits=1,
        protocol="50/25/25",
        sizes=(89250, 899756, 500, 7),
        home="https://github.com/GraphSAINT/GraphSAINT",
    ),
)
