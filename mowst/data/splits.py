r"""Splits: drawn, read from files, chosen by number or name."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import index_to_mask

from mowst.io import load_npz
from mowst.pickles import load_dicts

Masks = dict[str, Tensor]
PARTS = {"train": "train", "val": "valid", "test": "test"}  # their names in files


def stratified_split(
    y: Tensor, seed: int, fractions: tuple[float, float, float] = (0.5, 0.25, 0.25)
) -> Masks:
    r"""Draws train, val and test nodes as fractions of every class, rounded to whole nodes. The
    remainder goes to the test set. The global random state is not changed.

    Args:
        y (Tensor): The labels :math:`(N)`. Nodes with :obj:`-1` are in no split.
        seed (int): The seed of the draw.
        fractions (tuple, optional): The fractions. (default: :obj:`(0.5, 0.25, 0.25)`)
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions must be positive and sum to 1, got {fractions}")
    train, val = [], []
    for nodes in _shuffle_classes(y, _make_generator(seed)):
        first = round(fractions[0] * nodes.numel())
        second = round((fractions[0] + fractions[1]) * nodes.numel())
        train.append(nodes[:first])
        val.append(nodes[first:second])
    masks = {"train": _make_mask(y, torch.cat(train)), "val": _make_mask(y, torch.cat(val))}
    return masks | {"test": (y >= 0) & ~masks["train"] & ~masks["val"]}


def per_class_split(
    y: Tensor, seed: int, per_class: int = 20, num_val: int = 500, num_test: int = 1000
) -> Masks:
    r"""Draws the same number of training nodes from every class, then val and test nodes from all
    others, as in Planetoid's public splits.

    Args:
        y (Tensor): The labels :math:`(N)`. Nodes with :obj:`-1` are in no split.
        seed (int): The seed of the draw.
        per_class (int, optional): The training nodes of every class. (default: :obj:`20`)
        num_val (int, optional): The validation nodes. (default: :obj:`500`)
        num_test (int, optional): The test nodes. (default: :obj:`1000`)
    """
    generator = _make_generator(seed)
    classes = _shuffle_classes(y, generator)
    train = torch.cat([nodes[:per_class] for nodes in classes])
    rest = torch.cat([nodes[per_class:] for nodes in classes])
    if rest.numel() < num_val + num_test:
        wanted = f"{num_val} val and {num_test} test nodes"
        raise ValueError(f"{wanted} are required, but {rest.numel()} labelled nodes are left")
    rest = rest[torch.randperm(rest.numel(), generator=generator)]
    val, test = rest[:num_val], rest[num_val : num_val + num_test]
    return {"train": _make_mask(y, train), "val": _make_mask(y, val), "test": _make_mask(y, test)}


def read_split_file(path: str | Path, num_nodes: int) -> Masks:
    r"""Reads published splits as masks :math:`(N, S)`: an :obj:`.npz` with the node ids
    :obj:`train`, :obj:`valid`, :obj:`test` of one split or :obj:`train_0`, :obj:`valid_0`,
    :obj:`test_0`, :obj:`train_1`, ... of several, or the :obj:`.npy` of LINKX, an array of
    dictionaries :obj:`train`, :obj:`valid`, :obj:`test`. Raises a :obj:`ValueError` for any other
    file.
    """
    if Path(path).suffix == ".npy":
        arrays: dict[str, np.ndarray] = {}
        for k, parts in enumerate(load_dicts(path)):
            arrays |= {f"{key}_{k}": np.asarray(nodes) for key, nodes in parts.items()}
    else:
        arrays = load_npz(path)
    suffixes = [""] if "train" in arrays else [f"_{k}" for k in range(len(arrays) // 3)]
    wanted = [f"{part}{suffix}" for suffix in suffixes for part in PARTS.values()]
    if not wanted or not set(wanted) <= set(arrays):
        known = "train, valid, test or train_0, valid_0, test_0, ..."
        raise ValueError(f"{path} must hold {known}; found {list(arrays)}")
    for key, nodes in arrays.items():
        if nodes.ndim != 1 or nodes.dtype.kind not in "iu":
            found = f"{nodes.dtype} of shape {nodes.shape}"
            raise ValueError(f"{path}: {key} must be a list of node ids, got {found}")
        check_node_ids(f"{path}: {key}", nodes, num_nodes)
    masks = {}
    for split, part in PARTS.items():
        masks[split] = torch.zeros(num_nodes, len(suffixes), dtype=torch.bool)
        for column, suffix in enumerate(suffixes):
            masks[split][arrays[f"{part}{suffix}"].astype(np.int64), column] = True
    return masks


def check_node_ids(path: str | Path, nodes: Any, num_nodes: int) -> None:
    r"""Raises an error if node ids that were read from a file are outside of the graph."""
    if math.prod(nodes.shape) and not 0 <= nodes.min() <= nodes.max() < num_nodes:
        found = f"{nodes.min()} to {nodes.max()}"
        raise ValueError(f"{path} names nodes {found}, the graph has {num_nodes}")


def choose_split(
    data: Data,
    split: int | str,
    draw: Callable[[Tensor, int], Masks],
    published: Masks | None,
) -> Masks:
    r"""Returns the masks of a split: for a number the published split, or a draw with that seed if
    :obj:`published` is :obj:`None`; for :obj:`"random-SEED"` a draw. Raises a :obj:`ValueError` for
    any other split.
    """
    seeded = re.fullmatch(r"random-(\d+)", split) if isinstance(split, str) else None
    if seeded:
        return draw(data.y, int(seeded[1]))
    count = published["train"].size(1) if published else math.inf
    if isinstance(split, str) or not 0 <= split < count:
        known = f"0 to {count - 1}" if published else "any number from 0 (a seed)"
        raise ValueError(
            f"There is no split {split!r}; known: {known}, or 'random-SEED' for a draw"
        )
    if published:
        return {key: mask[:, split] for key, mask in published.items()}
    return draw(data.y, split)


def _shuffle_classes(y: Tensor, generator: torch.Generator) -> list[Tensor]:
    labelled = (y >= 0).nonzero().view(-1).cpu()
    labels, order = y.cpu()[labelled].sort(stable=True)
    counts = labels.unique_consecutive(return_counts=True)[1]
    classes = []
    for nodes in labelled[order].split(counts.tolist()):
        classes.append(nodes[torch.randperm(nodes.numel(), generator=generator)])
    return classes


def _make_generator(seed: int) -> torch.Generator:
    if seed < 0:
        raise ValueError(f"a seed must be 0 or more, got {seed}")
    return torch.Generator().manual_seed(seed)


def _make_mask(y: Tensor, nodes: Tensor) -> Tensor:
    return index_to_mask(nodes.to(y.device), y.numel())
