r"""One file from its publisher: resumed, checked, and in its place whole or not at all."""

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from mowst.io import atomic_write, move_into_place, read_json, write_json

RECORD, LOCK = "downloads.json", "downloads.lock"
CHUNK = 1 << 20
RANGE_NOT_SATISFIABLE = 416


def downloading(folder: Path) -> FileLock:
    r"""A context in which no other process downloads into a folder; one waits for the other. A thread may enter it
    twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / LOCK, is_singleton=True)


def download(url: str, path: Path, sha256: str | None = None, timeout: float = 30) -> None:
    r"""Downloads a file. What has arrived so far waits beside it as :obj:`<name>.part`, from which the next call goes
    on. Size and checksum of the first download are recorded in :obj:`downloads.json` beside it; a later one must have
    the same.

    Args:
        url (str): The address.
        path (Path): The file to write. Missing folders are made.
        sha256 (str, optional): The checksum, :obj:`None` if not known. (default: :obj:`None`)
        timeout (float, optional): The seconds without an answer after which to give up. (default: :obj:`30`)

    Raises:
        OSError: If the address does not answer, or the answer ends early.
        ValueError: If what it sends is not the file.
    """
    with downloading(path.parent):
        _download(url, path, sha256, timeout)


def _download(url: str, path: Path, sha256: str | None, timeout: float) -> None:
    part, record = path.with_name(f"{path.name}.part"), path.with_name(RECORD)
    _receive(url, part, timeout)
    known = read_json(record) if record.is_file() else {}
    with open(part, "rb") as file:
        found = {"size": part.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    expected = sha256 or known.get(path.name, found)["sha256"]
    if found["sha256"] != expected:
        part.unlink()
        source = "known" if sha256 else f"recorded in {record}"
        raise ValueError(f"{url} sent another file than the {source} one: SHA-256 {found['sha256']}, not {expected}")
    write_json(record, known | {path.name: {"url": url, **found}})
    move_into_place(part, path)


def unpack(archive: Path, folder: Path, files: Iterable[str]) -> None:
    r"""Writes files of a zip archive, which lie there below one top folder, and no others.

    Args:
        archive (Path): The archive.
        folder (Path): The folder that takes the place of the top folder.
        files (iterable of str): The names of the files below that folder.

    Raises:
        ValueError: If the archive is damaged, or lacks a file.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = {name.partition("/")[2]: name for name in content.namelist()}
            if missing := [file for file in files if file not in members]:
                raise ValueError(f"{archive} lacks {', '.join(missing)}")
            for file in files:
                with content.open(members[file]) as source, atomic_write(folder / file) as target:
                    shutil.copyfileobj(source, target, CHUNK)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{archive} is not a readable zip archive, or it is damaged: {error}") from error


def _receive(url: str, part: Path, timeout: float) -> None:
    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "mowst"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not have:
            raise
        # There is nothing after what has arrived, so that it may be whole, or of another file.
        part.unlink()
        return _receive(url, part, timeout)
    with response:
        if response.headers.get_content_type() == "text/html":
            raise ValueError(f"{url} answers with a web page instead of the file")
        start = have if response.headers.get("Content-Range", "").startswith(f"bytes {have}-") else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(desc=part.stem, initial=start, total=total, unit="B", unit_scale=True, disable=None)
        with bar, open(part, "ab" if start else "wb") as file:
            while chunk := response.read(CHUNK):
                bar.update(file.write(chunk))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and (size := part.stat().st_size) != total:
        raise OSError(f"{url} ended after {size} of {total} bytes; the next call goes on from there")
