r"""Conversion of graphs, labels and splits in other forms to those of a task."""

import re
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

MASKS = ("train_mask", "val_mask", "test_mask")
FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
WORDS = {"train": "train", "val": "val", "test": "test", "": ""}  # a node without a word: no split
WORDS |= {"valid": "val", "validation": "val"}
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_SEVERAL = re.compile(r"-?\d+(\s*[;|, ]\s*-?\d+)+")


class CellError(ValueError):
    r"""A value that is not a label or a split: its position, and what was found and would work."""

    def __init__(self, position: int, found: str) -> None:
        super().__init__(f"node {position} has {found}")
        self.position = position
        self.found = found


def repair(data: Data) -> tuple[Data, list[str]]:
    r"""Returns a copy of a graph in the types and shapes of a task, and a list of the changes.

    Features and edge weights become float32, edge indices int64, labels and edge weights of one
    column flat, labels that are whole numbers int64 with -1 for NaN, masks of 0 and 1 bool. Data
    that would change their meaning are left as they are. Labels, masks and the words of a split may
    be lists, and edge weights may be named :obj:`weight`, as
    :func:`torch_geometric.utils.from_networkx` returns them.
    """
    data = copy(data)
    changes = _repair_lists(data)
    for key, value in data.to_dict().items():
        if not isinstance(value, Tensor):
            continue
        fixed = _repair_tensor(key, value)
        data[key] = fixed
        if fixed.dtype != value.dtype:
            old, new = [str(kind).removeprefix("torch.") for kind in (value.dtype, fixed.dtype)]
            changes.append(f"{key} was {old}, is {new}")
        if fixed.shape != value.shape:
            changes.append(f"{key} was of shape {tuple(value.shape)}, is of {tuple(fixed.shape)}")
        if key == "y" and value.is_floating_point() and value.isnan().any():
            changes.append(f"{int(value.isnan().sum())} labels were NaN, are -1 (none)")
    return data, changes


def _repair_lists(data: Data) -> list[str]:
    changes = []
    if isinstance(data.get("y"), list):
        data.y, names = read_labels(data.y)
        changes.append(f"y was a list, is {int((data.y >= 0).sum())} labels of {len(data.y)} nodes")
        if names:
            data.class_names = names
    for key in MASKS:
        if isinstance(data.get(key), list):
            data[key] = _read_mask(data[key], key)
            changes.append(f"{key} was a list")
    if isinstance(data.get("split"), list) and not any(key in data for key in MASKS):
        for key, mask in read_split_words(data.split).items():
            data[f"{key}_mask"] = mask
        changes.append("split was a list, is the masks")
    weight, edges = data.get("weight"), data.get("edge_index")
    has_weight = isinstance(weight, Tensor) and isinstance(edges, Tensor)
    if has_weight and weight.shape[:1] == edges.shape[1:] and "edge_weight" not in data:
        data.edge_weight = weight
        del data.weight
        changes.append("weight is edge_weight")
    return changes


def _repair_tensor(key: str, value: Tensor) -> Tensor:
    if value.is_complex():
        return value
    if key in ("y", "edge_weight") and value.dim() == 2 and value.size(1) == 1:
        value = value.squeeze(1)
    if key in ("x", "edge_weight"):
        return value.float()
    if key in ("edge_index", "y") and not value.is_floating_point():
        return value.long()
    if key == "y":
        y = torch.where(value.isnan(), -1.0, value)
        is_whole = (y == y.round()).all() and (y.abs() < 2**53).all()
        return y.long() if is_whole else value
    if key in MASKS and ((value == 0) | (value == 1)).all():
        return value.bool()
    return value


def read_labels(values: Iterable[Any]) -> tuple[Tensor, list[str] | None]:
    r"""Converts labels to class ids. Labels are whole numbers, or names throughout. A label that is
    :obj:`None`, NaN or empty text is missing, and its id is -1. Also returns the names of the
    classes in alphabetical order, or :obj:`None` if the labels are numbers.
    """
    cells = []
    for i, value in enumerate(values):
        size = value.numel() if isinstance(value, Tensor) else np.size(value)
        if size != 1 or isinstance(value, set | dict):
            raise CellError(i, f"the labels {value}: several labels per node are not supported")
        cells.append(_read_cell(value))
    ids = [_read_integer(cell) for cell in cells]
    names = [i for i, cell in enumerate(cells) if cell and ids[i] is None]
    for i in names:
        if _SEVERAL.fullmatch(cells[i]):
            problem = "several labels per node are not supported"
            raise CellError(i, f"the labels {cells[i]!r}: {problem}")
    has_integers = any(label is not None for label in ids)
    if names and (has_integers or any(_read_number(cells[i]) is not None for i in names)):
        found = cells[names[0]]
        raise CellError(names[0], f"the label {found!r}; give whole numbers, or names throughout")
    if names:
        classes = sorted({cell for cell in cells if cell})
        known = {name: label for label, name in enumerate(classes)}
        return torch.tensor([known.get(cell, -1) for cell in cells]), classes
    for i, label in enumerate(ids):
        if label is not None and abs(label) >= 2**31:
            raise CellError(i, f"the label {cells[i]}; classes are numbered 0, 1, 2, ...")
    return torch.tensor([-1 if label is None else label for label in ids], dtype=torch.int64), None


def read_split_words(words: Sequence[Any]) -> dict[str, Tensor]:
    r"""Converts the words train, val (valid, validation) and test, one per node, to masks. A node
    with :obj:`None`, NaN or an empty text is in no split.
    """
    splits = []
    for i, word in enumerate(words):
        cell = _read_cell(word).lower()
        if cell not in WORDS:
            raise CellError(i, f"the split {cell!r}; known: train, val, test, or nothing")
        splits.append(WORDS[cell])
    masks = {}
    for key in ("train", "val", "test"):
        masks[key] = torch.tensor([split == key for split in splits])
    return masks


def _read_mask(values: Sequence[Any], key: str) -> Tensor:
    flags = []
    for i, value in enumerate(values):
        cell = _read_cell(value).lower()
        if isinstance(value, str) or cell not in ("", *FLAGS):
            raise CellError(i, f"the {key} {value!r}; give True or False")
        flags.append(FLAGS.get(cell, False))
    return torch.tensor(flags)


def _read_cell(value: Any) -> str:
    if hasattr(value, "item"):
        value = value.item()
    # pandas writes a missing value as NA or NaT.
    if value is None or (not isinstance(value, str) and str(value) in ("<NA>", "NaT")):
        return ""
    cell = str(value).strip()
    return "" if cell.lower() == "nan" else cell


def _read_integer(cell: str) -> int | None:
    if _INTEGER.fullmatch(cell):
        return int(cell)
    number = _read_number(cell)
    return int(number) if number is not None and number.is_integer() else None


def _read_number(cell: str) -> float | None:
    try:
        # Python reads 1_0 as ten; in a table it is a name.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
