r"""Graphs and labels in other forms than a task wants them."""

import re
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

MASKS = ("train_mask", "val_mask", "test_mask")
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_SEVERAL = re.compile(r"-?\d+(\s*[;|, ]\s*-?\d+)+")


def repair(data: Data) -> tuple[Data, list[str]]:
    r"""A copy of a graph with the types and shapes that a task asks for, as far as no value changes its meaning, and
    what was done: features and edge weights become float32, edge indices int64, labels and masks of one column flat,
    labels that are whole numbers int64 with -1 for NaN, masks of 0 and 1 bool.
    """
    data, done = copy(data), []
    for key, value in data.to_dict().items():
        if not isinstance(value, Tensor) or (fixed := _repaired(key, value)) is value:
            continue
        data[key] = fixed
        if fixed.dtype != value.dtype:
            done.append(f"{key} was {_name(value)}, is {_name(fixed)}")
        if fixed.shape != value.shape:
            done.append(f"{key} was of shape {tuple(value.shape)}, is of {tuple(fixed.shape)}")
        if key == "y" and value.is_floating_point() and (count := int(value.isnan().sum())):
            done.append(f"{count} labels were NaN, are -1 (none)")
    return data, done


def read_labels(values: Iterable[Any]) -> tuple[Tensor, list[str] | None]:
    r"""Class ids of labels that are numbers, text or missing (:obj:`None`, NaN, empty text), and the names of the
    classes in their order, if the labels are names: then all are.

    Shapes:
        - **output:** :math:`(N)`, :obj:`-1` where there is no label

    Raises:
        ValueError: If the labels are neither whole numbers nor names; gives the position of the first such.
    """
    values = list(values)
    if several := [i for i, value in enumerate(values) if _is_list(value)]:
        raise CellError(several[0], f"the labels {values[several[0]]}: several labels per node are not supported")
    cells = [_cell(value) for value in values]
    ids = [_whole(cell) for cell in cells]
    if wrong := [i for i, (cell, label) in enumerate(zip(cells, ids, strict=True)) if cell and label is None]:
        if several := [i for i in wrong if _SEVERAL.fullmatch(cells[i])]:
            raise CellError(several[0], f"the labels {cells[several[0]]!r}: several labels per node are not supported")
        if any(label is not None for label in ids) or any(_number(cells[i]) for i in wrong):
            raise CellError(wrong[0], f"the label {cells[wrong[0]]!r}; give whole numbers, or names throughout")
        names = sorted({cell for cell in cells if cell})
        known = {name: label for label, name in enumerate(names)}
        return torch.tensor([known.get(cell, -1) for cell in cells]), names
    if large := [i for i, label in enumerate(ids) if abs(label or 0) >= 2**31]:
        raise CellError(large[0], f"the label {cells[large[0]]}; classes are numbered 0, 1, 2, ...")
    return torch.tensor([-1 if label is None else label for label in ids], dtype=torch.int64), None


class CellError(ValueError):
    r"""Something is no label, or no split.

    Args:
        position (int): Where, from 0.
        found (str): What is found there, and what would work.
    """

    def __init__(self, position: int, found: str) -> None:
        super().__init__(f"node {position} has {found}")
        self.position = position
        self.found = found


def from_networkx(graph: Any, features: str | Sequence[str], label: str, weight: str) -> Data:
    r"""The graph of a NetworkX graph, with the masks that its nodes carry, see
    :meth:`mowst.task.GraphTask.from_networkx`.
    """
    nodes = dict(graph.nodes(data=True))
    position = {node: i for i, node in enumerate(nodes)}
    edges = [(position[u], position[v], w) for u, v, w in graph.edges(data=weight)]
    if not graph.is_directed():
        edges += [(v, u, w) for u, v, w in edges if u != v]
    try:
        y, names = read_labels(attributes.get(label) for attributes in nodes.values())
        masks = _masks(nodes)
    except CellError as error:
        raise ValueError(f"the node {list(nodes)[error.position]!r} has {error.found}") from None
    data = Data(
        x=_features(nodes, [features] if isinstance(features, str) else list(features)),
        edge_index=torch.tensor([edge[:2] for edge in edges], dtype=torch.int64).view(-1, 2).t().contiguous(),
        y=y,
        node_ids=list(nodes),
        **masks,
    )
    if names:
        data.class_names = names
    if any(w is not None for *_, w in edges):
        data.edge_weight = torch.tensor([1.0 if w is None else _weight(w, u, v) for u, v, w in edges])
    return data


def split_masks(words: Sequence[Any]) -> dict[str, Tensor]:
    r"""The masks of the words :obj:`"train"`, :obj:`"val"` (:obj:`"valid"`, :obj:`"validation"`), :obj:`"test"`, one
    for each node; :obj:`None` or an empty text is no split.

    Raises:
        ValueError: If a word is another; gives its position.
    """
    known = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "": ""}
    cells = [_cell(word).lower() for word in words]
    if unknown := [i for i, cell in enumerate(cells) if cell not in known]:
        raise CellError(unknown[0], f"the split {cells[unknown[0]]!r}; known: train, val, test, or nothing")
    return {key: torch.tensor([known[cell] == key for cell in cells]) for key in ("train", "val", "test")}


def _repaired(key: str, value: Tensor) -> Tensor:
    if key in ("x", "edge_weight"):
        value = value.squeeze(1) if key == "edge_weight" and value.dim() == 2 and value.size(1) == 1 else value
        return value if value.is_complex() else value.float()
    if key == "edge_index":
        return value if value.is_floating_point() or value.is_complex() else value.long()
    if key == "y":
        value = value.squeeze(1) if value.dim() == 2 and value.size(1) == 1 else value
        if not value.is_floating_point():
            return value if value.is_complex() else value.long()
        y = torch.where(value.isnan(), -1.0, value)
        return y.long() if bool((y == y.round()).all() and (y.abs() < 2**53).all()) else value
    if key in MASKS and value.dtype != torch.bool and bool(((value == 0) | (value == 1)).all()):
        return value.bool()
    return value


def _name(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _is_list(value: Any) -> bool:
    size = value.numel() if isinstance(value, Tensor) else np.size(value)
    return size != 1 or isinstance(value, set | dict)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    cell = str(value.item() if hasattr(value, "item") else value).strip()
    return "" if cell.lower() == "nan" else cell


def _whole(cell: str) -> int | None:
    if _INTEGER.fullmatch(cell):
        return int(cell)
    number = _number(cell)
    return int(number) if number is not None and number.is_integer() else None


def _number(cell: str) -> float | None:
    try:
        # Python reads 1_0 as ten; in a table it is a name.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _features(nodes: dict[Any, dict[str, Any]], names: list[str]) -> Tensor:
    rows = []
    for node, attributes in nodes.items():
        if missing := [name for name in names if name not in attributes]:
            raise ValueError(
                f"the node {node!r} has no attribute '{missing[0]}'; features= takes the name of one that every node "
                f"has, or a list of such names, this node has: {', '.join(map(str, attributes)) or 'none'}"
            )
        try:
            rows.append(torch.cat([torch.as_tensor(attributes[name]).reshape(-1).double() for name in names]))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"the features of the node {node!r} are not numbers: {error}") from None
        if rows[-1].numel() != rows[0].numel():
            raise ValueError(f"the node {node!r} has {rows[-1].numel()} features, the first has {rows[0].numel()}")
    return torch.stack(rows).float() if rows else torch.empty(0, 0)


def _weight(value: Any, source: int, target: int) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the weight {value!r} of the edge from node {source} to {target} is no number") from None


def _masks(nodes: dict[Any, dict[str, Any]]) -> dict[str, Tensor]:
    values = list(nodes.values())
    if any("split" in attributes for attributes in values):
        return {f"{key}_mask": mask for key, mask in split_masks([a.get("split") for a in values]).items()}
    return {
        key: torch.tensor([bool(attributes.get(key, False)) for attributes in values])
        for key in MASKS
        if any(key in attributes for attributes in values)
    }
