r"""Reader of a folder of files, whose format is described in :mod:`mowst.data.folder`."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch_geometric.data import Data

from mowst.convert import MASKS, repair
from mowst.data.folder.edges import read_edges
from mowst.data.folder.features import read_features
from mowst.data.folder.labels import read_labels
from mowst.data.folder.nodes import Nodes
from mowst.data.folder.splits import read_splits
from mowst.data.folder.tables import are_numbered, get_format
from mowst.data.splits import choose_split, stratified_split
from mowst.data.transforms import transform
from mowst.metrics import AnyMetric
from mowst.task import SPLITS, GraphTask
from mowst.validation import Weights

logger = logging.getLogger(__name__)

FORMATS = (".npy", ".csv", ".tsv", ".txt", ".parquet")
STEMS: dict[str, tuple[str, ...]] = {"features": (*FORMATS, ".npz")}
STEMS |= dict.fromkeys(("edges", "labels", "splits", *MASKS, *SPLITS), FORMATS)


def load_folder(
    folder: str | Path,
    split: int | str = 0,
    transforms: Sequence[str] = (),
    metric: AnyMetric = "accuracy",
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
    used = [files[stem] for stem in ("features", "edges", "labels")]
    features, x = read_features(files["features"], is_numbered=are_numbered(used))
    nodes = Nodes(features)
    y, names, labels = read_labels(files["labels"], nodes)
    if not (y >= 0).any():
        raise ValueError(f"{files['labels']} holds no label")
    published, tables = read_splits(files, nodes)
    tables = [features, labels, *tables]
    data, edges = read_edges(files["edges"], nodes, tables)
    data.x, data.y = x, y
    notes = [note for table in (*tables, edges) for note in table.notes]
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
            repaired=(*notes, *repaired),
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
    used = [files[stem] for stem in ("features", "edges")]
    features, x = read_features(files["features"], is_numbered=are_numbered(used))
    nodes = Nodes(features)
    data, edges = read_edges(files["edges"], nodes, [features])
    data.x = x
    data, repaired = repair(data)
    for line in (*features.notes, *edges.notes, *repaired):
        logger.warning("%s: %s", folder, line)
    return _set_names(transform(data, transforms), nodes)


def _set_names(data: Data, nodes: Nodes) -> Data:
    # Set last, since transforms take a list as long as the edges for an edge attribute.
    if nodes.ids is not None:
        data.node_ids = nodes.ids
    if nodes.feature_names:
        data.feature_names = nodes.feature_names
    return data


def _find_files(folder: Path, required: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder '{folder}'")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix, stem = get_format(path), path.name.split(".")[0]
        if suffix not in STEMS["features"] or not path.is_file():
            continue
        if suffix not in STEMS.get(stem, ()):
            logger.warning("%s is not read: its name is none of %s", path, ", ".join(STEMS))
        elif stem in files:
            raise ValueError(f"{folder} has {files[stem].name} and {path.name}: leave one")
        else:
            files[stem] = path
    missing = [stem for stem in required if stem not in files]
    if missing:
        wanted = " and ".join(f"{stem}{'|'.join(STEMS[stem])}" for stem in missing)
        found = ", ".join(path.name for path in files.values()) or "none"
        raise FileNotFoundError(f"{folder} lacks {wanted}; it has {found}")
    return files
