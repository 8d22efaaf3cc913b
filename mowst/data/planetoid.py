r"""Cora, CiteSeer and PubMed in the pickles of the Planetoid project."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import remove_self_loops, to_undirected

from mowst.data.info import DatasetInfo
from mowst.data.splits import per_class_split
from mowst.io import safe_unpickle

PARTS = ("y", "tx", "ty", "allx", "ally", "graph", "test.index")
NUM_VAL = 500


def read_planetoid(*paths: Path) -> Data:
    r"""Reads `"Revisiting Semi-Supervised Learning with Graph Embeddings" <https://arxiv.org/abs/1603.08861>`_.

    The nodes of :obj:`allx` come first, those of :obj:`tx` have the ids in :obj:`test.index`. Ids that this list
    skips (15 isolated nodes of CiteSeer) get zero features and class 0, as in PyG; they are in no public split.

    Args:
        paths (Path): The files of :obj:`PARTS`, in this order.

    Raises:
        ValueError: If a file is damaged, or the files do not belong together.
    """
    y, tx, ty, allx, ally, graph = (safe_unpickle(path) for path in paths[:-1])
    test = _read_ids(paths[-1])
    num_nodes = int(test.max()) + 1
    sizes = {"tx": tx.shape[0], "ty": len(ty), "test.index": len(test), "allx": allx.shape[0], "ally": len(ally)}
    if len({*list(sizes.values())[:3]}) > 1 or sizes["allx"] != sizes["ally"] or test.min() != sizes["ally"]:
        raise ValueError(f"the files in {paths[0].parent} do not belong together: their rows are {sizes}")
    x = _assemble(allx.toarray(), tx.toarray(), test)
    return Data(
        x=torch.from_numpy(x / x.sum(axis=1, keepdims=True).clip(min=1)).float(),
        edge_index=_read_edges(graph, num_nodes),
        y=torch.from_numpy(_assemble(ally, ty, test).argmax(axis=1)),
        train_mask=_column(np.arange(len(y)), num_nodes),
        val_mask=_column(np.arange(len(y), len(y) + NUM_VAL), num_nodes),
        test_mask=_column(test, num_nodes),
    )
