r"""Graphs that are slow to read, kept as tensors in one file that is mapped into memory."""

import json
import logging
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch_geometric.data import Data

from mowst.data.info import DatasetInfo
from mowst.io import atomic_write
from mowst.sealed import read_sealed, seal

FORM = "mowst-cache-2"  # to be raised whenever a reader gives another graph of the same files
logger = logging.getLogger(__name__)


def read_cached(info: DatasetInfo, root: Path) -> Data:
    r"""The graph of a data set, from its cache where that was made of the raw files as they are now (names, sizes and
    times of change), else from the raw files, after which the cache is written.

    The tensors of a cache are mapped: they are read from the disk when they are touched, and what is written to them
    stays in memory.

    Args:
        info (DatasetInfo): The data set; only one that is slow to read has a cache.
        root (Path): The folder of the data sets.

    Raises:
        ValueError: If a raw file is damaged; then no cache is written.
    """
    paths = info.paths(root)
    if not info.cached:
        return info.read(*paths)
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = json.dumps(states)
    places = [folder / f"{info.name}.safetensors" for folder in cache_folders(info, root)]
    for place in filter(Path.is_file, places):
        if data := _read(place, key):
            return data
    data = info.read(*paths)
    _write(data, key, places)
    return data


def cache_folders(info: DatasetInfo, root: Path) -> list[Path]:
    r"""Where a cache may lie, the first that is writable: in the folder :obj:`MOWST_CACHE` if that variable is set,
    else beside the raw files, else in :obj:`~/.cache/mowst/cache`.
    """
    if chosen := os.environ.get("MOWST_CACHE"):
        return [Path(chosen).expanduser() / info.family]
    return [info.base(root) / "cache", Path("~/.cache/mowst/cache").expanduser() / info.family]


def _read(place: Path, key: str) -> Data | None:
    try:
        found, tensors = read_sealed(place, FORM)
    except (OSError, ValueError) as error:
        logger.warning("%s; it is made again", error)
        return None
    if found != key:
        logger.info("%s was made of other raw files: it is made again", place)
        return None
    return Data.from_dict(tensors)


def _write(data: Data, key: str, places: list[Path]) -> None:
    tensors = {name: value.contiguous() for name, value in data.to_dict().items()}
    for place in places:
        try:
            with atomic_write(place) as file:
                save_file(tensors, file.name, metadata=seal(FORM, key, tensors))
            return
        except (OSError, SafetensorError) as error:
            logger.info("%s cannot be written: %s", place, error)
    logger.warning("the graph is read anew each time: none of %s can be written", ", ".join(map(str, places)))
