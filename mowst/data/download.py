r"""Download of single files: resumed, checked, and in place complete or not at all."""

import errno
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from mowst.io import atomic_write, move_into_place, read_json, write_json
from mowst.locks import Lock

RECORD, LOCK = "downloads.json", "downloads.lock"
CHUNK = 1 << 20
RANGE_NOT_SATISFIABLE = 416
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def lock_downloads(folder: Path) -> Lock:
    r"""Returns a context in which no other process downloads into a folder. A thread may enter it
    twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return Lock(folder / LOCK, is_singleton=True)


def download(url: str, path: Path, sha256: str | None = None, timeout: float = 30) -> None:
    r"""Downloads a file. An incomplete file stays as :obj:`<name>.part`, and the next call resumes
    it. Size and checksum of the first download are recorded in :obj:`downloads.json` next to the
    file. A later download must match them.

    Args:
        url (str): The address.
        path (Path): The file to write. Missing folders are created.
        sha256 (str, optional): The known checksum. (default: :obj:`None`)
        timeout (float, optional): The seconds to wait for the server. (default: :obj:`30`)

    Raises:
        OSError: If the server does not respond, the response ends early, or the disk is full.
        ValueError: If the server sends another file.
    """
    part, record = path.with_name(f"{path.name}.part"), path.with_name(RECORD)
    with lock_downloads(path.parent):
        _receive(url, part, timeout)
        known = read_json(record) if record.is_file() else {}
        with open(part, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        expected = sha256 or known.get(path.name, {}).get("sha256", digest)
        if digest != expected:
            part.unlink()
            source = "the known checksum" if sha256 else f"recorded in {record}"
            problem = f"SHA-256 {digest}, not {expected} ({source})"
            raise ValueError(f"{url} sent another file: {problem}")
        known[path.name] = {"url": url, "size": part.stat().st_size, "sha256": digest}
        write_json(record, known)
        move_into_place(part, path)


def unpack(archive: Path, folder: Path, files: Iterable[str]) -> None:
    r"""Writes the named files of a zip archive into a folder, and no others. In the archive they
    are below one top folder.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = {name.partition("/")[2]: name for name in content.namelist()}
            missing = [file for file in files if file not in members]
            if missing:
                raise ValueError(f"{archive} lacks {', '.join(missing)}")
            for file in files:
                with content.open(members[file]) as source, atomic_write(folder / file) as target:
                    shutil.copyfileobj(source, target, CHUNK)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        problem = "is not a readable zip archive, or it is damaged"
        raise ValueError(f"{archive} {problem}: {error}") from error


def _receive(url: str, part: Path, timeout: float) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from tqdm import tqdm

    received = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "mowst"}
    if received:
        headers["Range"] = f"bytes={received}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not received:
            raise
        # Nothing follows what was received: it may be complete, or belong to another file.
        part.unlink()
        return _receive(url, part, timeout)
    with response:
        if response.headers.get_content_type() == "text/html":
            raise ValueError(f"{url} returns a web page instead of the file")
        resumes = response.headers.get("Content-Range", "").startswith(f"bytes {received}-")
        start = received if resumes else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(
            desc=part.stem, initial=start, total=total, unit="B", unit_scale=True, disable=None
        )
        try:
            with bar, open(part, "ab" if start else "wb") as file:
                chunk = response.read(CHUNK)
                while chunk:
                    bar.update(file.write(chunk))
                    chunk = response.read(CHUNK)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno in FULL:
                error.filename = str(part)
            raise
    size = part.stat().st_size
    if total is not None and size != total:
        raise OSError(f"{url} ended after {size} of {total} bytes; the next call resumes there")
