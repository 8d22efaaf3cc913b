r"""The data sets by name."""

import os
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from mowst.data.cache import read_cached
from mowst.data.csbm import CSBM
from mowst.data.digits import DIGITS
from mowst.data.fetch import require_files
from mowst.data.flickr import FLICKR
from mowst.data.folder import load_folder
from mowst.data.gnn_benchmark import GNN_BENCHMARK
from mowst.data.heterophilous import HETEROPHILOUS
from mowst.data.info import DatasetInfo
from mowst.data.linkx import LINKX, college
from mowst.data.ogb import OGB
from mowst.data.planetoid import PLANETOID
from mowst.data.splits import choose_split, read_split_file
from mowst.data.transforms import transform
from mowst.data.twitch_gamer import TWITCH_GAMER
from mowst.data.wikics import WIKICS
from mowst.task import SPLITS, GraphTask

CITATIONS, FRIENDS = (*PLANETOID, *OGB, *WIKICS), (*LINKX, *TWITCH_GAMER, *FLICKR)
ROWS = (*CITATIONS, *GNN_BENCHMARK, *HETEROPHILOUS, *FRIENDS, *DIGITS, *CSBM)
DATASETS: dict[str, DatasetInfo] = {row.name: row for row in ROWS}


def load_task(
    name: str | Path,
    root: str | Path | None = None,
    split: int | str = 0,
    transforms: Sequence[str] = (),
    fetch: bool = True,
) -> GraphTask:
    r"""Loads a data set as a task. Missing files are downloaded, and a graph that is slow to read is cached, see
    :func:`mowst.data.fetch.require_files` and :func:`mowst.data.cache.read_cached`.

    Args:
        name (str): A key of :obj:`DATASETS`, or :obj:`"fb100-NAME"` for any college of facebook100; upper and lower
            case, :obj:`_` and :obj:`-` are alike. Or a folder of one's own files, see :mod:`mowst.data.folder`; one
            that has the name of a data set is given as :obj:`"./NAME"`.
        root (str or Path, optional): The folder of the data sets, which may be read-only where the files are there.
            :obj:`None` takes the variable :obj:`MOWST_DATA`, else :obj:`~/.cache/mowst`. (default: :obj:`None`)
        split (int or str, optional): The number of a published split, or the seed where there are none;
            :obj:`"random-SEED"` draws one for any data set. (default: :obj:`0`)
        transforms (list[str], optional): What is done to the graph further, see
            :func:`mowst.data.transforms.transform`. (default: :obj:`()`)
        fetch (bool, optional): Whether missing files are downloaded. (default: :obj:`True`)

    Raises:
        ValueError: If the name, the split or a transform is unknown, or a raw file is damaged.
        FileNotFoundError: If files are missing in the end; says which belong where.
    """
    if _is_folder(name):
        return load_folder(name, split=split, transforms=transforms)
    info = find_dataset(str(name))
    root = data_root(root)
    require_files(info, root, split, fetch=fetch)
    data = read_cached(info, root)
    published = {key: data.pop(f"{key}_mask") for key in SPLITS if f"{key}_mask" in data}
    for path in info.split_paths(root, split):
        published = read_split_file(path, num_nodes=data.num_nodes)
    return GraphTask(
        transform(data, transforms),
        masks=choose_split(data, split, draw=info.draw, published=published or None),
        num_classes=int(data.y.max()) + 1,
        metric=info.metric,
        name=info.name,
        split=split,
        preprocessing=(*info.preprocessing, *transforms),
    )


def list_tasks() -> list[str]:
    r"""The names that :func:`load_task` knows."""
    return list(DATASETS)


def find_dataset(name: str) -> DatasetInfo:
    r"""The row of a data set.

    Raises:
        ValueError: If the name is unknown; lists the known ones and the closest.
    """
    key = name.lower().replace("_", "-")
    if unlisted := re.fullmatch(r"fb100-([a-z]+[0-9]+)", key):
        return DATASETS.get(unlisted[1]) or college(unlisted[1])
    if key not in DATASETS:
        close = "".join(f"did you mean '{match}'? " for match in get_close_matches(key, DATASETS, n=1))
        raise ValueError(f"The data set '{name}' is unknown; {close}known: {', '.join(DATASETS)}")
    return DATASETS[key]


def _is_folder(name: str | Path) -> bool:
    text = str(name)
    is_path = isinstance(name, Path) or "/" in text or os.sep in text
    return is_path or (text.lower().replace("_", "-") not in DATASETS and Path(text).is_dir())


def data_root(root: str | Path | None = None) -> Path:
    r"""The folder of the data sets: the argument, else :obj:`MOWST_DATA`, else :obj:`~/.cache/mowst`."""
    return Path(root or os.environ.get("MOWST_DATA") or "~/.cache/mowst").expanduser()
