r"""The result lines of a study, one JSON object per ended run. Writers may be killed."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import IO, Any

from filelock import Timeout

from mowst.locks import Lock

RESULTS = "results.jsonl"
RUN = ("id", "name", "data", "strong", "method", "seed", "split", "status")


def read_runs(folder: str | PathLike[str]) -> list[dict[str, Any]]:
    r"""Reads the lines of a study's folder.

    Raises:
        ValueError: If a line is damaged or is not the line of a run.
    """
    return read_lines(Path(folder) / RESULTS, keys=RUN)


def read_lines(path: str | PathLike[str], keys: Sequence[str] = ()) -> list[dict[str, Any]]:
    r"""Reads the lines of a file, none if it does not exist. An incomplete last line, left by an
    interrupted writer, is ignored.

    Args:
        path (str or Path): The file.
        keys (list[str], optional): The required keys of each line. (default: :obj:`()`)

    Raises:
        ValueError: If the file is not text, or a complete line is not a JSON object with these
            keys.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        texts = path.read_text(encoding="utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} holds no lines of JSON: {error}") from error
    lines = []
    for number, text in enumerate(texts, start=1):
        place = f"{path}, line {number}"
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{place} is damaged: {error}") from error
        if not isinstance(line, dict):
            raise ValueError(f"{place} is not a run: it is {text}")
        missing = [key for key in keys if key not in line]
        if missing:
            raise ValueError(f"{place} is not a run: it lacks {', '.join(missing)}")
        lines.append(line)
    return lines


def append_line(path: str | PathLike[str], line: Mapping[str, Any]) -> None:
    r"""Appends a line and waits until it is on the disk. One writer appends at a time. An
    incomplete last line, left by an interrupted writer, is removed first.

    Args:
        path (str or Path): The file.
        line (dict): Plain values.
    """
    content = (json.dumps(line) + "\n").encode()
    with Lock(f"{path}.lock"), open(path, "a+b") as file:
        remove_torn_line(file)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def select_newest(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    r"""Returns the last line of each id."""
    return list({line["id"]: line for line in lines}.values())


@contextmanager
def claim(path: str | PathLike[str]) -> Iterator[bool]:
    r"""A context that holds the lock at a path. Its value is whether this process got the lock. The
    operating system releases it when the process ends, even if it is killed.
    """
    lock = Lock(path, blocking=False)
    with suppress(Timeout):
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()


def is_torn(path: str | PathLike[str]) -> bool:
    r"""Whether the last line of a file is incomplete."""
    with open(path, "rb") as file:
        return _is_torn(file)


def remove_torn_line(file: IO[bytes]) -> None:
    r"""Truncates a file behind its last complete line."""
    if _is_torn(file):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _is_torn(file: IO[bytes]) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    return file.read() not in (b"", b"\n")
