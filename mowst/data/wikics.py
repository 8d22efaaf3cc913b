r"""Wiki-CS: articles of computer science, their links and their branches."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from mowst.data.info import DatasetInfo
from mowst.data.splits import check_node_ids, per_class_split
from mowst.io import read_json


def read_wikics(path: Path) -> Data:
    r"""Reads `"Wiki-CS" <https://arxiv.org/abs/2007.02901>`_. It has 20 splits of train and val,
    which share the test nodes. Its extra nodes for early stopping are in no split. The graph
    becomes undirected.
    """
    content = read_json(path)
    try:
        y = torch.tensor(content["labels"])
        links = [np.asarray(targets, dtype=np.int64) for targets in content["links"]]
        sources = np.repeat(np.arange(y.numel()), [len(targets) for targets in links])
        edge_index = torch.from_numpy(np.stack([sources, np.concatenate(links)]))
        train = torch.tensor(content["train_masks"], dtype=torch.bool).t()
        data = Data(
            x=torch.tensor(content["features"], dtype=torch.float),
            y=y,
            train_mask=train,
            val_mask=torch.tensor(content["val_masks"], dtype=torch.bool).t(),
            test_mask=torch.tensor(content["test_mask"], dtype=torch.bool)
            .view(-1, 1)
            .expand_as(train),
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        problem = "does not hold the features, labels, links and masks of Wiki-CS"
        raise ValueError(f"{path} {problem}: {error}") from error
    check_node_ids(path, edge_index, y.numel())
    data.edge_index = to_undirected(edge_index, num_nodes=y.numel())
    return data


WIKICS = (
    DatasetInfo(
        "wikics",
        family="wikics",
        folder="WikiCS",
        files=("raw/data.json",),
        urls={
            "raw/data.json": "https://github.com/pmernyei/wiki-cs-dataset/raw/master/dataset/data.json"
        },
        cached=True,
        read=read_wikics,
        draw=partial(per_class_split, per_class=58, num_val=1769, num_test=5847),
        num_splits=20,
        protocol="580 / 1769 / 5847",
        sizes=(11701, 431726, 300, 10),
        preprocessing=("undirected",),
        home="https://github.com/pmernyei/wiki-cs-dataset",
        licence="MIT",
    ),
)
