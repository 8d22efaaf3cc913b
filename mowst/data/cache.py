r"""Cache of graphs that are slow to read, as tensors in one memory-mapped file."""

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

FORM = "mowst-cache-2"  # raise whenever a reader returns another graph for the same files
logger = logging.getLogger(__name__)


def read_cached(info: DatasetInfo, root: Path) -> Data:
    r"""Reads the graph of a data set, from its cache if that belongs to the current raw files
    (names, sizes and modification times), else from the raw files. The cache is then written.

    The tensors of a cache are memory-mapped: changes to them stay in memory.
    """
    paths = info.paths(root)
    if not info.cached:
        return info.read(*paths)
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = json.dumps(states)
    places = [folder / f"{info.name}.safetensors" for folder in list_cache_folders(info, root)]
    for place in places:
        data = _read(place, key) if place.is_file() else None
        if data is not None:
            return data
    data = info.read(*paths)
    _write(data, key, places)
    return data


def list_cache_folders(info: DatasetInfo, root: Path) -> list[Path]:
    r"""Returns the folders that may hold a cache: :obj:`MOWST_CACHE` if that variable is set, else
    the folder of the data set, then :obj:`~/.cache/mowst/cache`. The first writable one is used.
    """
    chosen = os.environ.get("MOWST_CACHE")
    if chosen:
        return [Path(chosen).expanduser() / info.family]
    return [info.base(root) / "cache", Path("~/.cache/mowst/cache").expanduser() / info.family]


def _read(place: Path, key: str) -> Data | None:
    try:
        found, tensors = read_sealed(place, FORM)
    except (OSError, ValueError) as error:
        logger.warning("%s; the cache is written again", error)
        return None
    if found != key:
        logger.info("%s belongs to other raw files and is written again", place)
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
    tried = ", ".join(map(str, places))
    logger.warning("no cache could be written, so every load reads the raw files; tried %s", tried)
