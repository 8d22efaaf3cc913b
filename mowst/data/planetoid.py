r"""Cora, CiteSeer and PubMed in the pickles of the Planetoid project."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import remove_self_loops, to_undirected

from mowst.data.checksums import PLANETOID_SHA256
from mowst.data.info import DatasetInfo
from mowst.data.splits import per_class_split
from mowst.pickles import safe_unpickle

ADDRESS = "https://github.com/kimiyoung/planetoid/raw/master/data"
PARTS = ("y", "tx", "ty", "allx", "ally", "graph", "test.index")
NUM_VAL = 500


def read_planetoid(*paths: Path) -> Data:
    r"""Reads `"Revisiting Semi-Supervised Learning with Graph Embeddings" <https://arxiv.org/abs/1603.08861>`_.

    The nodes of :obj:`allx` come first, those of :obj:`tx` have the ids in :obj:`test.index`. Ids that this list
    skips (15 isolated nodes of CiteSeer) get zero features and no label; PyG gives them class 0. They are in no public
    split.

    Args:
        paths (Path): The files of :obj:`PARTS`, in this order.

    Raises:
        ValueError: If a file is damaged, or the files do not belong together.
    """
    parts = [safe_unpickle(path) for path in paths[:-1]] + [_read_ids(paths[-1])]
    try:
        return _graph_of(*parts)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"the files in {paths[0].parent} do not belong together: {error}") from error


def _graph_of(
    y: np.ndarray,
    tx: csr_matrix,
    ty: np.ndarray,
    allx: csr_matrix,
    ally: np.ndarray,
    graph: dict[int, list[int]],
    test: np.ndarray,
) -> Data:
    num_nodes = int(test.max()) + 1
    sizes = {"tx": tx.shape[0], "ty": len(ty), "test.index": len(test), "allx": allx.shape[0], "ally": len(ally)}
    if len({*list(sizes.values())[:3]}) > 1 or sizes["allx"] != sizes["ally"] or test.min() != sizes["ally"]:
        raise ValueError(f"their rows are {sizes}")
    x, labels = _assemble(allx.toarray(), tx.toarray(), test), _assemble(ally, ty, test)
    return Data(
        x=torch.from_numpy(x / x.sum(axis=1, keepdims=True).clip(min=1)).float(),
        edge_index=_read_edges(graph, num_nodes),
        y=torch.from_numpy(np.where(labels.any(axis=1), labels.argmax(axis=1), -1)),
        train_mask=_column(np.arange(len(y)), num_nodes),
        val_mask=_column(np.arange(len(y), len(y) + NUM_VAL), num_nodes),
        test_mask=_column(test, num_nodes),
    )


def _assemble(first: np.ndarray, rest: np.ndarray, ids: np.ndarray) -> np.ndarray:
    rows = np.zeros((int(ids.max()) + 1, first.shape[1]), dtype=first.dtype)
    rows[: len(first)], rows[ids] = first, rest
    return rows


def _read_edges(graph: dict[int, list[int]], num_nodes: int) -> Tensor:
    sources = np.repeat(list(graph), [len(targets) for targets in graph.values()])
    targets = np.concatenate([np.asarray(targets, dtype=np.int64) for targets in graph.values()])
    edge_index, _ = remove_self_loops(torch.from_numpy(np.stack([sources, targets])))
    return to_undirected(edge_index, num_nodes=num_nodes)


def _read_ids(path: Path) -> np.ndarray:
    try:
        ids = np.array([int(line) for line in path.read_text().split()])
    except ValueError as error:
        raise ValueError(f"{path} must hold one node id per line: {error}") from error
    if len(ids) == 0:
        raise ValueError(f"{path} is empty; it must hold one node id per line")
    return ids


def _column(nodes: np.ndarray, num_nodes: int) -> Tensor:
    mask = torch.zeros(num_nodes, 1, dtype=torch.bool)
    mask[nodes] = True
    return mask


def _row(folder: str, **statistics: Any) -> DatasetInfo:
    name = folder.lower()
    files = [f"ind.{name}.{part}" for part in PARTS]
    return DatasetInfo(
        name=name,
        family="planetoid",
        folder=folder,
        files=tuple(f"raw/{file}" for file in files),
        urls={f"raw/{file}": f"{ADDRESS}/{file}" for file in files},
        sha256=PLANETOID_SHA256,
        read=read_planetoid,
        draw=per_class_split,
        protocol="1 published: 20 per class / 500 / 1000",
        preprocessing=("row-normalised features", "undirected", "no self-loops"),
        home="https://github.com/kimiyoung/planetoid",
        licence="MIT",
        **statistics,
    )


PLANETOID = (
    _row("Cora", num_nodes=2708, num_edges=10556, num_features=1433, num_classes=7),
    _row("CiteSeer", num_nodes=3327, num_edges=9104, num_features=3703, num_classes=6),
    _row("PubMed", num_nodes=19717, num_edges=88648, num_features=500, num_classes=3),
)
