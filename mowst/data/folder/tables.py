r"""Tables in files, as arrays: :obj:`.csv`, :obj:`.npy`, :obj:`.npz`, :obj:`.parquet`."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mowst.io import CSR_PARTS, build_csr, load_npy, load_npz

ID_NAMES = ("id", "node", "node_id")
CHUNK = 4096  # rows of text that are converted at a time


@dataclass(frozen=True)
class Table:
    r"""The rows of a file.

    Args:
        path (Path): The file.
        values (np.ndarray): Numbers, or text without white space around it, :math:`(R, C)`.
        names (list[str]): The names of the columns in lower case; empty if the file has none.
        ids (np.ndarray, optional): The column named :obj:`id`, :obj:`node` or :obj:`node_id`, as
            text, :math:`(R)`. (default: :obj:`None`)
        first_row (int, optional): The number of the first row in the file. (default: :obj:`0`)
    """

    path: Path
    values: np.ndarray
    names: list[str]
    ids: np.ndarray | None = None
    first_row: int = 0

    @property
    def width(self) -> int:
        return self.values.shape[1]

    def refuse(self, row: int, problem: str) -> NoReturn:
        r"""Raises an error about a row, counted from 0."""
        raise ValueError(f"{self.path}, row {self.first_row + row}: {problem}")

    def to_numbers(self) -> "Table":
        r"""Returns the table with text converted to float32. Raises an error that names the row of
        a value that is not a number.
        """
        if self.values.dtype.kind in "biuf":
            return self
        try:
            with np.errstate(over="ignore"):  # the task reports infinite values
                return replace(self, values=self.values.astype(np.float64).astype(np.float32))
        except (TypeError, ValueError):
            for row, cells in enumerate(self.values):
                for cell in cells:
                    if not is_number(cell):
                        self.refuse(row, f"{cell!r} is not a number")
            raise


def read_table(path: Path, is_header: Callable[[list[str]], bool], numbers: bool = False) -> Table:
    r"""Reads a table of any values, or of :obj:`numbers`. A :obj:`.csv` file is UTF-8 text with
    commas, and its rows have the same number of cells. :obj:`is_header` decides whether its first
    row holds the names of the columns, or raises an error if that is unclear. A :obj:`.npz` file
    holds one array or a SciPy CSR matrix, and optionally ids.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _read_csv(path, is_header, numbers)
    table = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}[suffix](path)
    values = table.values
    if values.ndim != 2 or values.dtype.kind not in "biufUO":
        found = f"{values.dtype} of {values.shape}"
        raise ValueError(f"{path} must hold rows of numbers or text, got {found}")
    return table.to_numbers() if numbers else table


def _read_csv(path: Path, is_header: Callable[[list[str]], bool], numbers: bool) -> Table:
    rows = _iterate_rows(path)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{path} is empty")
    try:
        has_header = is_header([cell.strip() for cell in first])
    except ValueError as error:
        raise ValueError(f"{path}, row 1: {error}") from None
    names = [cell.strip().lower() for cell in first] if has_header else []
    if "" in names:
        problem = f"the column {names.index('') + 1} has no name; give one, or leave it out"
        raise ValueError(f"{path}, row 1: {problem}")
    id_column = _find_id_column(path, names)
    width = len(first)
    if id_column is not None:
        width -= 1
        names.pop(id_column)
    if not has_header:
        rows = chain([first], rows)
    first_row = next_row = 2 if has_header else 1
    chunks: list[np.ndarray] = []
    ids: list[str] = []
    chunk = list(islice(rows, CHUNK))
    while chunk:
        if id_column is not None:
            ids += [row.pop(id_column).strip() for row in chunk]
        if numbers:
            table = Table(path, _make_array(chunk, width), names, first_row=next_row)
            chunks.append(table.to_numbers().values)
        else:
            chunks.append(_make_array([[cell.strip() for cell in row] for row in chunk], width))
        next_row += len(chunk)
        chunk = list(islice(rows, CHUNK))
    values = np.concatenate(chunks) if chunks else _make_array([], width)
    ids_array = None if id_column is None else _make_array(ids)
    return Table(path, values, names, ids=ids_array, first_row=first_row)


def _iterate_rows(path: Path) -> Iterator[list[str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        width = 0
        try:
            for number, row in enumerate(csv.reader(file, strict=True), start=1):
                row = row or [""]
                width = width or len(row)
                if len(row) != width:
                    problem = f"it has {len(row)} cells, the first row has {width}"
                    raise ValueError(f"{path}, row {number}: {problem}")
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            kind = "UTF-8 table of comma-separated values"
            raise ValueError(f"{path} is not a {kind}: {error}") from error


def _read_npy(path: Path) -> Table:
    return Table(path, _convert(load_npy(path, mapped=True)), names=[])


def _read_npz(path: Path) -> Table:
    arrays = load_npz(path)
    id_arrays = [arrays.pop(name) for name in ID_NAMES if name in arrays]
    ids = _to_text(id_arrays[0]) if id_arrays else None
    if set(CSR_PARTS) <= arrays.keys():
        kind = np.asarray(arrays.get("format", "csr")).astype(str).tolist()
        if kind != "csr":
            problem = f"holds a sparse matrix of the format {kind}; save its .tocsr()"
            raise ValueError(f"{path} {problem}")
        return Table(path, _convert(build_csr(arrays, path).toarray()), names=[], ids=ids)
    if len(arrays) != 1 or len(id_arrays) > 1:
        wanted = "one array or a CSR matrix, and optionally id"
        raise ValueError(f"{path} must hold {wanted}; found {', '.join(arrays)}")
    return Table(path, _convert(*arrays.values()), names=[], ids=ids)


def _read_parquet(path: Path) -> Table:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except ImportError:
        hint = "'pip install pyarrow', or write it as .csv or .npy"
        raise ValueError(f"{path} needs pyarrow: {hint}") from None
    except Exception as error:  # pyarrow documents no exceptions for broken files
        problem = "is not a readable parquet file, or it is damaged"
        raise ValueError(f"{path} {problem}: {error}") from error
    names = [str(name).lower() for name in frame.columns]
    id_column = _find_id_column(path, names)
    ids = None
    if id_column is not None:
        ids = _to_text(frame.iloc[:, id_column].to_numpy())
        frame = frame.drop(columns=frame.columns[id_column])
        names.pop(id_column)
    return Table(path, frame.to_numpy(na_value=np.nan), names, ids=ids)


def _convert(array: np.ndarray) -> np.ndarray:
    # Byte orders, unsigned and long numbers that torch does not support.
    dtype: Any = array.dtype.newbyteorder("=")
    if array.dtype.kind == "u":
        dtype = np.int64
    elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
        dtype = np.float64
    array = np.ascontiguousarray(array, dtype=dtype)
    return array[:, None] if array.ndim == 1 else array


def _find_id_column(path: Path, names: list[str]) -> int | None:
    columns = [column for column, name in enumerate(names) if name in ID_NAMES]
    if len(columns) > 1 or len(set(names)) < len(names):
        found = ", ".join(names)
        raise ValueError(f"{path} has two columns of the same name, or two of ids: {found}")
    return columns[0] if columns else None


def _make_array(cells: list, width: int | None = None) -> np.ndarray:
    # An array of objects, since numpy gives every text the room of the longest.
    array = np.empty((len(cells),) if width is None else (len(cells), width), dtype=object)
    if cells:
        array[:] = cells
    return array


def _to_text(values: np.ndarray) -> np.ndarray:
    return _make_array([str(value).strip() for value in values.ravel().tolist()])


def is_number(cell: Any) -> bool:
    r"""Returns whether Python reads a cell as a number."""
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True
