r"""Graphs whose neighbours tend to differ, in the archives of the heterophilous benchmark."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst.data.checksums import HETEROPHILOUS_SHA256
from mowst.data.info import DatasetInfo
from mowst.data.splits import stratified_split
from mowst.io import load_npz
from mowst.task import SPLITS

ADDRESS = "https://github.com/yandex-research/heterophilous-graphs/raw/main/data"


def read_heterophilous(path: Path) -> Data:
    r"""Reads `"A Critical Look at the Evaluation of GNNs under Heterophily" <https://arxiv.org/abs/2302.11640>`_. The
    archive lists each edge once; here both directions are there. It carries its splits.

    Args:
        path (Path): The archive.

    Raises:
        ValueError: If the archive is damaged.
    """
    arrays = load_npz(path, ["node_features", "node_labels", "edges", *(f"{split}_masks" for split in SPLITS)])
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    y = tensors["node_labels"].long()
    return Data(
        x=tensors["node_features"].float(),
        edge_index=to_undirected(tensors["edges"].long().t(), num_nodes=y.numel()),
        y=y,
        **{f"{split}_mask": tensors[f"{split}_masks"].t() for split in SPLITS},
    )


def _row(name: str, shares: tuple[int, int, int] = (48, 32, 20), **statistics: Any) -> DatasetInfo:
    file = name.replace("-", "_")
    fractions = (shares[0] / 100, shares[1] / 100, shares[2] / 100)
    return DatasetInfo(
        name=name,
        family="heterophilous",
        folder=file,
        files=(f"raw/{file}.npz",),
        urls={f"raw/{file}.npz": f"{ADDRESS}/{file}.npz"},
        sha256=HETEROPHILOUS_SHA256,
        read=read_heterophilous,
        draw=partial(stratified_split, fractions=fractions),
        protocol=f"10 published: about {'/'.join(map(str, shares))}",
        preprocessing=("undirected",),
        home="https://github.com/yandex-research/heterophilous-graphs",
        licence="MIT",
        **statistics,
    )


NEW = (50, 25, 25)

HETEROPHILOUS = (
    _row("roman-empire", NEW, num_nodes=22662, num_edges=65854, num_features=300, num_classes=18),
    _row("amazon-ratings", NEW, num_nodes=24492, num_edges=186100, num_features=300, num_classes=5),
    _row("minesweeper", NEW, num_nodes=10000, num_edges=78804, num_features=7, num_classes=2, metric="roc_auc"),
    _row("tolokers", NEW, num_nodes=11758, num_edges=1038000, num_features=10, num_classes=2, metric="roc_auc"),
    _row("questions", NEW, num_nodes=48921, num_edges=307080, num_features=301, num_classes=2, metric="roc_auc"),
    _row("chameleon-filtered", num_nodes=890, num_edges=17708, num_features=2325, num_classes=5),
    _row("squirrel-filtered", num_nodes=2223, num_features=2089, num_classes=5),
    _row("actor", num_nodes=7600, num_edges=53318, num_features=932, num_classes=5),
    _row("cornell", num_nodes=183, num_features=1703, num_classes=5),
    _row("texas", num_nodes=183, num_features=1703, num_classes=5),
    _row("wisconsin", num_nodes=251, num_edges=900, num_features=1703, num_classes=5),
)
