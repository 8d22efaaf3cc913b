r"""Atomic files and safe readers. Nothing read here can run code or leave a half-written file behind."""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import scipy.io
import yaml
from scipy.sparse import csr_matrix, issparse

CSR_PARTS = ("data", "indices", "indptr", "shape")


class _YamlLoader(yaml.SafeLoader):
    r"""YAML 1.1 reads :obj:`1e-3` as a string; here it is the number that everybody means."""


class _YamlDumper(yaml.SafeDumper):
    r"""Quotes the strings that :class:`_YamlLoader` would read as numbers."""


_EXPONENT = re.compile(r"[-+]?\d+[eE][-+]?\d+$")
for _side in (_YamlLoader, _YamlDumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


@contextmanager
def atomic_write(path: str | PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    r"""Opens a file that appears under its name complete, or not at all.

    The content goes to a temporary file in the same folder, which replaces :obj:`path` once it is on the disk. On an
    error the temporary file is removed and an older :obj:`path` is left as it was. Missing folders are made.

    Args:
        path (str or Path): The file to write.
        mode (str, optional): :obj:`"wb"` for bytes, :obj:`"w"` for UTF-8 text. (default: :obj:`"wb"`)

    Raises:
        ValueError: If the mode is another.
        OSError: If the file cannot be written (a full disk, no permission); names the path.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"atomic_write replaces whole files: mode must be 'wb' or 'w', got '{mode}'")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, mode.replace("w", "x"), encoding=None if mode == "wb" else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        move_into_place(temporary, path)
    except OSError as error:
        # The operating system names no file when a write finds the disk full.
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def move_into_place(path: Path, place: Path) -> None:
    r"""Gives a file of the same folder, whose content is on the disk, another name: also after a power failure there is
    the older file of that name or this one.
    """
    os.replace(path, place)
    if os.name == "posix":  # Windows opens no folders
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


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
    r"""Reads a mapping of plain values.

    Raises:
        ValueError: If the file is not YAML, asks for Python objects, or does not hold a mapping.
    """
    with open(path, encoding="utf-8") as file, parsing(path, "YAML file of plain values"):
        value = yaml.load(file, Loader=_YamlLoader)
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a mapping 'key: value', found {type(value).__name__}")
    return value


def read_json(path: str | Path) -> Any:
    r"""Reads a JSON file.

    Raises:
        ValueError: If it is none.
    """
    with open(path, encoding="utf-8") as file, parsing(path, "JSON file"):
        return json.load(file)


def load_npy(path: str | Path, mapped: bool = False) -> np.ndarray:
    r"""Reads a single NumPy array; pickled objects inside are refused.

    Args:
        path (str or Path): The :obj:`.npy` file.
        mapped (bool, optional): If set to :obj:`True`, the file is mapped: values are read when they are touched, and
            what is written to them stays in memory. The file must not change meanwhile. (default: :obj:`False`)

    Raises:
        ValueError: If the file is no readable array.
    """
    with open(path, "rb") as file, parsing(path, "NumPy array (.npy) without pickled objects"):
        if mapped:
            return np.asarray(np.lib.format.open_memmap(path, mode="c"))
        return np.lib.format.read_array(file, allow_pickle=False)


def load_npz(path: str | Path, keys: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    r"""Reads the arrays of a NumPy archive; pickled objects inside are refused.

    Args:
        path (str or Path): The :obj:`.npz` file.
        keys (sequence of str, optional): The arrays to read. :obj:`None` reads all. (default: :obj:`None`)

    Raises:
        ValueError: If the file is no readable archive, or lacks a key.
    """
    with open(path, "rb") as file, parsing(path, "NumPy archive (.npz) without pickled objects"):
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        found = {key: archive[key] for key in (archive.files if keys is None else keys) if key in archive.files}
        if wrong := [key for key, value in found.items() if not isinstance(value, np.ndarray)]:
            raise ValueError(f"it holds {wrong[0]}, which is no array")
    return _require(found, keys, path)


def csr_of(arrays: Mapping[str, np.ndarray], path: str | Path, prefix: str = "") -> csr_matrix:
    r"""The matrix whose parts are :obj:`data`, :obj:`indices`, :obj:`indptr`, :obj:`shape`, named after a prefix.

    Raises:
        ValueError: If they are not those of a CSR matrix; names the path that they were read from.
    """
    data, indices, indptr, shape = (arrays[f"{prefix}{part}"] for part in CSR_PARTS)
    try:
        csr = csr_matrix((data, indices, indptr), shape=tuple(shape))
        csr.check_format(full_check=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {prefix.rstrip('_') or 'it'} is not a CSR matrix: {error}") from error
    return csr


def load_csv(
    path: str | Path, header: bool = False, columns: Sequence[str] | None = None, dtype: Any = None
) -> pd.DataFrame:
    r"""Reads a table of comma-separated values, :obj:`.gz` or plain. An empty cell is text, which a :obj:`dtype` of
    numbers refuses.

    Args:
        path (str or Path): The file.
        header (bool, optional): Whether the first line names the columns. (default: :obj:`False`)
        columns (sequence of str, optional): The columns to read, in this order. :obj:`None` reads all.
            (default: :obj:`None`)
        dtype (optional): The type of all values. (default: :obj:`None`)

    Raises:
        ValueError: If the file is no readable table of such values, or lacks a column.
    """
    with open(path, "rb") as file, parsing(path, "table of comma-separated values"):
        compression = "gzip" if str(path).endswith(".gz") else None
        first = 0 if header else None
        table = pd.read_csv(file, header=first, dtype=dtype, compression=compression, keep_default_na=False)
    _require(dict(table), columns, path)
    return table if columns is None else table[list(columns)]


def load_mat(path: str | Path, keys: Sequence[str]) -> dict[str, Any]:
    r"""Reads variables of a MATLAB v5 file: dense ones as NumPy arrays, sparse ones as SciPy CSC.

    Args:
        path (str or Path): The :obj:`.mat` file.
        keys (sequence of str): The variables to read.

    Raises:
        ValueError: If the file is no readable MATLAB file, or lacks a variable.
    """
    with open(path, "rb") as file, parsing(path, "MATLAB v5 file (.mat)"):
        found = scipy.io.loadmat(file, variable_names=list(keys))
        _check_sparse(*found.values())
    return _require(found, keys, path)


@contextmanager
def parsing(path: str | PathLike[str], kind: str) -> Iterator[None]:
    r"""A context in which every error means that a file is none of its kind: a :obj:`ValueError` that names it."""
    # The parsers of broken files raise nearly anything: EOFError, KeyError, BadZipFile, zlib.error, struct.error.
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path} is not a readable {kind}, or it is damaged: {error}") from error


def _check_sparse(*values: Any) -> None:
    # Out-of-range indices would make SciPy read and write outside of its arrays.
    for value in filter(issparse, values):
        value.check_format(full_check=True)


def _require(found: dict[str, Any], keys: Sequence[str] | None, path: str | Path) -> dict[str, Any]:
    if missing := [key for key in keys or () if key not in found]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return found
