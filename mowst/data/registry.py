r"""The data sets by name."""

import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from torch_geometric.data import Data

from mowst.data.cache import read_cached
from mowst.data.csbm import CSBM
from mowst.data.digits import DIGITS
from mowst.data.fetch import require_files
from mowst.data.flickr import FLICKR
from mowst.data.folder import load_folder, load_folder_graph
from mowst.data.gnn_benchmark import GNN_BENCHMARK
from mowst.data.heterophilous import HETEROPHILOUS
from mowst.data.info import DatasetInfo
from mowst.data.linkx import LINKX, describe_college
from mowst.data.ogb import OGB
from mowst.data.planetoid import PLANETOID
from mowst.data.splits import Masks, choose_split, read_split_file
from mowst.data.transforms import transform
from mowst.data.wikics import WIKICS
from mowst.graph_checks import find_graph_problems
from mowst.labels import count_classes
from mowst.metrics import METRICS
from mowst.task import SPLITS, GraphTask

DATASETS: dict[str, DatasetInfo] = {}
FAMILIES = (PLANETOID, OGB, WIKICS, GNN_BENCHMARK, HETEROPHILOUS, LINKX, FLICKR, DIGITS, CSBM)


def register_dataset(info: DatasetInfo) -> None:
    r"""Adds a data set: :func:`load_task`, studies and the command line then know its name. Raises
    a :obj:`ValueError` if the name is taken or invalid, or the metric is unknown.
    """
    if not re.fullmatch(r"[a-z0-9-]+", info.name):
        wanted = "lower-case letters, digits and hyphens"
        raise ValueError(f"the name of a data set must be {wanted}, got '{info.name}'")
    if info.name in DATASETS:
        raise ValueError(f"the data set '{info.name}' is already registered; choose another name")
    if info.metric not in METRICS:
        known = ", ".join(METRICS)
        raise ValueError(f"the metric '{info.metric}' of '{info.name}' is unknown; known: {known}")
    DATASETS[info.name] = info


for _family in FAMILIES:
    for _info in _family:
        register_dataset(_info)
BUILT_IN = frozenset(DATASETS)


def load_task(
    name: str | Path,
    root: str | Path | None = None,
    split: int | str = 0,
    transforms: Sequence[str] = (),
    fetch: bool = True,
) -> GraphTask:
    r"""Loads a data set as a task. Missing files are downloaded, unless the variable
    :obj:`MOWST_OFFLINE` is set. Graphs that are slow to read are cached in :obj:`MOWST_CACHE`, or
    next to their files.

    Args:
        name (str): A key of :obj:`DATASETS`, or :obj:`"fb100-NAME"` for any college of facebook100.
            Case does not matter, and :obj:`_` equals :obj:`-`. Or a folder of your own files, see
            :mod:`mowst.data.folder`; write :obj:`"./NAME"` if a data set has the same name.
        root (str or Path, optional): The folder of the data sets, which may be read-only.
            :obj:`None` uses the variable :obj:`MOWST_DATA`, else :obj:`~/.cache/mowst`.
            (default: :obj:`None`)
        split (int or str, optional): The number of a published split, or the seed if there are
            none; :obj:`"random-SEED"` always draws a split. (default: :obj:`0`)
        transforms (list[str], optional): The transforms of the graph, see
            :func:`mowst.data.transforms.transform`. (default: :obj:`()`)
        fetch (bool, optional): Whether missing files are downloaded. (default: :obj:`True`)

    Raises:
        ValueError: If the name, the split or a transform is unknown, or a raw file is damaged.
        FileNotFoundError: If files are still missing. Lists them with their folders.
    """
    if _is_folder(name):
        return load_folder(name, split=split, transforms=transforms)
    info = find_dataset(str(name))
    root = data_root(root)
    require_files(info, root, split, fetch=fetch)
    data = read_cached(info, root)
    published = _pop_masks(data)
    for path in info.split_paths(root, split):
        published = read_split_file(path, num_nodes=data.num_nodes)
    return GraphTask(
        transform(data, transforms),
        masks=choose_split(data, split, draw=info.draw, published=published or None),
        num_classes=count_classes(data.y),
        metric=info.metric,
        name=info.name,
        split=split,
        preprocessing=(*info.preprocessing, *transforms),
    )


def load_graph(
    name: str | Path, root: str | Path | None = None, transforms: Sequence[str] = ()
) -> Data:
    r"""Loads the graph of a data set or folder without a split, for prediction. It may have no
    labels; those of a folder are not read.

    Args:
        name, root, transforms: See :func:`load_task`.

    Raises:
        ValueError: If the name or a transform is unknown, a file is damaged, or the graph is
            invalid.
        FileNotFoundError: If files are missing. Lists them with their folders.
    """
    if _is_folder(name):
        data = load_folder_graph(name, transforms)
    else:
        info, root = find_dataset(str(name)), data_root(root)
        require_files(info, root, split="none")  # only a numbered split needs a file
        data = read_cached(info, root)
        _pop_masks(data)
        data = transform(data, transforms)
    found = find_graph_problems(data)
    if found:
        raise ValueError("\n  - ".join([f"The graph '{name}' cannot be used:", *found]))
    return data


def find_dataset(name: str) -> DatasetInfo:
    r"""Returns the description of a data set. Raises a :obj:`ValueError` that lists the known names
    and the closest one if the name is unknown.
    """
    key = _normalize_name(name)
    college = re.fullmatch(r"fb100-([a-z]+[0-9]+)", key)
    if college:
        return DATASETS.get(college[1]) or describe_college(college[1])
    if key not in DATASETS:
        close = "".join(
            f"did you mean '{match}'? " for match in get_close_matches(key, DATASETS, n=1)
        )
        raise ValueError(f"The data set '{name}' is unknown; {close}known: {', '.join(DATASETS)}")
    return DATASETS[key]


def data_root(root: str | Path | None = None) -> Path:
    r"""Returns the folder of the data sets: :obj:`root`, else the variable :obj:`MOWST_DATA`, else
    :obj:`~/.cache/mowst`.
    """
    return Path(root or os.environ.get("MOWST_DATA") or "~/.cache/mowst").expanduser()


def _pop_masks(data: Data) -> Masks:
    return {key: data.pop(f"{key}_mask") for key in SPLITS if f"{key}_mask" in data}


def _normalize_name(name: str) -> str:
    return name.lower().replace("_", "-")


def _is_folder(name: str | Path) -> bool:
    text = str(name)
    if isinstance(name, Path) or "/" in text or os.sep in text:
        return True
    return _normalize_name(text) not in DATASETS and Path(text).is_dir()
