r"""Atomic writes and safe readers. Nothing that is read here is executed. A reader raises a
:obj:`ValueError` that names the file if it is damaged or lacks a part.
"""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    from pandas import DataFrame
    from scipy.sparse import csr_matrix

CSR_PARTS = ("data", "indices", "indptr", "shape")


class _YamlLoader(yaml.SafeLoader):
    r"""Reads :obj:`1e-3` as a number. YAML 1.1 reads it as a string."""


class _YamlDumper(yaml.SafeDumper):
    r"""Quotes the strings that :class:`_YamlLoader` would read as numbers."""


_EXPONENT = re.compile(r"[-+]?\d+[eE][-+]?\d+$")
for _yaml_class in (_YamlLoader, _YamlDumper):
    _yaml_class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


@contextmanager
def atomic_write(path: str | PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    r"""Opens a file that appears under its name complete, or not at all.

    The content goes to a temporary file in the same folder, which then replaces :obj:`path`. After
    an error the temporary file is removed and an older :obj:`path` is unchanged. Missing folders
    are created.

    Args:
        path (str or Path): The file to write.
        mode (str, optional): :obj:`"wb"` for bytes, :obj:`"w"` for UTF-8 text.
            (default: :obj:`"wb"`)

    Raises:
        ValueError: If the mode is neither :obj:`"wb"` nor :obj:`"w"`.
        OSError: If the file cannot be written (full disk, no permission). Names the path.
    """
    if mode not in ("wb", "w"):
        raise ValueError(
            f"atomic_write replaces whole files: mode must be 'wb' or 'w', got '{mode}'"
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    encoding = None if mode == "wb" else "utf-8"
    try:
        with open(temporary, mode.replace("w", "x"), encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        move_into_place(temporary, path)
    except OSError as error:
        # The operating system does not name the file when the disk is full.
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def move_into_place(path: Path, place: Path) -> None:
    r"""Renames a file within its folder. A power failure leaves either the old or the new file."""
    os.replace(path, place)
    if os.name == "posix":  # Windows cannot open folders
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def open_lines(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    r"""Opens a file of lines to append to. An incomplete last line, left by an interrupted writer,
    is removed first.

    Raises:
        OSError: If the file cannot be written. Names the path.
    """
    try:
        with open(path, "a+b") as file:
            remove_torn_line(file)
            yield file
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def remove_torn_line(file: IO[bytes]) -> None:
    r"""Truncates a file behind its last complete line, and moves to its end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read() not in (b"", b"\n"):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)


def write_json(path: str | Path, value: Any) -> None:
    r"""Writes a value as indented JSON, atomically."""
    with atomic_write(path, mode="w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def write_yaml(path: str | Path, value: Any) -> None:
    r"""Writes plain containers, strings and numbers as YAML in the given order, atomically."""
    with atomic_write(path, mode="w") as file:
        yaml.dump(value, file, Dumper=_YamlDumper, sort_keys=False)


def read_yaml(path: str | Path) -> dict[str, Any]:
    r"""Reads a YAML mapping of plain values."""
    with open(path, encoding="utf-8") as file, parsing(path, "YAML file of plain values"):
        value = yaml.load(file, Loader=_YamlLoader)
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a mapping 'key: value', found {type(value).__name__}")
    return value


def read_json(path: str | Path) -> Any:
    r"""Reads a JSON file."""
    with open(path, encoding="utf-8") as file, parsing(path, "JSON file"):
        return json.load(file)


def load_npy(path: str | Path, mapped: bool = False) -> np.ndarray:
    r"""Reads a NumPy array (.npy). Pickled objects are refused. If :obj:`mapped`, values are read
    from the disk on access, and changes stay in memory.
    """
    with open(path, "rb") as file, parsing(path, "NumPy array (.npy) without pickled objects"):
        if mapped:
            return np.asarray(np.lib.format.open_memmap(path, mode="c"))
        return np.lib.format.read_array(file, allow_pickle=False)


def load_npz(path: str | Path, keys: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    r"""Reads the named arrays of a NumPy archive (.npz), or all. Pickled objects are refused."""
    with open(path, "rb") as file, parsing(path, "NumPy archive (.npz) without pickled objects"):
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        found = {}
        for key in archive.files if keys is None else keys:
            if key in archive.files:
                found[key] = archive[key]
                if not isinstance(found[key], np.ndarray):
                    raise ValueError(f"{key} is not an array")
    _require_keys(found, keys, path)
    return found


def build_csr(arrays: Mapping[str, np.ndarray], path: str | Path, prefix: str = "") -> "csr_matrix":
    r"""Builds a CSR matrix from its parts :obj:`CSR_PARTS`, which were read from a path."""
    from scipy.sparse import csr_matrix

    data, indices, indptr, shape = [arrays[f"{prefix}{part}"] for part in CSR_PARTS]
    try:
        matrix = csr_matrix((data, indices, indptr), shape=tuple(shape))
        matrix.check_format(full_check=True)
    except (TypeError, ValueError) as error:
        name = prefix.rstrip("_") or "it"
        raise ValueError(f"{path}: {name} is not a CSR matrix: {error}") from error
    return matrix


def load_csv(
    path: str | Path,
    header: bool = False,
    columns: Sequence[str] | None = None,
    dtype: Any = None,
) -> "DataFrame":
    r"""Reads a table of comma-separated values, plain or compressed (:obj:`.gz`): the named columns
    in this order, or all. An empty cell is text, which a numeric :obj:`dtype` refuses.
    """
    import pandas as pd

    with open(path, "rb") as file, parsing(path, "table of comma-separated values"):
        table = pd.read_csv(
            file,
            header=0 if header else None,
            dtype=dtype,
            compression="gzip" if str(path).endswith(".gz") else None,
            keep_default_na=False,
        )
    _require_keys(table, columns, path)
    return table if columns is None else table[list(columns)]


def load_mat(path: str | Path, keys: Sequence[str]) -> dict[str, Any]:
    r"""Reads variables of a MATLAB v5 file, dense ones as NumPy arrays, sparse ones as CSC."""
    from scipy.io import loadmat
    from scipy.sparse import issparse

    with open(path, "rb") as file, parsing(path, "MATLAB v5 file (.mat)"):
        found = loadmat(file, variable_names=list(keys))
        for value in found.values():
            if issparse(value):
                # Indices out of range would make SciPy read and write outside of its arrays.
                value.check_format(full_check=True)
    _require_keys(found, keys, path)
    return found


@contextmanager
def parsing(path: str | PathLike[str], kind: str) -> Iterator[None]:
    r"""Turns every error in the context into a :obj:`ValueError` that names the file."""
    # Parsers of broken files raise nearly anything: EOFError, KeyError, BadZipFile, zlib.error.
    try:
        yield
    except Exception as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path} is not a readable {kind}, or it is damaged: {why}") from error


def _require_keys(found: Any, keys: Sequence[str] | None, path: str | Path) -> None:
    missing = [key for key in keys or () if key not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
