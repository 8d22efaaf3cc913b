r"""The data sets by name."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from mowst.data.csbm import CSBM
from mowst.data.digits import DIGITS
from mowst.data.gnn_benchmark import GNN_BENCHMARK
from mowst.data.heterophilous import HETEROPHILOUS
from mowst.data.info import DatasetInfo
from mowst.data.linkx import LINKX
from mowst.data.planetoid import PLANETOID
from mowst.data.splits import choose_split, read_split_file
from mowst.data.transforms import transform
from mowst.task import SPLITS, GraphTask

DATASETS: dict[str, DatasetInfo] = {
    row.name: row for row in (*PLANETOID, *GNN_BENCHMARK, *HETEROPHILOUS, *LINKX, *DIGITS, *CSBM)
}


def load_task(
    name: str, root: str | Path | None = None, split: int | str = 0, transforms: Sequence[str] = ()
) -> GraphTask:
    r"""Loads a data set as a task.

    Args:
        name (str): A key of :obj:`DATASETS`; upper and lower case, :obj:`_` and :obj:`-` are alike.
        root (str or Path, optional): The folder of the data sets, of which nothing but
            :obj:`<root>/<family>/<Name>/raw/` and :obj:`<root>/splits/` is read and nothing is written. :obj:`None`
            takes the variable :obj:`MOWST_DATA`, else :obj:`~/.cache/mowst`. (default: :obj:`None`)
        split (int or str, optional): The number of a published split, or the seed where there are none;
            :obj:`"random-SEED"` draws one for any data set. (default: :obj:`0`)
        transforms (list[str], optional): What is done to the graph further, see
            :func:`mowst.data.transforms.transform`. (default: :obj:`()`)

    Raises:
        ValueError: If the name, the split or a transform is unknown, or a raw file is damaged.
        FileNotFoundError: If raw files are missing; says which belong where.
    """
    info = find_dataset(name)
    root = data_root(root)
    _require_files(info, root, split)
    data = info.read(*info.paths(root))
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
    if key not in DATASETS:
        close = "".join(f"did you mean '{match}'? " for match in get_close_matches(key, DATASETS, n=1))
        raise ValueError(f"The data set '{name}' is unknown; {close}known: {', '.join(DATASETS)}")
    return DATASETS[key]


def data_root(root: str | Path | None = None) -> Path:
    r"""The folder of the data sets: the argument, else :obj:`MOWST_DATA`, else :obj:`~/.cache/mowst`."""
    return Path(root or os.environ.get("MOWST_DATA") or "~/.cache/mowst").expanduser()


def _require_files(info: DatasetInfo, root: Path, split: int | str) -> None:
    split_paths = info.split_paths(root, split)
    missing = [path for path in info.paths(root) + split_paths if not path.is_file()]
    if not missing:
        return
    lines = [f"'{info.name}' needs these files:", *(f"  {path}" for path in missing)]
    lines.append(f"The graph is published at {info.home}.")
    if split_paths:
        lines.append("The split holds node ids as train, valid, test; split='random-0' needs no such file.")
    lines.append(f"The root {root} is the argument `root`, else the variable MOWST_DATA, else ~/.cache/mowst.")
    raise FileNotFoundError("\n".join(lines))
