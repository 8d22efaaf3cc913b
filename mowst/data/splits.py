r"""Which nodes train, select and test."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from mowst.io import load_npz
from mowst.pickles import load_dicts

Masks = dict[str, Tensor]


def stratified_split(y: Tensor, seed: int, fractions: tuple[float, float, float] = (0.5, 0.25, 0.25)) -> Masks:
    r"""Draws train, val and test nodes in the given fractions of every class, rounded to whole nodes; the rounding
    goes to the test set. Unlabelled nodes are in none. The global random state is untouched.

    Args:
        y (Tensor): The labels, :obj:`-1` for unlabelled nodes.
        seed (int): The seed of the draw.
        fractions (tuple, optional): The shares of train, val and test. (default: :obj:`(0.5, 0.25, 0.25)`)

    Shapes:
        - **y:** :math:`(N)`, **output:** three masks :math:`(N)`

    Raises:
        ValueError: If the fractions are not positive or do not sum to 1, or the seed is negative.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions must be positive and sum to 1, got {fractions}")
    train, val = [], []
    for nodes in _shuffled_classes(y, _generator(seed)):
        first, second = (round(sum(fractions[:k]) * nodes.numel()) for k in (1, 2))
        train.append(nodes[:first])
        val.append(nodes[first:second])
    masks = {"train": _mask(y, torch.cat(train)), "val": _mask(y, torch.cat(val))}
    return masks | {"test": (y >= 0) & ~masks["train"] & ~masks["val"]}


def per_class_split(y: Tensor, seed: int, per_class: int = 20, num_val: int = 500, num_test: int = 1000) -> Masks:
    r"""Draws a split in the style of Planetoid's public one: as many training nodes of every class, then val and
    test nodes regardless of class.

    Args:
        y (Tensor): The labels, :obj:`-1` for unlabelled nodes.
        seed (int): The seed of the draw.
        per_class (int, optional): The training nodes of every class. (default: :obj:`20`)
        num_val (int, optional): The validation nodes. (default: :obj:`500`)
        num_test (int, optional): The test nodes. (default: :obj:`1000`)

    Shapes:
        - **y:** :math:`(N)`, **output:** three masks :math:`(N)`

    Raises:
        ValueError: If there are too few labelled nodes, or the seed is negative.
    """
    generator = _generator(seed)
    classes = _shuffled_classes(y, generator)
    rest = torch.cat([nodes[per_class:] for nodes in classes])
    if rest.numel() < num_val + num_test:
        raise ValueError(f"{num_val} val and {num_test} test nodes asked for, {rest.numel()} labelled nodes are left")
    rest = rest[torch.randperm(rest.numel(), generator=generator)]
    train = torch.cat([nodes[:per_class] for nodes in classes])
    val, test = rest[:num_val], rest[num_val : num_val + num_test]
    return {"train": _mask(y, train), "val": _mask(y, val), "test": _mask(y, test)}


def read_split_file(path: str | Path, num_nodes: int) -> Masks:
    r"""Reads published splits: an :obj:`.npz` with the node ids :obj:`train`, :obj:`valid`, :obj:`test` of one split
    or :obj:`train_0`, :obj:`valid_0`, :obj:`test_0`, :obj:`train_1`, ... of several, or the :obj:`.npy` of LINKX,
    an array of dictionaries :obj:`train`, :obj:`valid`, :obj:`test`.

    Args:
        path (str or Path): The file.
        num_nodes (int): The number of nodes :math:`N` of the graph.

    Shapes:
        - **output:** three masks :math:`(N, S)`, one column per split

    Raises:
        ValueError: If the file is damaged, lacks a part, or names nodes that the graph does not have.
    """
    files = {"train": "train", "val": "valid", "test": "test"}
    arrays = _of_dicts(path) if Path(path).suffix == ".npy" else load_npz(path)
    suffixes = [""] if "train" in arrays else [f"_{k}" for k in range(len(arrays) // 3)]
    if not suffixes or any(f"{name}{suffix}" not in arrays for name in files.values() for suffix in suffixes):
        raise ValueError(f"{path} must hold train, valid, test or train_0, valid_0, test_0, ...; found {list(arrays)}")
    for key, nodes in arrays.items():
        if nodes.ndim != 1 or nodes.dtype.kind not in "iu":
            raise ValueError(f"{path}: {key} must be a list of node ids, got {nodes.dtype} of shape {nodes.shape}")
        if nodes.size and not 0 <= nodes.min() <= nodes.max() < num_nodes:
            raise ValueError(f"{path}: {key} names nodes {nodes.min()} to {nodes.max()}, the graph has {num_nodes}")
    masks = {split: np.zeros((num_nodes, len(suffixes)), dtype=bool) for split in files}
    for split, name in files.items():
        for column, suffix in enumerate(suffixes):
            masks[split][arrays[f"{name}{suffix}"], column] = True
    return {split: torch.from_numpy(mask) for split, mask in masks.items()}


def _of_dicts(path: str | Path) -> dict[str, np.ndarray]:
    splits = enumerate(load_dicts(path))
    return {f"{key}_{k}": np.asarray(nodes) for k, split in splits for key, nodes in split.items()}


def choose_split(data: Data, split: int | str, draw: Callable[[Tensor, int], Masks], published: Masks | None) -> Masks:
    r"""Resolves what a user calls a split.

    Args:
        data (torch_geometric.data.Data): The graph with its labels.
        split (int or str): A number, or :obj:`"random-SEED"` for a draw.
        draw (callable): Makes the masks of a seed.
        published (dict, optional): The masks :math:`(N, S)` of the published splits that a number counts;
            :obj:`None` if there are none and the number is a seed.

    Raises:
        ValueError: If there is no such split; names those that exist.
    """
    exist = f"0 to {published['train'].size(1) - 1}" if published else "any number from 0 (a seed)"
    seeded = re.fullmatch(r"random-(\d+)", split) if isinstance(split, str) else None
    if seeded:
        return draw(data.y, int(seeded[1]))
    if isinstance(split, str) or split < 0 or (published and split >= published["train"].size(1)):
        raise ValueError(f"There is no split {split!r}; known: {exist}, or 'random-SEED' for a draw")
    return {key: mask[:, split] for key, mask in published.items()} if published else draw(data.y, split)


def _shuffled_classes(y: Tensor, generator: torch.Generator) -> list[Tensor]:
    classes = [(y == label).nonzero().view(-1).cpu() for label in y[y >= 0].unique()]
    return [nodes[torch.randperm(nodes.numel(), generator=generator)] for nodes in classes]


def _generator(seed: int) -> torch.Generator:
    if seed < 0:
        raise ValueError(f"a seed must be 0 or more, got {seed}")
    return torch.Generator().manual_seed(seed)


def _mask(y: Tensor, nodes: Tensor) -> Tensor:
    mask = torch.zeros_like(y, dtype=torch.bool)
    mask[nodes.to(y.device)] = True
    return mask
