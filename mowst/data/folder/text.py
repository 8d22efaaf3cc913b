r"""Text tables as pandas, R, databases and spreadsheets write them."""

import codecs
import csv
import gzip
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from mowst.convert import MISSING

if TYPE_CHECKING:
    from pandas import DataFrame

SEPARATORS = "\t;|,"
SAMPLE = 50  # lines that decide the separator and the decimal sign
CELLS = 2**22  # cells that are read at a time
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")


class TextFile:
    r"""A text table whose form is found in its first lines: UTF-8 or UTF-16, compressed with gzip
    or not; cells separated by commas, semicolons, tabs, bars or, between numbers, white space.
    Lines that start with # at the beginning are comments.

    Args:
        path (Path): The file.

    Attributes:
        first (list[str]): The cells of the first row, which may be a header. The header may be a
            comment, or lack the name of the first column, as R writes it.
        sample (list[list[str]]): Further rows.

    Raises:
        ValueError: If the file is empty or not a text table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            self._is_compressed = file.read(2) == b"\x1f\x8b"
        opener: Any = gzip.open if self._is_compressed else open
        try:
            with opener(path, "rb") as binary:
                mark = binary.read(2)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} is not a readable gzip file: {error}") from error
        is_wide = mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        self.encoding = "utf-16" if is_wide else "utf-8-sig"
        self.separator = ","
        self.comment = False
        self._skip = 0  # lines before the first row
        try:
            with self._open() as file:
                lines = list(islice(file, SAMPLE))
                self._read_head(lines, complete=not file.readline())
        except (csv.Error, UnicodeError, OSError, EOFError) as error:
            self._refuse_file(error)

    def _open(self) -> IO[str]:
        if self._is_compressed:
            return gzip.open(self.path, "rt", encoding=self.encoding, newline="")
        return open(self.path, encoding=self.encoding, newline="")

    def _read_head(self, lines: list[str], complete: bool) -> None:
        if lines and re.fullmatch(r"sep=[;,|\t]\s*", lines[0]):
            self._skip = 1  # of Excel
        marked = [line.startswith("#") for line in lines]
        comment = None
        while not all(marked) and self._skip < len(lines) and marked[self._skip]:
            comment = lines[self._skip].lstrip("#").strip()
            self._skip += 1
        body = lines[self._skip :]
        self.separator = _find_separator(body)
        rows = [row or [""] for row in self._split(body)]
        if not complete and len(rows) > 1:
            rows.pop()  # it may go on
        if not any(line.strip() for line in body):
            raise ValueError(f"{self.path} is empty")
        wide = [row for row in rows if any(row)] or rows
        self.width = max(len(wide[0]), min(len(row) for row in wide[1:2] or wide))
        if self.width > 1:
            rows = wide
            while body[1:] and not body[0].strip(' \t\r\n;,|"'):
                body.pop(0)
                self._skip += 1
        self.first, self.sample = rows[0], rows[1:]
        # The header of R's write.table has no name for the names of the rows.
        is_short = len(self.first) == self.width - 1
        is_named = any(row[-1] for row in self.sample if len(row) == self.width)
        second = "".join([line for line in body if line.strip()][1:2])
        if is_short and is_named and second.startswith('"'):
            self.first = ["", *self.first]
        elif is_short and not is_named:
            self.first = [*self.first, ""]  # a separator at the end of each other line
        elif len(self.first) < self.width and comment is None:
            found = f"it has {self.width} cells, the first row has {len(self.first)}"
            hint = "; with decimal commas, write points" if self.separator == "," else ""
            raise ValueError(f"{self.path}, line {self._skip + 2}: {found}{hint}")
        named = [] if comment is None else next(self._split([comment]), [])
        if len(named) == self.width and not all(map(is_number, named)):
            self.first, self.sample, self.comment = named, rows, True
        cells = [cell for row in self.sample for cell in row]
        has_commas = any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)
        self.decimal = "," if self.separator != "," and has_commas else "."

    def _split(self, lines: Any) -> Iterator[list[str]]:
        if self.separator == " ":
            return (line.split() for line in lines)
        reader = csv.reader(lines, delimiter=self.separator, skipinitialspace=True)
        return ([cell.strip() for cell in row] for row in reader)

    def read(self, text_columns: Sequence[int], first: int = 1) -> Iterator["DataFrame"]:
        r"""Reads the rows in parts, from the row :obj:`first` on. The index of a part counts rows
        from 1, of which the first may be the header.

        Args:
            text_columns (list[int]): The columns that are text, in which nothing is missing.
                pandas finds the types of the others.
            first (int, optional): The first row to read. (default: :obj:`1`)
        """
        import pandas as pd

        others = [column for column in range(self.width) if column not in text_columns]
        try:
            with self._open() as file, warnings.catch_warnings():
                for _ in range(self._skip):
                    file.readline()
                warnings.simplefilter("error", pd.errors.ParserWarning)
                parts = pd.read_csv(
                    file,
                    sep=r"\s+" if self.separator == " " else self.separator,
                    decimal=self.decimal,
                    header=None,
                    names=range(self.width),
                    index_col=False,
                    skiprows=first - 1 - self.comment,
                    skipinitialspace=True,
                    skip_blank_lines=self.width > 1,
                    keep_default_na=False,
                    low_memory=False,
                    chunksize=max(CELLS // self.width, 1),
                    dtype=dict.fromkeys(text_columns, object),
                    na_values={column: sorted(MISSING) for column in others},
                    na_filter=len(others) > 0,
                )
                for part in parts:
                    part.index += first
                    last = part[self.width - 1]
                    if (last.isna() | (last == "")).any() and self.width > 1:
                        self.check_widths()
                    yield part
        except pd.errors.EmptyDataError:
            return
        except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeError, EOFError) as error:
            self.check_widths()
            self._refuse_file(error)

    def find_row(self, number: int) -> tuple[int, list[str]]:
        r"""Returns the line in which a row ends, counted from 1, and the cells of the row."""
        rows = self._iterate()
        return next(islice(rows, number - 1 - self.comment, None))

    def check_widths(self) -> None:
        r"""Raises an error if a row has more or fewer cells than the first one."""
        try:
            for row, (line, cells) in enumerate(self._iterate()):
                is_header = row == 0 and not self.comment
                expected = len(self.first) if is_header else self.width
                is_short = is_header and len(cells) == self.width - 1
                if len(cells) != expected and not is_short:
                    problem = f"it has {len(cells)} cells, the first row has {len(self.first)}"
                    raise ValueError(f"{self.path}, line {line}: {problem}")
        except (csv.Error, UnicodeError) as error:
            self._refuse_file(error)

    def _iterate(self) -> Iterator[tuple[int, list[str]]]:
        with self._open() as file:
            for _ in range(self._skip):
                file.readline()
            if self.separator == " ":
                for line, text in enumerate(file, start=self._skip + 1):
                    if text.strip():
                        yield line, text.split()
                return
            reader = csv.reader(file, delimiter=self.separator, skipinitialspace=True)
            for row in reader:
                if self.width == 1 or len(row) > 1 or any(cell.strip() for cell in row):
                    yield self._skip + reader.line_num, [cell.strip() for cell in row or [""]]

    def count_blank_lines(self) -> int:
        r"""Returns the number of blank lines at the end of the file."""
        count = 0
        with self._open() as file:
            for line in file:
                count = 0 if line.strip() else count + 1
        return count

    def _refuse_file(self, error: Exception) -> NoReturn:
        hint = ""
        if isinstance(error, UnicodeError):
            hint = "; save it as 'CSV UTF-8'"
        elif "EOF inside string" in str(error):
            hint = '; a quote (") is not closed'
        kind = "UTF-8 table of separated values"
        raise ValueError(f"{self.path} is not a {kind}: {str(error).strip()}{hint}") from error


def is_number(cell: str, decimal: str = ".") -> bool:
    r"""Returns whether a cell is a finite number."""
    return _NUMBER.fullmatch(cell.replace(decimal, ".", 1)) is not None


def _find_separator(lines: list[str]) -> str:
    best, found = 0.0, ","
    for separator in SEPARATORS:
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
        widths = [len(row) for row in reader if row]
        width, count = Counter(widths).most_common(1)[0] if widths else (1, 0)
        if width > 1 and count / len(widths) > best:
            best, found = count / len(widths), separator
    rows = [line.split() for line in lines if line.strip()]
    if best == 0 and len(rows[-1] if rows else []) > 1:
        is_numeric = all(is_number(cell) for row in rows[1:] or rows for cell in row)
        return " " if is_numeric else found
    return found
