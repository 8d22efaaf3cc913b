r"""Features in a folder of files."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mowst.convert import MISSING, describe_rounding
from mowst.data.folder.tables import (
    ID_NAMES,
    INDEX_NAMES,
    Table,
    counts_rows,
    is_counted,
    read_table,
    split_counter,
    to_numbers,
)
from mowst.data.folder.text import TextFile, is_number

if TYPE_CHECKING:
    from pandas import Series

VALUES = ("inf", "infinity", "true", "false")  # words in a column of numbers or truth values


def read_features(path: Path, is_numbered: bool = False) -> tuple[Table, Tensor]:
    r"""Reads the table of features, whose rows are the nodes, and the features :math:`(N, F)`.

    Args:
        path (Path): The file.
        is_numbered (bool, optional): Whether every file of the folder starts with 0, 1, ..., and is
            likely to have these names of columns. (default: :obj:`False`)
    """
    table = read_table(path, lambda text, body: _is_header(text, is_numbered), text_columns="ids")
    table = split_counter(table)
    if table.ids is not None and table.is_index:
        if counts_rows(table.ids) and int(table.ids.iloc[0]) == 0:
            table = table.drop_index()
        else:
            table.note(f"the first column is an index, and names {len(table.frame)} nodes")
    if 0 in table.frame.shape:
        found = table.frame.shape
        raise ValueError(f"{path} must hold a row for each node and a number in each, got {found}")
    return table, read_numbers(table)


def read_numbers(table: Table) -> Tensor:
    r"""Returns the columns of a table as numbers, in float32 unless the file is an array."""
    values = table.frame.to_numpy() if table.text is None and not table.names else None
    if values is not None and values.dtype.kind in "iuf":
        values = values.view()
        values.flags.writeable = True  # pandas protects what it shares
        return torch.from_numpy(values)
    x = torch.empty(table.frame.shape)
    for position in range(table.width):
        column = table.frame.iloc[:, position]
        if table.text is not None and table.text.decimal == "," and column.dtype.kind not in "biuf":
            column = column.astype(str).str.replace(",", ".", n=1)
        name = table.names[position] if table.names else str(position + 1)
        values = to_numbers(column)
        _check_numbers(table, column, values, name)
        if column.dtype.kind == "b":
            table.note(f"column {name!r} of {len(column)} truth values is 1 and 0")
        numbers = torch.from_numpy(np.array(values))
        x[:, position] = numbers
        lines = describe_rounding(numbers, x[:, position], f"column {name!r}")
        table.notes.extend(f"{table.path.name}: {line}" for line in lines)
    return x


def _check_numbers(table: Table, column: "Series", values: np.ndarray, name: str) -> None:
    if values.dtype.kind != "f":
        return
    missing = np.flatnonzero(np.isnan(values))
    if not len(missing):
        return
    cell = column.iloc[missing[0]]
    if isinstance(cell, str) and cell not in MISSING:
        hint = ""
        if "," in cell:
            hint = "; decimals are written with a point, or with a comma between semicolons"
        table.refuse(int(missing[0]), f"{cell!r} is not a number{hint}")
    count = f"{len(missing)} values of the column {name!r} are missing"
    table.refuse(int(missing[0]), f"the first of {count}; fill them, or drop rows or column")


def _is_header(text: TextFile, is_numbered: bool) -> bool:
    cells = text.first
    names = [cell.lower() for cell in cells]
    if any(name in ID_NAMES or (name and name in INDEX_NAMES) for name in names):
        return True
    if is_counted(cells):
        columns = zip(*text.sample, strict=False)
        if cells[0] == "" or any(not any(map(str.isdecimal, column)) for column in columns):
            return True
        if len(cells) > 2 or is_numbered:
            raise ValueError(
                "are 0, 1, 2, ... the names of columns or features? Give the columns other names, "
                "or leave the names out"
            )
    numbers, words = [], []
    for cell in cells:
        if is_number(cell, text.decimal) or cell.lower().lstrip("+-") in VALUES:
            numbers.append(cell)
        elif cell not in MISSING:
            words.append(cell)
    if numbers and words:
        hint = "a header has no numbers, and names ids 'id'"
        raise ValueError(f"{words[0]!r} is not a number; {hint}")
    return len(words) > 0
