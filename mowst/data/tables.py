r"""Tables in files, as arrays: :obj:`.csv`, :obj:`.npy`, :obj:`.npz`, :obj:`.parquet`."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from mowst.io import CSR_PARTS, csr_of, load_npy, load_npz

ID_NAMES = ("id", "node", "node_id")
CHUNK = 4096
Header = Callable[[list[str]], bool]


@dataclass(frozen=True)
class Table:
    r"""The rows of a file.

    Args:
        path (Path): The file.
        values (np.ndarray): Numbers, or text without white space around it.
        names (list[str]): The names of the columns in lower case; empty if the file has none.
        ids (np.ndarray): The column named :obj:`id`, :obj:`node` or :obj:`node_id`, as text; else :obj:`None`.
        first_row (int): What the file's own counting calls the first of the rows.

    Shapes:
        - **values:** :math:`(R, C)`, **ids:** :math:`(R)`
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

    def numbers(self) -> "Table":
        r"""The same with values that are numbers; those that were text become float32.

        Raises:
            ValueError: If one is none; names its row.
        """
        if self.values.dtype.kind in "biuf":
            return self
        try:
            with np.errstate(over="ignore"):  # an infinity is told of later
                return replace(self, values=self.values.astype(np.float64).astype(np.float32))
        except (TypeError, ValueError):
            row, cell = next(
                (row, cell) for row, cells in enumerate(self.values) for cell in cells if not is_number(cell)
            )
            self.refuse(row, f"{cell!r} is no number")


def read_table(path: Path, header: Header, numbers: bool = False) -> Table:
    r"""Reads a table. A :obj:`.csv` file is UTF-8 text with commas, all of its rows have as many cells, and numbers in
    it are what Python takes for one; a :obj:`.npz` file holds one array or a SciPy CSR matrix, and perhaps ids.

    Args:
        path (Path): The file.
        header (callable): Whether the cells of the first row of a :obj:`.csv` file are the names of its columns, or an
            error if that is unclear; those of a :obj:`.parquet` file always have names.
        numbers (bool, optional): Whether all values must be numbers. (default: :obj:`False`)

    Raises:
        ValueError: If the file is damaged, or is no such table; names it, and the row where there is one.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _read_csv(path, header, numbers)
    table = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}[suffix](path)
    if table.values.ndim != 2 or table.values.dtype.kind not in "biufUO":
        raise ValueError(f"{path} must hold rows of numbers or text, got {table.values.dtype} of {table.values.shape}")
    return table.numbers() if numbers else table


def _read_csv(path: Path, header: Header, numbers: bool) -> Table:
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{path} is empty")
    try:
        named = header([cell.strip() for cell in first])
    except ValueError as error:
        raise ValueError(f"{path}, row 1: {error}") from None
    names = [cell.strip().lower() for cell in first] if named else []
    if named and "" in names:
        raise ValueError(f"{path}, row 1: the column {names.index('') + 1} has no name; give one, or leave it out")
    id_column = _id_column(path, names)
    ids: list[str] = []
    width, start = len(first) - (id_column is not None), 1 + named
    rows = rows if named else chain([first], rows)
    chunks: list[np.ndarray] = []
    while chunk := list(islice(rows, CHUNK)):
        if id_column is not None:
            ids += [row.pop(id_column).strip() for row in chunk]
        kept = chunk if numbers else [[cell.strip() for cell in row] for row in chunk]
        part = Table(path, _array(kept, width), names, first_row=start + CHUNK * len(chunks))
        chunks.append(part.numbers().values if numbers else part.values)
    names = [name for column, name in enumerate(names) if column != id_column]
    values = np.concatenate(chunks) if chunks else _array([], width)
    return Table(path, values, names, ids=_array(ids) if id_column is not None else None, first_row=start)


def _rows(path: Path) -> Iterator[list[str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader, width = csv.reader(file, strict=True), None
        try:
            for number, row in enumerate(reader, start=1):
                row = row or [""]
                width = width or len(row)
                if len(row) != width:
                    raise ValueError(f"{path}, row {number}: it has {len(row)} cells, the first row has {width}")
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no UTF-8 table of comma-separated values: {error}") from None


def _read_npy(path: Path) -> Table:
    return Table(path, _rows_of(load_npy(path, mapped=True)), names=[])


def _read_npz(path: Path) -> Table:
    arrays = load_npz(path)
    ids = [arrays.pop(name) for name in ID_NAMES if name in arrays]
    if set(CSR_PARTS) <= arrays.keys():
        if (kind := np.asarray(arrays.get("format", "csr")).astype(str).tolist()) != "csr":
            raise ValueError(f"{path} holds a sparse matrix of the format {kind}; save its .tocsr()")
        return Table(path, _rows_of(csr_of(arrays, path).toarray()), names=[], ids=_texts(ids[0]) if ids else None)
    if len(arrays) != 1 or len(ids) > 1:
        raise ValueError(f"{path} must hold one array or a CSR matrix, and perhaps id; found {', '.join(arrays)}")
    return Table(path, _rows_of(*arrays.values()), names=[], ids=_texts(ids[0]) if ids else None)


def _read_parquet(path: Path) -> Table:
    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise ValueError(f"{path} needs pyarrow: 'pip install pyarrow', or write it as .csv or .npy") from None
    except Exception as error:  # what pyarrow raises of a broken file is not settled
        raise ValueError(f"{path} is not a readable parquet file, or it is damaged: {error}") from error
    names = [str(name).lower() for name in frame.columns]
    id_column = _id_column(path, names)
    rest = [column for column in range(len(names)) if column != id_column]
    ids = None if id_column is None else _texts(frame.iloc[:, id_column].to_numpy())
    return Table(path, frame.iloc[:, rest].to_numpy(na_value=np.nan), [names[column] for column in rest], ids=ids)


def _rows_of(array: np.ndarray) -> np.ndarray:
    # What torch has no type for: foreign byte orders, unsigned and long numbers.
    kind = {"u": np.int64, "f": np.float64 if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")}
    array = np.ascontiguousarray(array, dtype=kind.get(array.dtype.kind, array.dtype.newbyteorder("=")))
    return array[:, None] if array.ndim == 1 else array


def _id_column(path: Path, names: list[str]) -> int | None:
    found = [column for column, name in enumerate(names) if name in ID_NAMES]
    if len(found) > 1 or len(set(names)) < len(names):
        raise ValueError(f"{path} has two columns of one name, or two of ids: {', '.join(names)}")
    return found[0] if found else None


def _array(cells: list, width: int | None = None) -> np.ndarray:
    # Of objects, since numpy gives every text the room of the longest.
    array = np.empty((len(cells),) if width is None else (len(cells), width), dtype=object)
    array[:] = cells if cells else array
    return array


def _texts(values: np.ndarray) -> np.ndarray:
    return _array([str(value).strip() for value in values.ravel().tolist()])


def is_number(cell: object) -> bool:
    r"""Whether Python takes it for a number."""
    try:
        float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
