r"""Download of the missing files of a data set, or one error that lists them."""

import logging
import os
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

from mowst.data.download import download, lock_downloads, unpack
from mowst.data.info import DatasetInfo

logger = logging.getLogger(__name__)


def require_files(info: DatasetInfo, root: Path, split: int | str, fetch: bool = True) -> None:
    r"""Downloads the missing files of a data set and a split, if all of them have an address,
    :obj:`fetch` is :obj:`True` and the variable :obj:`MOWST_OFFLINE` is not set.

    Raises:
        FileNotFoundError: If files are still missing. Lists them with addresses and folders.
    """
    addresses = _list_missing(info, root, split)
    if not addresses:
        return
    if is_offline():
        reason = "MOWST_OFFLINE is set: nothing is downloaded."
    elif not fetch:
        reason = "Nothing is downloaded here."
    elif None in addresses.values():
        reason = "Nothing is downloaded, since not all of them have a working address."
    else:
        try:
            with lock_downloads(info.base(root)):
                return _fetch(info, info.base(root), _list_missing(info, root, split))
        except (OSError, HTTPException, ValueError) as error:
            reason = f"The download failed: {error}."
            raise FileNotFoundError(_explain(info, root, addresses, reason)) from error
    raise FileNotFoundError(_explain(info, root, addresses, reason))


def is_offline() -> bool:
    r"""Returns whether the variable :obj:`MOWST_OFFLINE` is set to anything but 0."""
    return os.environ.get("MOWST_OFFLINE", "0") not in ("", "0")


def _list_missing(info: DatasetInfo, root: Path, split: int | str) -> dict[Path, str | None]:
    names = dict(zip(info.paths(root), info.files, strict=True))
    names |= {path: path.name for path in info.split_paths(root, split)}
    return {path: info.urls.get(name) for path, name in names.items() if not path.is_file()}


def _fetch(info: DatasetInfo, base: Path, addresses: Mapping[Path, Any]) -> None:
    archives: dict[str, list[str]] = {}
    for path, url in addresses.items():
        if url.endswith(".zip"):
            archives.setdefault(url, []).append(path.relative_to(base).as_posix())
        else:
            logger.info("downloading %s", url)
            download(url, path, sha256=info.sha256.get(path.name))
    for url, names in archives.items():
        archive = base / url.rpartition("/")[2]
        logger.info("downloading %s", url)
        download(url, archive, sha256=info.sha256.get(archive.name))
        try:
            unpack(archive, base, names)
        finally:
            archive.unlink()


def _explain(info: DatasetInfo, root: Path, addresses: Mapping[Path, Any], reason: str) -> str:
    lines = [f"'{info.name}' needs these files:"]
    for path, url in addresses.items():
        lines.append(f"  {path}  from {url}" if url else f"  {path}")
    lines += [reason, f"The graph is published at {info.home}."]
    if info.publisher_folder:
        lines.append(f"All of its files in {root / info.publisher_folder} are read as well.")
    if any(path.name in info.split_files for path in addresses):
        names = " or ".join(info.split_files)
        keys = "node ids as train, valid, test; in an .npz train_0, ..."
        lines.append(f"The split is read from {names} ({keys}).")
        lines.append("split='random-0' needs no such file.")
    default = "the argument `root`, else the variable MOWST_DATA, else ~/.cache/mowst"
    lines.append(f"The root {root} is {default}.")
    return "\n".join(lines)
