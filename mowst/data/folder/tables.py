r"""Tables in files, as columns of numbers or text: :obj:`.csv`, :obj:`.npy`, :obj:`.parquet`."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mowst.convert import MISSING
from mowst.data.folder.text import TextFile
from mowst.io import CSR_PARTS, build_csr, load_npy, load_npz

if TYPE_CHECKING:
    from pandas import DataFrame, Series

ID_NAMES = ("id", "node", "node_id")
# The names under which the index of a table is written. R and pandas leave it without one.
INDEX_NAMES = ("", "unnamed: 0", "index", "level_0", "__index_level_0__", "rownames", "row.names")
TEXT = (".csv", ".tsv", ".txt")
IsHeader = Callable[[TextFile, "DataFrame"], bool]


@dataclass(frozen=True)
class Table:
    r"""The rows of a file.

    Args:
        path (Path): The file.
        frame (DataFrame): The columns, numbered from 0. Its index numbers the rows in the file.
        names (list[str]): The names of the columns in lower case; empty if the file has none.
        ids (Series, optional): The ids of the nodes, as numbers or text. (default: :obj:`None`)
        is_index (bool, optional): Whether the ids are an index, whose column has no name of ids.
            (default: :obj:`False`)
        text (TextFile, optional): The text, if the file is one. (default: :obj:`None`)
        header (str, optional): What the first row of the text is: :obj:`"names"` of columns, their
            :obj:`"numbers"`, or a row like others (:obj:`"none"`). (default: :obj:`""`)
        notes (list[str], optional): Decisions about the file. (default: :obj:`[]`)
    """

    path: Path
    frame: "DataFrame"
    names: list[str]
    ids: "Series | None" = None
    is_index: bool = False
    text: TextFile | None = None
    header: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        return self.frame.shape[1]

    @property
    def cells(self) -> list[list[Any]]:
        r"""The cells of each row."""
        return self.frame.to_numpy(dtype=object).tolist()

    def note(self, decision: str) -> None:
        self.notes.append(f"{self.path.name}: {decision}")

    def refuse(self, row: int, problem: str) -> NoReturn:
        r"""Raises an error about a row of the table, counted from 0."""
        row = int(self.frame.index[row])
        place = f"row {row}" if self.text is None else f"line {self.text.find_row(row)[0]}"
        raise ValueError(f"{self.path}, {place}: {problem}")

    def drop_index(self) -> "Table":
        r"""Returns the table without an index."""
        if self.ids is None or not self.is_index:
            return self
        self.note(f"the first column is an index of {len(self.ids)} rows, and left out")
        return replace(self, ids=None, is_index=False)


def read_table(path: Path, is_header: IsHeader, text_columns: str = "all") -> Table:
    r"""Reads a table of any values.

    Args:
        path (Path): The file.
        is_header (callable): Returns whether the first row of a text file, given with the other
            rows, holds the names of the columns. Raises an error if that is unclear.
        text_columns (str, optional): The columns of a text file that are kept as text:
            :obj:`"all"`, :obj:`"ids"` or :obj:`"none"`. The others have the types that pandas
            finds. (default: :obj:`"all"`)
    """
    if get_format(path) not in TEXT:
        return read_binary(path)
    import pandas as pd

    text = TextFile(path)
    columns: Sequence[int] = range(text.width if text_columns == "all" else 0)
    if text_columns == "ids":
        names = [cell.lower() for cell in text.first]
        columns = [k for k, name in enumerate(names) if name in ID_NAMES + INDEX_NAMES]
    parts = list(text.read(columns, first=2))
    body = pd.concat(parts) if parts else pd.DataFrame(columns=range(text.width), dtype=object)
    if text.width == 1:
        body = body[: len(body) - text.count_blank_lines()]
    try:
        has_header = text.comment or is_header(text, body)
    except ValueError as error:
        raise ValueError(f"{path}, line {text.find_row(1)[0]}: {error}") from None
    if not has_header:
        start = next(text.read(columns)).iloc[:1]
        body = pd.concat([start, body]) if len(body) else start
    names = [cell.lower() for cell in text.first] if has_header else []
    table = Table(path, body, names, text=text, header="names" if has_header else "none")
    if has_header and is_counted(text.first):
        numbered = ",".join(text.first)
        table.note(f"the first line, {numbered!r}, numbers the columns, and is no row")
        table = replace(table, header="numbers")
    return _name_columns(_drop_empty(table))


def _drop_empty(table: Table) -> Table:
    # A column behind a separator at the end of each line, and rows of separators alone at the end
    # of the file. To leave out others would shift the nodes.
    names, width = table.names, table.width
    is_empty = table.frame.isna() | (table.frame == "")
    if width > 1 and names[-1:] in ([], [""]) and is_empty.iloc[:, -1].all():
        frame = table.frame.drop(columns=width - 1)
        table, is_empty = replace(table, frame=frame, names=names[:-1]), is_empty.iloc[:, :-1]
    filled = np.flatnonzero(~is_empty.all(axis=1))
    count = len(is_empty) - filled[-1] - 1 if len(filled) else 0
    if table.width > 1 and count > 0:
        table.note(f"{count} rows at the end are empty, and left out")
        table = replace(table, frame=table.frame[:-count])
    return table


def read_binary(path: Path) -> Table:
    r"""Reads an array, a SciPy CSR matrix or a parquet file."""
    import pandas as pd

    kind = get_format(path)
    if kind == ".parquet":
        return _read_parquet(path)
    ids = None
    values = load_npy(path, mapped=True) if kind == ".npy" else None
    if values is None:
        values, ids = _read_npz(path)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.dtype.kind not in "biufUO":
        found = f"{values.dtype} of {values.shape}"
        raise ValueError(f"{path} must hold rows of numbers or text, got {found}")
    frame = pd.DataFrame(_convert(values), copy=False)
    return Table(path, frame, names=[], ids=None if ids is None else pd.Series(ids.ravel()))


def _name_columns(table: Table) -> Table:
    r"""Returns a table whose ids, or whose index, are no columns any more."""
    names = table.names
    if len(set(names)) < len(names) or sum(name in ID_NAMES for name in names) > 1:
        found = ", ".join(names)
        raise ValueError(f"{table.path} has two columns of the same name, or two of ids: {found}")
    while names and names[0] in INDEX_NAMES and (table.ids is None or table.is_index):
        if table.ids is not None:
            table = table.drop_index()
        table = _split_ids(table, 0, is_index=True)
        names = table.names
    for column, name in enumerate(names):
        if name in ID_NAMES:
            return _split_ids(table.drop_index(), column, is_index=False)
        if name == "":
            problem = f"the column {column + 1} has no name; give one, or leave it out"
            raise ValueError(f"{table.path}, line 1: {problem}")
    return replace(table, names=[]) if is_counted(names) else table


def _split_ids(table: Table, column: int, is_index: bool) -> Table:
    ids = table.frame.iloc[:, column]
    frame = table.frame.drop(columns=table.frame.columns[column])
    names = table.names[:column] + table.names[column + 1 :]
    return replace(table, frame=frame, names=names, ids=ids, is_index=is_index)


def split_counter(table: Table) -> Table:
    r"""Returns a table without names of columns whose first column, if it counts the rows from 0
    or 1, is an index.
    """
    if table.names or table.ids is not None or table.width < 2:
        return table
    if not counts_rows(table.frame.iloc[:, 0]):
        return table
    return _split_ids(table, 0, is_index=True)


def counts_rows(column: "Series") -> bool:
    r"""Returns whether a column of more than two rows counts them, from 0 or 1."""
    values = to_numbers(column)
    count = np.arange(len(values))
    return len(values) > 2 and any(np.array_equal(values, count + start) for start in (0, 1))


def to_numbers(column: "Series") -> np.ndarray:
    r"""Converts a column to numbers. A missing value, or one that is no number, is NaN."""
    import pandas as pd

    if column.dtype.kind in "biuf":
        return column.to_numpy()
    cells = column.where(~column.isin(MISSING), None)
    return pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def to_text(values: Sequence[Any]) -> list[str]:
    r"""Converts ids to text in the composed form of Unicode, without white space around it."""
    texts = [str(value).strip() for value in values]
    return [text if text.isascii() else unicodedata.normalize("NFC", text) for text in texts]


def is_counted(cells: list[str]) -> bool:
    r"""Returns whether cells are 0, 1, 2, ..., the names that pandas gives to columns. The first
    may be the missing name of an index.
    """
    if len(cells) > 1 and cells[0] == "":
        cells = cells[1:]
    return cells == [str(k) for k in range(len(cells))]


def are_numbered(paths: Sequence[Path]) -> bool:
    r"""Returns whether there are several files, all of them text that starts with 0, 1, 2, ..."""
    if any(get_format(path) not in TEXT for path in paths):
        return False
    return len(paths) > 1 and all(is_counted(TextFile(path).first) for path in paths)


def get_format(path: Path) -> str:
    r"""Returns the last suffix of a file in lower case, but :obj:`.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    arrays = load_npz(path)
    id_arrays = [arrays.pop(name) for name in ID_NAMES if name in arrays]
    ids = id_arrays[0] if id_arrays else None
    if set(CSR_PARTS) <= arrays.keys():
        kind = np.asarray(arrays.get("format", "csr")).astype(str).tolist()
        if kind != "csr":
            problem = f"holds a sparse matrix of the format {kind}; save its .tocsr()"
            raise ValueError(f"{path} {problem}")
        return build_csr(arrays, path).toarray(), ids
    if len(arrays) != 1 or len(id_arrays) > 1:
        wanted = "one array or a CSR matrix, and optionally id"
        raise ValueError(f"{path} must hold {wanted}; found {', '.join(arrays)}")
    return next(iter(arrays.values())), ids


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
    if not frame.index.equals(pd.RangeIndex(len(frame))):
        is_named = str(frame.index.name).lower() in ID_NAMES
        frame = frame.reset_index(names=frame.index.name if is_named else "")
    names = [str(name).lower() for name in frame.columns]
    for name in frame.columns:
        if frame[name].dtype.kind in "biuf" and not isinstance(frame[name].dtype, np.dtype):
            has_missing = frame[name].isna().any()
            frame[name] = frame[name].to_numpy(np.float64 if has_missing else None)
    frame.columns = range(len(names))
    return _name_columns(Table(path, frame, names))


def _convert(array: np.ndarray) -> np.ndarray:
    # Byte orders, unsigned and long numbers that torch does not support.
    dtype: Any = array.dtype.newbyteorder("=")
    if array.dtype.kind == "u":
        dtype = np.int64 if array.dtype.itemsize < 8 or (array < 2**63).all() else object
    elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
        dtype = np.float64
    return np.ascontiguousarray(array, dtype=dtype)
