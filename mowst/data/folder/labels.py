r"""Labels in a folder of files."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mowst.convert import CellError, count_missing
from mowst.convert import read_labels as convert_labels
from mowst.data.folder.nodes import Nodes
from mowst.data.folder.tables import (
    ID_NAMES,
    INDEX_NAMES,
    Table,
    is_counted,
    read_table,
    split_counter,
)
from mowst.data.folder.text import TextFile, is_number

if TYPE_CHECKING:
    from pandas import DataFrame

LABEL_NAMES = ("label", "labels", "y", "class")


def read_labels(path: Path, nodes: Nodes) -> tuple[torch.Tensor, list[str] | None, Table]:
    r"""Reads the labels :math:`(N)`, the names of the classes if they have names, and the table."""
    table = read_table(path, lambda text, body: _is_header(text, body, nodes))
    table = nodes.drop_counter(split_counter(table))
    if table.width != 1:
        raise ValueError(
            f"{path} has {table.width} columns of labels: several labels per node are not read "
            "from folders; give one class for each node, and ids in a column with the header 'id'"
        )
    column = table.frame.iloc[:, 0]
    missing = count_missing(column)
    if missing:
        table.note(f"{missing} of {len(column)} labels are missing")
    if column.dtype.kind not in "biuf":
        try:
            y, names = convert_labels(column)
        except CellError as error:
            table.refuse(error.position, error.found)
        return torch.from_numpy(nodes.align(table, y.numpy(), fill=-1)), names, table
    values = column.to_numpy()
    is_float = values.dtype.kind == "f"
    values = values.astype(np.float64 if is_float else np.int64)
    right = np.isnan(values) | ((abs(values) < 2**31) & (values == np.round(values)))
    for row in np.flatnonzero(~right)[:1]:
        table.refuse(int(row), f"the label {values[row]}; classes are numbered 0, 1, 2, ...")
    y = torch.from_numpy(nodes.align(table, values, fill=np.nan if is_float else -1))
    return y, None, table


def _is_header(text: TextFile, body: "DataFrame", nodes: Nodes) -> bool:
    names = [cell.lower() for cell in text.first]
    if len(names) > 1:
        if any(name in LABEL_NAMES for name in names):
            return not any(map(is_number, names))
        return any(name in (*ID_NAMES, *INDEX_NAMES) for name in names)
    first = text.first[0]
    is_known, is_class = names[0] in LABEL_NAMES, body[0].isin([first]).any()
    if len(body) == nodes.count:  # one row too many
        is_name = not is_class and not is_number(first)
        return bool(is_known or is_counted([first]) or is_name)
    return bool(is_known and not is_class)
