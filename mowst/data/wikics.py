r"""Wiki-CS: articles of computer science, their links and their branches."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst.data.info import DatasetInfo
from mowst.data.splits import per_class_split
from mowst.io import read_json
from mowst.task import SPLITS

MASKS = {"train": "train_masks", "val": "val_masks", "test": "test_mask"}


def read_wikics(path: Path) -> Data:
    r"""Reads `"Wiki-CS" <https://arxiv.org/abs/2007.02901>`_. The graph becomes undirected. The splits are its 20 of
    train and val; the test nodes are the same in all. Its further nodes for early stopping are in none.

    Args:
        path (Path): The JSON file.

    Raises:
        ValueError: If the file is damaged.
    """
    content = read_json(path)
    try:
        x = torch.tensor(content["features"], dtype=torch.float)
        y = torch.tensor(content["labels"])
        sources = np.repeat(np.arange(y.numel()), [len(targets) for targets in content["links"]])
        targets = np.concatenate([np.asarray(targets, dtype=np.int64) for targets in content["links"]])
        masks = {key: torch.tensor(content[name], dtype=torch.bool) for key, name in MASKS.items()}
        masks["test"] = masks["test"].expand_as(masks["train"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the features, labels, links and masks of Wiki-CS: {error}") from error
    if not 0 <= targets.min() <= targets.max() < y.numel():
        raise ValueError(f"{path} links to nodes {targets.min()} to {targets.max()}, the graph has {y.numel()}")
    return Data(
        x=x,
        edge_index=to_undirected(torch.from_numpy(np.stack([sources, targets])), num_nodes=y.numel()),
        y=y,
        **{f"{split}_mask": masks[split].t() for split in SPLITS},
    )


WIKICS = (
    DatasetInfo(
        name="wikics",
        family="wikics",
        folder="WikiCS",
        files=("raw/data.json",),
        urls={"raw/data.json": "https://github.com/pmernyei/wiki-cs-dataset/raw/master/dataset/data.json"},
        cached=True,
        read=read_wikics,
        draw=partial(per_class_split, per_class=58, num_val=1769, num_test=5847),
        protocol="20 published: 580 / 1769 / 5847",
        num_nodes=11701,
        num_edges=431726,
        num_features=300,
        num_classes=10,
        preprocessing=("undirected",),
        home="https://github.com/pmernyei/wiki-cs-dataset",
        licence="MIT",
    ),
)
