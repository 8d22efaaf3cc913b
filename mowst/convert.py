r"""Conversion of graphs, labels and splits in other forms to those of a task."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import index_to_mask

from mowst.forms import make_tensor, read_adjacency, unpack

MASKS = ("train_mask", "val_mask", "test_mask")
FIELDS = ("x", "edge_index", "edge_weight", "edge_attr", "y", *MASKS)
FLAGS = dict.fromkeys(("0", "0.0", "false", "f", "no", "n"), False)
FLAGS |= dict.fromkeys(("1", "1.0", "true", "t", "yes", "y"), True)
# What pandas reads as a missing value, and what it and databases write for one.
MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN")
    + ("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "NaT", "\\N", "NAN")
)
WORDS = {"train": "train", "val": "val", "test": "test", "": ""}  # a node without a word: no split
WORDS |= {"valid": "val", "validation": "val"}
SEVERAL = "several labels per node are a tensor of 0 and 1 of shape [nodes, labels], in Python only"
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_SEVERAL = re.compile(r"-?\d+(\s*[;|, ]\s*-?\d+)+")


class CellError(ValueError):
    r"""A value that is not a label or a split: its position, and what was found and would work."""

    def __init__(self, position: int, found: str) -> None:
        super().__init__(f"node {position} has {found}")
        self.position = position
        self.found = found


def read_splits(splits: Any, num_nodes: int) -> dict[str, Tensor]:
    r"""Converts the node ids or masks of each split to masks. The splits are named train, val
    (valid, validation) and test.
    """
    if not isinstance(splits, Mapping):
        wanted = "a dict of node ids or masks, such as dataset.get_idx_split()"
        raise ValueError(f"splits must be {wanted}, got {type(splits).__name__}")
    masks: dict[str, Tensor] = {}
    for word, nodes in splits.items():
        key = WORDS.get(str(word).lower())
        if not key or key in masks:
            given = ", ".join(map(str, splits))
            raise ValueError(f"splits must name train, val or valid, and test once, got {given}")
        mask = _read_mask(unpack(nodes), f"splits['{word}']")
        if _holds_ids(mask, num_nodes):
            mask = _mark_nodes(mask, f"splits['{word}']", num_nodes)
        masks[key] = _repair_tensor(f"{key}_mask", mask)
    return masks


def repair(data: Data) -> tuple[Data, list[str]]:
    r"""Returns a copy of a graph in the types and shapes of a task, and a list of the changes.

    Features and edge weights become float32, edge indices int64, labels and edge weights of one
    column flat, labels that are whole numbers int64 with -1 for NaN, masks of 0 and 1 bool, and
    node ids masks. Data that would change their meaning are left as they are. Arrays, lists and
    sparse features become dense tensors, and the transposed matrix :obj:`adj_t` becomes
    :obj:`edge_index`. Edge weights may be named :obj:`weight`, and the splits may be words, as
    :func:`torch_geometric.utils.from_networkx` returns them.
    """
    data = copy(data)
    changes = read_adjacency(data) + _read_fields(data) + _rename_fields(data)
    num_nodes = data.num_nodes
    for key in MASKS:
        ids = data.get(key)
        if ids is not None and _holds_ids(ids, num_nodes):
            data[key] = _mark_nodes(ids, f"data.{key}", num_nodes)
            changes.append(f"{key} was {ids.numel()} node ids, is a mask")
    for key, value in data.to_dict().items():
        if isinstance(value, Tensor):
            data[key] = _repair_tensor(key, value)
            changes += _describe_changes(key, value, data[key])
    return data, changes


def _read_fields(data: Data) -> list[str]:
    changes = []
    for key in FIELDS:
        value = data.get(key)
        if value is None or (isinstance(value, Tensor) and value.layout == torch.strided):
            continue
        if key == "edge_index" and (hasattr(value, "to_dense") or hasattr(value, "toarray")):
            raise ValueError(
                "data.edge_index is sparse; set data.adj_t, whose rows are the targets"
            )
        values, names = unpack(value), None
        if key == "y" and isinstance(values, list):
            data.y, names = read_labels(values)
        elif key in MASKS:
            data[key] = _read_mask(values, key)
        else:
            data[key] = make_tensor(values, f"data.{key}")
        if names:
            data.class_names = names
        missing = count_missing(values) if key in ("y", *MASKS) and isinstance(values, list) else ""
        if missing:
            changes.append(f"{missing} of {len(values)} values of {key} are missing")
        kind = "sparse" if hasattr(value, "to_dense") else f"of type {type(value).__name__}"
        changes.append(f"{key} was {kind}, is a dense tensor")
    return changes


def _rename_fields(data: Data) -> list[str]:
    changes = []
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


def _holds_ids(mask: Tensor, num_nodes: int | None) -> bool:
    is_float = mask.is_floating_point() and mask.numel() > 0  # NumPy's empty array is one
    if not num_nodes or mask.dtype == torch.bool or mask.dim() != 1 or is_float:
        return False
    return mask.numel() != num_nodes or not ((mask == 0) | (mask == 1)).all()


def _mark_nodes(ids: Tensor, name: str, num_nodes: int) -> Tensor:
    ids, counts = ids.long().unique(return_counts=True)
    problem = ""
    if (ids < 0).any() or (ids >= num_nodes).any():
        outside = ids[(ids < 0) | (ids >= num_nodes)]
        problem = f"{outside[0]} is not one of 0 to {num_nodes - 1}"
    elif (counts > 1).any():
        problem = f"{ids[counts > 1][0]} is repeated"
    if problem:
        wanted = f"neither a mask of 0 and 1 for {num_nodes} nodes nor their ids"
        raise ValueError(f"{name} is {wanted}: it has {counts.sum()} values, and {problem}")
    return index_to_mask(ids, num_nodes)


def _repair_tensor(key: str, value: Tensor) -> Tensor:
    value = value.detach() if value.requires_grad else value
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
    if key in MASKS and value.dtype != torch.bool:
        is_flag = (value == 0) | (value == 1) | value.isnan()
        return value == 1 if is_flag.all() else value
    return value


def _describe_changes(key: str, old: Tensor, new: Tensor) -> list[str]:
    changes = []
    if old.requires_grad:
        changes.append(f"{key} required a gradient, is detached")
    if new.dtype != old.dtype:
        kinds = [str(kind).removeprefix("torch.") for kind in (old.dtype, new.dtype)]
        changes.append(f"{key} was {kinds[0]}, is {kinds[1]}")
    if new.shape != old.shape:
        changes.append(f"{key} was of shape {tuple(old.shape)}, is of {tuple(new.shape)}")
    if key == "y" and old.is_floating_point() and old.isnan().any():
        changes.append(f"{int(old.isnan().sum())} labels were NaN, are -1 (none)")
    if key in MASKS and old.isnan().any():
        changes.append(f"{int(old.isnan().sum())} values of {key} were NaN, are False")
    if key in ("x", "edge_weight"):
        changes += describe_rounding(old, new, key)
    return changes


def describe_rounding(old: Tensor, new: Tensor, name: str) -> list[str]:
    r"""Counts the values above :math:`2^{24}` that float32 rounds, in a sentence if there are."""
    if old.dtype not in (torch.int32, torch.int64, torch.float64):
        return []
    rounded = (old.abs() > 2**24) & new.isfinite() & (new.double() != old.double())
    if old.dtype == torch.int64:
        rounded |= (old.abs() > 2**53) & (new.to(old.dtype) != old)
    if not rounded.any():
        return []
    count, first = int(rounded.sum()), old[rounded][0].item()
    hint = "subtract an offset to keep their differences"
    return [f"{count} values of {name} are rounded to float32, such as {first}; {hint}"]


def read_labels(values: Iterable[Any]) -> tuple[Tensor, list[str] | None]:
    r"""Converts labels to class ids. Labels are whole numbers, or names throughout. A label that is
    :obj:`None`, NaN or empty text is missing, and its id is -1. Also returns the names of the
    classes in alphabetical order, or :obj:`None` if the labels are numbers.
    """
    cells = []
    for i, value in enumerate(values):
        size = value.numel() if isinstance(value, Tensor) else np.size(value)
        if size != 1 or isinstance(value, set | dict):
            raise CellError(i, f"the labels {value}: {SEVERAL}")
        cells.append(_read_cell(value))
    ids = [_read_integer(cell) for cell in cells]
    names = [i for i, cell in enumerate(cells) if cell and ids[i] is None]
    if names:
        ids = [None if label == -1 else label for label in ids]
        cells = ["" if cell in ("-1", "-1.0") else cell for cell in cells]
    for i in names:
        if _SEVERAL.fullmatch(cells[i]):
            raise CellError(i, f"the labels {cells[i]!r}: {SEVERAL}")
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


def read_flags(values: Iterable[Any]) -> list[bool]:
    r"""Converts True and False, 1 and 0, or their names, as databases and spreadsheets write them,
    to flags. A missing value is False.
    """
    flags = []
    for i, value in enumerate(values):
        cell = _read_cell(value).lower()
        if cell not in ("", *FLAGS):
            raise CellError(i, repr(value))
        flags.append(FLAGS.get(cell, False))
    return flags


def count_missing(values: Iterable[Any]) -> str:
    r"""Counts the missing values by their spelling, such as :obj:`"3 ('NA' 2, '' 1)"`. Returns an
    empty text if there are none.
    """
    if getattr(values, "dtype", np.dtype(object)).kind in "biu":
        return ""
    counts = Counter(str(value).strip() for value in values if _read_cell(value) == "")
    spellings = ", ".join(f"{cell!r} {count}" for cell, count in counts.items())
    return f"{counts.total()} ({spellings})" if counts else ""


def _read_mask(values: Any, name: str) -> Tensor:
    kinds = {type(value) for value in values} if isinstance(values, list) else set()
    if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):
        return make_tensor(values, name)
    try:
        return torch.tensor(read_flags(values))
    except CellError as error:
        hint = "give True or False per node, or node ids"
        raise CellError(error.position, f"the {name} {error.found}; {hint}") from None


def _read_cell(value: Any) -> str:
    if hasattr(value, "item"):
        value = value.item()
    cell = "" if value is None else str(value).strip()
    if cell in MISSING or cell.lower() == "nan":
        return ""
    return cell if cell.isascii() else unicodedata.normalize("NFC", cell)


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
