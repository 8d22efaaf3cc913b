r"""Edges in a folder of files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch_geometric.data import Data

from mowst.data.folder.features import read_numbers
from mowst.data.folder.nodes import Nodes
from mowst.data.folder.tables import Table, counts_rows, is_counted, read_table
from mowst.data.folder.text import TextFile, is_number

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ["source", "target", "weight"]
NAMES = {"source": "source", "src": "source", "from": "source", "u": "source"}
NAMES |= {"target": "target", "dst": "target", "to": "target", "v": "target"}
NAMES["weight"] = "weight"
WANTED = "the columns source, target and optionally weight"


def read_edges(path: Path, nodes: Nodes, others: Sequence[Table]) -> tuple[Data, Table]:
    r"""Reads the edges of a graph, given the other tables of its folder."""
    headers = {table.header for table in others}
    table = read_table(
        path,
        lambda text, body: _is_header(text, body, nodes, headers),
        text_columns="none" if nodes.is_numeric else "all",
    )
    if (
        table.header == "none"
        and "names" in headers
        and table.text
        and is_counted(table.text.first)
    ):
        found = ",".join(table.text.first)
        table.note(f"the first line, {found!r}, is read as an edge; if not, name the columns")
    table = _drop_counter(table.drop_index(), nodes)
    names = [_find_name(name) for name in table.names] or COLUMNS[: table.width]
    is_known = sorted(names) in (COLUMNS[:2], COLUMNS)
    if table.ids is not None or len(names) != table.width or not is_known:
        found = ", ".join(table.names) or f"{table.width} columns"
        if table.width == 1:
            found = f"{found}; cells are separated by commas, semicolons or tabs"
        raise ValueError(f"{path} must have {WANTED}, found {found}")
    columns = {name: table.frame.iloc[:, position] for position, name in enumerate(names)}
    ends = [nodes.find(columns[name], table) for name in ("source", "target")]
    data = Data(edge_index=torch.from_numpy(np.stack(ends)))
    if "weight" in columns:
        frame = columns["weight"].to_frame()
        weights = read_numbers(replace(table, frame=frame, names=["weight"]))
        data.edge_weight = weights[:, 0]
    return data, table


def _find_name(name: str) -> str:
    # "from_node_id" is "from".
    return NAMES.get(name.replace("node", "").replace("id", "").strip("_ "), name)


def _is_header(text: TextFile, body: "DataFrame", nodes: Nodes, headers: set[str]) -> bool:
    from pandas import Series

    cells = text.first
    names = [cell for cell in cells if _find_name(cell.lower()) in COLUMNS]
    if nodes.is_header(cells, [name.lower() for name in names]):
        return True
    is_node = nodes.locate(Series(cells, dtype=object)) >= 0
    if text.width < 2 or not is_counted(cells) or not is_node[:2].all():
        return not is_node.any() and not any(map(is_number, cells))
    if "numbers" in headers or _is_numbered(text):
        return True
    leaves, enters = body[0].isin([0, "0"]), body[1].isin([1, "1"])
    has_reverse = (body[0].isin([1, "1"]) & body[1].isin([0, "0"])).any()
    is_usual = has_reverse or not (leaves.any() or enters.any())
    if is_usual or "none" in headers or "names" not in headers:
        return False
    found = ",".join(cells)
    raise ValueError(
        f"is {found} an edge, or the numbers of the columns, as pandas writes them? "
        "Write the names source,target above the edges"
    )


def _is_numbered(text: TextFile) -> bool:
    # Whether 0,1,2 is above weights that are written with a decimal sign.
    weights = [row[2] for row in text.sample if len(row) == 3]
    return len(weights) > 0 and not any(weight.isdecimal() for weight in weights)


def _drop_counter(table: Table, nodes: Nodes) -> Table:
    # An index in a table without names of columns.
    if table.names or table.width < 3 or not counts_rows(table.frame.iloc[:, 0]):
        return table
    last = table.frame.iloc[:, 2]
    if table.width == 3:
        if last.dtype.kind == "f" or (nodes.locate(last) < 0).any():
            return table  # a weight
        if (nodes.locate(table.frame.iloc[:, 0]) >= 0).all():
            table.refuse(
                0,
                "the first column counts the rows; is it an index, or are they sources and weights?"
                " Write the names source,target,weight above the columns",
            )
    frame = table.frame.iloc[:, 1:]
    table.note(f"the first column counts the {len(frame)} rows, and is left out")
    return replace(table, frame=frame)
