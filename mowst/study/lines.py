r"""The lines of a study: one JSON object for each run that ended, safe under several writers and sudden ends."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

RESULTS = "results.jsonl"
RUN = ("id", "name", "data", "strong", "method", "seed", "split", "status")


def read_runs(folder: str | PathLike[str]) -> list[dict[str, Any]]:
    r"""The lines of a study's folder, as :func:`read_lines`.

    Raises:
        ValueError: If a line is damaged or no run; names it.
    """
    return read_lines(Path(folder) / RESULTS, keys=RUN)


def read_lines(path: str | PathLike[str], keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    r"""The lines of a file, in the order in which the runs ended; none if there is no such file. A last line without
    its end was cut off while it was written, and is not there.

    Args:
        path (str or Path): The file.
        keys (list[str], optional): What each line must have. (default: :obj:`()`)

    Raises:
        ValueError: If it is no text, or a whole line is no JSON object of these keys; names it.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        *whole, _ = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} holds no lines of JSON: {error}") from error
    lines = []
    for number, text in enumerate(whole, start=1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is damaged: {error}") from error
        if not isinstance(lines[-1], dict):
            raise ValueError(f"{path}, line {number} is no run: it is {text}")
        if lacking := [key for key in keys if key not in lines[-1]]:
            raise ValueError(f"{path}, line {number} is no run: it lacks {', '.join(lacking)}")
    return lines


def append_line(path: str | PathLike[str], line: Mapping[str, Any]) -> None:
    r"""Appends a line and waits until it is on the disk, one writer at a time. What an interrupted writer left of its
    line is removed first.

    Args:
        path (str or Path): The file.
        line (dict): Plain values.
    """
    content = (json.dumps(line) + "\n").encode()
    with FileLock(f"{path}.lock"), open(path, "a+b") as file:
        _remove_torn_line(file)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def newest_lines(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    r"""The line that counts of each run: the last one of its id."""
    return list({line["id"]: line for line in lines}.values())


@contextmanager
def claim(path: str | PathLike[str]) -> Iterator[bool]:
    r"""A context which tells whether the claim at a path is this process's. The operating system holds it, so it ends
    with the process, however that ends.
    """
    lock = FileLock(path, blocking=False)
    with suppress(Timeout):
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _remove_torn_line(file: IO[bytes]) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read() not in (b"", b"\n"):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
