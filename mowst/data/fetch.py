r"""The files that a data set lacks: downloaded, or one error that says which belong where."""

import logging
import os
from collections import defaultdict
from http.client import HTTPException
from pathlib import Path

from mowst.data.download import download, downloading, unpack
from mowst.data.info import DatasetInfo

logger = logging.getLogger(__name__)


def require_files(info: DatasetInfo, root: Path, split: int | str, fetch: bool = True) -> None:
    r"""Sees to it that the files of a data set and a split are there. Where each missing one has an address they are
    downloaded, unless the variable :obj:`MOWST_OFFLINE` is set; nobody is ever asked.

    Args:
        info (DatasetInfo): The data set.
        root (Path): The folder of the data sets.
        split (int or str): The split.
        fetch (bool, optional): Whether to download. (default: :obj:`True`)

    Raises:
        FileNotFoundError: If files are missing in the end; lists them with addresses and folders.
    """
    wanted = _missing(info, root, split)
    addresses = {path: info.urls.get(name) for path, name in wanted.items()}
    if not wanted:
        return
    if not fetch or offline():
        reason = "MOWST_OFFLINE is set: nothing is downloaded." if offline() else "Nothing is downloaded here."
    elif None in addresses.values():
        reason = "Nothing is downloaded, since not all of them have a working address."
    else:
        try:
            with downloading(info.base(root)):
                return _fetch(info, info.base(root), _missing(info, root, split))
        except (OSError, HTTPException, ValueError) as error:
            reason = f"The download failed: {error}."
            raise FileNotFoundError(_explain(info, root, addresses, reason)) from error
    raise FileNotFoundError(_explain(info, root, addresses, reason))


def offline() -> bool:
    r"""Whether the variable :obj:`MOWST_OFFLINE` forbids downloads: it does if set to anything but 0."""
    return os.environ.get("MOWST_OFFLINE", "0") not in ("", "0")


def _missing(info: DatasetInfo, root: Path, split: int | str) -> dict[Path, str]:
    raw = dict(zip(info.paths(root), info.files, strict=True))
    named = raw | {path: path.name for path in info.split_paths(root, split)}
    return {path: name for path, name in named.items() if not path.is_file()}


def _fetch(info: DatasetInfo, base: Path, wanted: dict[Path, str]) -> None:
    archives = defaultdict(list)
    for path, name in wanted.items():
        url = info.urls[name]
        if url.endswith(".zip"):
            archives[url].append(name)
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


def _explain(info: DatasetInfo, root: Path, addresses: dict[Path, str | None], reason: str) -> str:
    lines = [f"'{info.name}' needs these files:"]
    lines += [f"  {path}" + (f"  from {url}" if url else "") for path, url in addresses.items()]
    lines += [reason, f"The graph is published at {info.home}."]
    splits = [path.name for path in addresses if path.name in info.split_files]
    if splits:
        others = "".join(f" or {name}" for name in info.split_files if name not in splits)
        lines.append(f"The split is {splits[0]}{others} (node ids as train, valid, test; in an .npz train_0, ...);")
        lines.append("split='random-0' needs no such file.")
    lines.append(f"The root {root} is the argument `root`, else the variable MOWST_DATA, else ~/.cache/mowst.")
    return "\n".join(lines)
