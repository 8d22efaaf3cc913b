r"""A user's own graph: a folder of files.

.. code-block:: text

    features.npy|npz|csv|parquet     a row of numbers for each node
    edges.npy|csv|parquet            a row for each edge: source, target and perhaps weight
    labels.npy|csv|parquet           a row for each node: its class
    splits.npy|csv|parquet           a row for each node: train, val, test or nothing; a column for each split
    or train_mask, val_mask, test_mask (the same with 0 and 1), or train, val, test (the nodes, one in each row)

**Nodes** are the rows of the features, and are named by the number of their row from 0; a column :obj:`id`,
:obj:`node` or :obj:`node_id` among the features names them instead, and edges, labels and splits then use those names.
Any file with such a column may list its nodes in any order and leave some out. A :obj:`features.npy` of float32 in
C order is mapped, not read: rows are fetched from the disk when they are needed, so it may be larger than memory.

**Edges** are taken as they are: one that runs both ways is two rows, or the transform :obj:`"undirected"` adds the
other ones.

**Labels** are 0, 1, 2, ..., or names throughout (classes are then numbered in alphabetical order, and
:obj:`data.class_names` lists them); an empty cell, NaN or -1 is no label.

**Splits** are optional: without them a seeded draw takes 50/25/25 % of every class.

A :obj:`.csv` file may have a header, and needs one to have ids: for features a row without any number; for edges the
names :obj:`source`, :obj:`target`, :obj:`weight` (or :obj:`src`, :obj:`from`, :obj:`u`; :obj:`dst`, :obj:`to`,
:obj:`v`); for labels :obj:`label`, :obj:`y` or :obj:`class`; for splits a row that is none. In a :obj:`.parquet` file
the columns are named so.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from mowst.convert import MASKS, CellError, read_labels, repair
from mowst.data.folder_splits import read_splits
from mowst.data.nodes import Nodes
from mowst.data.splits import choose_split, stratified_split
from mowst.data.tables import ID_NAMES, Table, is_number, read_table
from mowst.data.transforms import transform
from mowst.task import SPLITS, GraphTask
from mowst.validation import Weights

logger = logging.getLogger(__name__)

FORMATS = (".npy", ".csv", ".parquet")
STEMS = {"features": (*FORMATS, ".npz"), **dict.fromkeys(("edges", "labels", "splits", *MASKS, *SPLITS), FORMATS)}
EDGE_COLUMNS = ["source", "target", "weight"]
EDGE_NAMES = {"source": "source src from u", "target": "target dst to v", "weight": "weight"}
EDGE_NAMES = {alias: name for name, aliases in EDGE_NAMES.items() for alias in aliases.split()}
LABEL_NAMES = ("label", "labels", "y", "class")


def load_folder(
    folder: str | Path,
    split: int | str = 0,
    transforms: Sequence[str] = (),
    metric: str = "accuracy",
    class_weight: Weights = None,
    inductive: bool = False,
) -> GraphTask:
    r"""Reads a folder of files, in the format above, as a task.

    Args:
        folder (str or Path): The folder.
        split (int or str, optional): The number of a split of the folder, or the seed where it has none;
            :obj:`"random-SEED"` draws one in any case. (default: :obj:`0`)
        transforms (list[str], optional): What is done to the graph, see :func:`mowst.data.transforms.transform`.
            (default: :obj:`()`)
        metric, class_weight, inductive (optional): Fields of the task.

    Raises:
        FileNotFoundError: If the folder, its features, edges or labels are missing.
        ValueError: If a file is not in its format (names file and row), or the task cannot be used.
    """
    folder = Path(folder).expanduser()
    files = _find(folder)
    features = _features(files["features"])
    nodes = Nodes(features)
    data = _edges(files["edges"], nodes)
    data.x = torch.from_numpy(features.values)
    data.y, names = _labels(files["labels"], nodes)
    if not bool((data.y >= 0).any()):
        raise ValueError(f"{files['labels']} holds no label")
    published = read_splits(files, nodes)
    data, repaired = repair(data)
    data = transform(data, transforms)
    # Afterwards, as a transform takes a list as long as the edges for values of edges.
    if nodes.ids is not None:
        data.node_ids = nodes.ids.tolist()
    if names:
        data.class_names = names
    try:
        task = GraphTask(
            data,
            masks=choose_split(data, split, draw=stratified_split, published=published),
            num_classes=int(data.y.max()) + 1,
            metric=metric,
            name=folder.resolve().name,
            split=split,
            preprocessing=tuple(transforms),
            class_weight=class_weight,
            inductive=inductive,
            repaired=tuple(repaired),
        )
    except ValueError as error:
        read = ", ".join(f"{key} is {files[stem].name}" for key, stem in (("x", "features"), ("y", "labels")))
        raise ValueError(f"{folder} ({read}): {error}") from None
    task.log()
    return task


def _find(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder '{folder}'")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in STEMS["features"] or not path.is_file():
            continue
        if path.suffix.lower() not in STEMS.get(path.stem, ()):
            logger.warning("%s is not read: its name is none of %s", path, ", ".join(STEMS))
        elif path.stem in files:
            raise ValueError(f"{folder} has {files[path.stem].name} and {path.name}: leave one")
        else:
            files[path.stem] = path
    if missing := [stem for stem in ("features", "edges", "labels") if stem not in files]:
        wanted = " and ".join(f"{stem}{'|'.join(STEMS[stem])}" for stem in missing)
        raise FileNotFoundError(
            f"{folder} lacks {wanted}; it has {', '.join(p.name for p in files.values()) or 'none'}"
        )
    return files


def _features(path: Path) -> Table:
    def header(cells: list[str]) -> bool:
        numbers = [is_number(cell) for cell in cells]
        if any(cell.lower() in ID_NAMES for cell in cells):
            return True
        if any(numbers) and not all(numbers):
            cell = cells[numbers.index(False)]
            raise ValueError(f"{cell!r} is no number, and no header has numbers; a header names ids 'id'")
        if all(numbers) and len(cells) > 2 and cells == [str(column) for column in range(len(cells))]:
            raise ValueError("0, 1, 2, ... is the header of a table without names; leave it out")
        return not any(numbers)

    table = read_table(path, header, numbers=True)
    if 0 in table.values.shape:
        raise ValueError(f"{path} must hold a row for each node and a number in each, got {table.values.shape}")
    return table


def _edges(path: Path, nodes: Nodes) -> Data:
    table = read_table(path, lambda cells: nodes.is_header(cells, EDGE_NAMES))
    names = [EDGE_NAMES.get(name, name) for name in table.names] or EDGE_COLUMNS[: table.width]
    if table.ids is not None or len(names) != table.width or sorted(names) not in (EDGE_COLUMNS[:2], EDGE_COLUMNS):
        found = ", ".join(table.names) or f"{table.width} columns"
        raise ValueError(f"{path} must have the columns source, target and perhaps weight, found {found}")
    columns = {name: table.values[:, names.index(name)] for name in names}
    ends = [nodes.find(columns[name], table) for name in ("source", "target")]
    data = Data(edge_index=torch.from_numpy(np.stack(ends)))
    if "weight" in columns:
        weight = replace(table, values=columns["weight"][:, None]).numbers()
        data.edge_weight = torch.from_numpy(weight.values[:, 0])
    return data


def _labels(path: Path, nodes: Nodes) -> tuple[torch.Tensor, list[str] | None]:
    table = read_table(path, lambda cells: any(cell.lower() in (*ID_NAMES, *LABEL_NAMES) for cell in cells))
    if table.width != 1:
        raise ValueError(
            f"{path} has {table.width} columns of labels: several labels per node are not supported; give one class "
            "for each node, and perhaps ids in a column with the header 'id'"
        )
    column = table.values[:, 0]
    if column.dtype.kind in "biuf":
        kind, fill = (np.float64, np.nan) if column.dtype.kind == "f" else (np.int64, -1)
        column = column.astype(kind)
        if len(wrong := np.flatnonzero(~(np.isnan(column) | (abs(column) < 2**31) & (column == np.round(column))))):
            table.refuse(int(wrong[0]), f"the label {column[wrong[0]]}; classes are numbered 0, 1, 2, ...")
        return torch.from_numpy(nodes.align(table, column, fill=fill)), None
    try:
        y, names = read_labels(column.tolist())
    except CellError as error:
        table.refuse(error.position, error.found)
    return torch.from_numpy(nodes.align(table, y.numpy(), fill=-1)), names
