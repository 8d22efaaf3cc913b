r"""The result lines of a study, one JSON object per ended run. Writers may be killed."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from filelock import Timeout

from mowst.io import open_lines
from mowst.locks import Lock
from mowst.train.environment import describe_other_version

RESULTS = "results.jsonl"
NUMBER = int | float | None
# The fields of every line, and their types.
RUN: dict[str, Any] = {
    **dict.fromkeys(("id", "name", "data", "strong", "method"), str),
    **{"seed": int, "split": int | str, "status": str},
}
# What else a report reads, by the status of a run, and what it reads where a line has it.
REPORTED: dict[str, dict[str, Any]] = {
    "finished": {
        **{"metric": str, "route": str, "settings": dict, "evaluations": int},
        **{"seconds": int | float, "train": NUMBER, "val": NUMBER, "test": NUMBER},
    },
    "failed": {"error": str},
}
OPTIONAL: dict[str, Any] = {
    **{"has_gate": bool, "settings": dict, "alone": dict, "environment": dict | None},
    **dict.fromkeys(("expected", "deferred_share", "total_seconds", "peak_mib"), NUMBER),
    **{"parameters": NUMBER, "sizes": dict, "published": dict | None},
}


def read_runs(folder: str | PathLike[str], reported: bool = False) -> list[dict[str, Any]]:
    r"""Reads the lines of a study's folder. Other fields, of another version, are ignored.

    Args:
        folder (str): The folder.
        reported (bool, optional): If set to :obj:`True`, lines must have what a report reads.
            (default: :obj:`False`)

    Raises:
        ValueError: If a line is damaged or is not the line of a run.
    """
    path = Path(folder) / RESULTS
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        needed, known = RUN, RUN
        if reported:
            needed = {**RUN, **REPORTED.get(str(line.get("status")), {})}
            known = {**OPTIONAL, **needed}
        problems = [f"it lacks {key}" for key in needed if key not in line]
        for key, kind in known.items():
            if key in line and not isinstance(line[key], kind):
                problems.append(f"its {key} is {line[key]!r}")
        if problems:
            other = describe_other_version(line.get("environment"))
            raise ValueError(f"{path}, line {number} is not a run: {', '.join(problems)}{other}")
    return lines


def read_lines(path: str | PathLike[str]) -> list[dict[str, Any]]:
    r"""Reads the lines of a file, none if it does not exist. An incomplete last line, left by an
    interrupted writer, is ignored.

    Args:
        path (str or Path): The file.

    Raises:
        ValueError: If the file is not text, or a complete line is not a JSON object.
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
    with Lock(f"{path}.lock"), open_lines(path) as file:
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
