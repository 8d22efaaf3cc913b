r"""Graphs whose neighbours tend to differ, in the archives of the heterophilous benchmark."""

from functools import partial
from pathlib import Path

import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst.data.info import DatasetInfo, Sizes
from mowst.data.splits import stratified_split
from mowst.io import load_npz
from mowst.task import SPLITS

ADDRESS = "https://github.com/yandex-research/heterophilous-graphs/raw/main/data"
SHA256 = {
    "roman_empire.npz": "a58ba741d123bf892fe5c872138d07463d75a2e9012360b8dd78ac2d4766d428",
    "amazon_ratings.npz": "4c3a3e3b9d9f6cba0fede4625a00aad8c5721c1a36ed771367f446763241c7dd",
    "minesweeper.npz": "e664c8dacf1e8ac466c2c09ed4b237bd2c5541f47a6eae9c6092cb87f16412b3",
    "tolokers.npz": "dacf3ac94cec53d03cd2adb5255c08b33dee1656c33ca8164a464bd9450a1667",
    "questions.npz": "757ebd772bab1475c4dd951ca9e364400c6db161656cff9d21780ee874cf3074",
}


def read_heterophilous(path: Path) -> Data:
    r"""Reads `"A Critical Look at the Evaluation of GNNs under Heterophily"
    <https://arxiv.org/abs/2302.11640>`_. The archive lists each edge once and holds its splits. The
    graph becomes undirected.
    """
    masks = [f"{split}_masks" for split in SPLITS]
    arrays = load_npz(path, ["node_features", "node_labels", "edges", *masks])
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    y = tensors["node_labels"].long()
    return Data(
        x=tensors["node_features"].float(),
        edge_index=to_undirected(tensors["edges"].long().t(), num_nodes=y.numel()),
        y=y,
        **{f"{split}_mask": tensors[f"{split}_masks"].t() for split in SPLITS},
    )


def _describe(
    name: str,
    sizes: Sizes,
    percent: tuple[int, int, int] = (48, 32, 20),
    metric: str = "accuracy",
) -> DatasetInfo:
    file = name.replace("-", "_")
    train, val, test = percent
    return DatasetInfo(
        name,
        family="heterophilous",
        folder=file,
        files=(f"raw/{file}.npz",),
        urls={f"raw/{file}.npz": f"{ADDRESS}/{file}.npz"},
        sha256=SHA256,
        read=read_heterophilous,
        draw=partial(stratified_split, fractions=(train / 100, val / 100, test / 100)),
        num_splits=10,
        protocol=f"about {train}/{val}/{test}",
        sizes=sizes,
        metric=metric,
        preprocessing=("undirected",),
        home="https://github.com/yandex-research/heterophilous-graphs",
        licence="MIT",
    )


NEW = (50, 25, 25)

HETEROPHILOUS = (
    _describe("roman-empire", (22662, 65854, 300, 18), NEW),
    _describe("amazon-ratings", (24492, 186100, 300, 5), NEW),
    _describe("minesweeper", (10000, 78804, 7, 2), NEW, metric="roc_auc"),
    _describe("tolokers", (11758, 1038000, 10, 2), NEW, metric="roc_auc"),
    _describe("questions", (48921, 307080, 301, 2), NEW, metric="roc_auc"),
    _describe("chameleon-filtered", (890, 17708, 2325, 5)),
    _describe("squirrel-filtered", (2223, None, 2089, 5)),
    _describe("actor", (7600, 53318, 932, 5)),
    _describe("cornell", (183, None, 1703, 5)),
    _describe("texas", (183, None, 1703, 5)),
    _describe("wisconsin", (251, 900, 1703, 5)),
)
