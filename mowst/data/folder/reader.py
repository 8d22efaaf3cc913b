r"""Reader of a folder of files, whose format is described in :mod:`mowst.data.folder`."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from mowst.convert import MASKS, CellError, read_labels, repair
from mowst.data.folder.nodes import Nodes
from mowst.data.folder.splits import read_splits
from mowst.data.folder.tables import ID_NAMES, Table, is_number, read_table
from mowst.data.splits import choose_split, stratified_split
from mowst.data.transforms import transform
from mowst.task import SPLITS, GraphTask
from mowst.validation import Weights

logger = logging.getLogger(__name__)

FORMATS = (".npy", ".csv", ".parquet")
STEMS: dict[str, tuple[str, ...]] = {"features": (*FORMATS, ".npz")}
STEMS |= dict.fromkeys(("edges", "labels", "splits", *MASKS, *SPLITS), FORMATS)
EDGE_COLUMNS = ["source", "target", "weight"]
EDGE_NAMES = {"source": "source", "src": "source", "from": "source", "u": "source"}
EDGE_NAMES |= {"target": "target", "dst": "target", "to": "target", "v": "target"}
EDGE_NAMES["weight"] = "weight"
LABEL_HEADER = (*ID_NAMES, "label", "labels", "y", "class")


def load_folder(
    folder: str | Path,
    split: int | str = 0,
    transforms: Sequence[str] = (),
    metric: str = "accuracy",
    class_weight: Weights = None,
    inductive: bool = False,
) -> GraphTask:
    r"""Reads a folder of files as a task.

    Args:
        folder (str or Path): The folder.
        split (int or str, optional): The number of a split of the folder, or the seed if it has
            none; :obj:`"random-SEED"` always draws a split. (default: :obj:`0`)
        transforms (list[str], optional): The transforms of the graph, see
            :func:`mowst.data.transforms.transform`. (default: :obj:`()`)
        metric, class_weight, inductive (optional): The fields of the task.

    Raises:
        FileNotFoundError: If the folder, its features, edges or labels are missing.
        ValueError: If a file is invalid, or the task cannot be used. Names file and row.
    """
    folder = Path(folder).expanduser()
    files = _find_files(folder, ("features", "edges", "labels"))
    data, nodes = _read_graph(files)
    data.y, names = _read_labels(files["labels"], nodes)
    if not (data.y >= 0).any():
        raise ValueError(f"{files['labels']} holds no label")
    published = read_splits(files, nodes)
    data, repaired = repair(data)
    data = _set_names(transform(data, transforms), nodes)
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
        sources = f"x is {files['features'].name}, y is {files['labels'].name}"
        raise ValueError(f"{folder} ({sources}): {error}") from None
    task.log()
    return task


def load_folder_graph(folder: str | Path, transforms: Sequence[str] = ()) -> Data:
    r"""Reads the features and edges of a folder of files, which may have no labels.

    Args:
        folder, transforms: See :func:`load_folder`.

    Raises:
        FileNotFoundError: If the folder, its features or edges are missing.
        ValueError: If a file is invalid. Names file and row.
    """
    files = _find_files(Path(folder).expanduser(), ("features", "edges"))
    data, nodes = _read_graph(files)
    return _set_names(transform(repair(data)[0], transforms), nodes)


def _read_graph(files: dict[str, Path]) -> tuple[Data, Nodes]:
    features = _read_features(files["features"])
    nodes = Nodes(features)
    data = _read_edges(files["edges"], nodes)
    data.x = torch.from_numpy(features.values)
    return data, nodes


def _set_names(data: Data, nodes: Nodes) -> Data:
    # Set last, since transforms take a list as long as the edges for an edge attribute.
    if nodes.ids is not None:
        data.node_ids = nodes.ids.tolist()
    if nodes.feature_names:
        data.feature_names = nodes.feature_names
    return data


def _find_files(folder: Path, required: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder '{folder}'")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if suffix not in STEMS["features"] or not path.is_file():
            continue
        if suffix not in STEMS.get(path.stem, ()):
            logger.warning("%s is not read: its name is none of %s", path, ", ".join(STEMS))
        elif path.stem in files:
            raise ValueError(f"{folder} has {files[path.stem].name} and {path.name}: leave one")
        else:
            files[path.stem] = path
    missing = [stem for stem in required if stem not in files]
    if missing:
        wanted = " and ".join(f"{stem}{'|'.join(STEMS[stem])}" for stem in missing)
        found = ", ".join(path.name for path in files.values()) or "none"
        raise FileNotFoundError(f"{folder} lacks {wanted}; it has {found}")
    return files


def _read_features(path: Path) -> Table:
    table = read_table(path, _is_feature_header, numbers=True)
    if 0 in table.values.shape:
        found = table.values.shape
        raise ValueError(f"{path} must hold a row for each node and a number in each, got {found}")
    return table


def _is_feature_header(cells: list[str]) -> bool:
    numbers = [is_number(cell) for cell in cells]
    if any(cell.lower() in ID_NAMES for cell in cells):
        return True
    if any(numbers) and not all(numbers):
        cell = cells[numbers.index(False)]
        hint = "a header has no numbers, and names ids 'id'"
        raise ValueError(f"{cell!r} is not a number; {hint}")
    if all(numbers) and len(cells) > 2 and cells == [str(k) for k in range(len(cells))]:
        raise ValueError("0, 1, 2, ... is the header of a table without names; leave it out")
    return not any(numbers)


def _read_edges(path: Path, nodes: Nodes) -> Data:
    table = read_table(path, lambda cells: nodes.is_header(cells, EDGE_NAMES))
    if table.names:
        names = [EDGE_NAMES.get(name, name) for name in table.names]
    else:
        names = EDGE_COLUMNS[: table.width]
    known = sorted(names) in (EDGE_COLUMNS[:2], EDGE_COLUMNS)
    if table.ids is not None or len(names) != table.width or not known:
        found = ", ".join(table.names) or f"{table.width} columns"
        wanted = "the columns source, target and optionally weight"
        raise ValueError(f"{path} must have {wanted}, found {found}")
    columns = {name: table.values[:, column] for column, name in enumerate(names)}
    ends = [nodes.find(columns[name], table) for name in ("source", "target")]
    data = Data(edge_index=torch.from_numpy(np.stack(ends)))
    if "weight" in columns:
        weight = replace(table, values=columns["weight"][:, None]).to_numbers()
        data.edge_weight = torch.from_numpy(weight.values[:, 0])
    return data


def _read_labels(path: Path, nodes: Nodes) -> tuple[torch.Tensor, list[str] | None]:
    table = read_table(path, lambda cells: any(cell.lower() in LABEL_HEADER for cell in cells))
    if table.width != 1:
        raise ValueError(
            f"{path} has {table.width} columns of labels: several labels per node are not "
            "supported; give one class for each node, and ids in a column with the header 'id'"
        )
    column = table.values[:, 0]
    if column.dtype.kind not in "biuf":
        try:
            y, names = read_labels(column.tolist())
        except CellError as error:
            table.refuse(error.position, error.found)
        return torch.from_numpy(nodes.align(table, y.numpy(), fill=-1)), names
    is_float = column.dtype.kind == "f"
    column = column.astype(np.float64 if is_float else np.int64)
    right = np.isnan(column) | ((abs(column) < 2**31) & (column == np.round(column)))
    for row in np.flatnonzero(~right)[:1]:
        table.refuse(int(row), f"the label {column[row]}; classes are numbered 0, 1, 2, ...")
    return torch.from_numpy(nodes.align(table, column, fill=np.nan if is_float else -1)), None
