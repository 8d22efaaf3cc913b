r"""Cora, CiteSeer and PubMed in the pickles of the Planetoid project."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import index_to_mask, remove_self_loops, to_undirected

from mowst.data.info import DatasetInfo, Sizes
from mowst.data.splits import per_class_split
from mowst.pickles import safe_unpickle

ADDRESS = "https://github.com/kimiyoung/planetoid/raw/master/data"
PARTS = ("y", "tx", "ty", "allx", "ally", "graph", "test.index")
NUM_VAL = 500
SHA256 = {
    "ind.cora.y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
    "ind.cora.tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
    "ind.cora.ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
    "ind.cora.allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
    "ind.cora.ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
    "ind.cora.graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
    "ind.cora.test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    "ind.citeseer.y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
    "ind.citeseer.tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
    "ind.citeseer.ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
    "ind.citeseer.allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
    "ind.citeseer.ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
    "ind.citeseer.graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
    "ind.citeseer.test.index": "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
    "ind.pubmed.y": "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
    "ind.pubmed.tx": "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
    "ind.pubmed.ty": "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
    "ind.pubmed.allx": "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
    "ind.pubmed.ally": "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
    "ind.pubmed.graph": "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
    "ind.pubmed.test.index": "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
}


def read_planetoid(*paths: Path) -> Data:
    r"""Reads `"Revisiting Semi-Supervised Learning with Graph Embeddings"
    <https://arxiv.org/abs/1603.08861>`_ from the files :obj:`PARTS`.

    The nodes of :obj:`allx` come first, those of :obj:`tx` have the ids in :obj:`test.index`. Ids
    that this list skips (15 isolated nodes of CiteSeer) get zero features and no label; PyG gives
    them class 0. They are not in the public split.
    """
    parts = [*map(safe_unpickle, paths[:-1]), _read_ids(paths[-1])]
    try:
        return _build_graph(*parts)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"the files in {paths[0].parent} do not belong together: {error}"
        ) from error


def _build_graph(
    y: np.ndarray,
    tx: Any,
    ty: np.ndarray,
    allx: Any,
    ally: np.ndarray,
    graph: dict[int, list[int]],
    test: np.ndarray,
) -> Data:
    num_nodes = int(test.max()) + 1
    rows = {"tx": tx.shape[0], "ty": len(ty), "test.index": len(test)}
    rows |= {"allx": allx.shape[0], "ally": len(ally)}
    is_complete = rows["tx"] == rows["ty"] == rows["test.index"] and rows["allx"] == rows["ally"]
    if not is_complete or test.min() != rows["ally"]:
        raise ValueError(f"their rows are {rows}")
    x, labels = _assemble(allx.toarray(), tx.toarray(), test), _assemble(ally, ty, test)
    masks = {
        "train_mask": torch.arange(len(y)),
        "val_mask": torch.arange(len(y), len(y) + NUM_VAL),
        "test_mask": torch.from_numpy(test),
    }
    return Data(
        x=torch.from_numpy(x / x.sum(axis=1, keepdims=True).clip(min=1)).float(),
        edge_index=_read_edges(graph, num_nodes),
        y=torch.from_numpy(np.where(labels.any(axis=1), labels.argmax(axis=1), -1)),
        **{key: index_to_mask(nodes, num_nodes).view(-1, 1) for key, nodes in masks.items()},
    )


def _assemble(first: np.ndarray, rest: np.ndarray, ids: np.ndarray) -> np.ndarray:
    rows = np.zeros((int(ids.max()) + 1, first.shape[1]), dtype=first.dtype)
    rows[: len(first)] = first
    rows[ids] = rest
    return rows


def _read_edges(graph: dict[int, list[int]], num_nodes: int) -> Tensor:
    sources = np.repeat(list(graph), [len(targets) for targets in graph.values()])
    targets = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in graph.values()])
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


def _describe(folder: str, sizes: Sizes) -> DatasetInfo:
    name = folder.lower()
    files = [f"ind.{name}.{part}" for part in PARTS]
    return DatasetInfo(
        name,
        family="planetoid",
        folder=folder,
        files=tuple(f"raw/{file}" for file in files),
        urls={f"raw/{file}": f"{ADDRESS}/{file}" for file in files},
        sha256=SHA256,
        read=read_planetoid,
        draw=per_class_split,
        num_splits=1,
        protocol="20 per class / 500 / 1000",
        sizes=sizes,
        preprocessing=("row-normalised features", "undirected", "no self-loops"),
        home="https://github.com/kimiyoung/planetoid",
        licence="MIT",
    )


PLANETOID = (
    _describe("Cora", (2708, 10556, 1433, 7)),
    _describe("CiteSeer", (3327, 9104, 3703, 6)),
    _describe("PubMed", (19717, 88648, 500, 3)),
)
