r"""Splits in a folder of files: words, masks or lists of nodes."""

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mowst.convert import (
    FLAGS,
    MASKS,
    MISSING,
    WORDS,
    CellError,
    count_missing,
    read_flags,
    read_split_words,
)
from mowst.data.folder.nodes import Nodes
from mowst.data.folder.tables import (
    ID_NAMES,
    Table,
    are_numbered,
    is_counted,
    read_table,
    split_counter,
)
from mowst.data.folder.text import TextFile
from mowst.data.splits import Masks
from mowst.task import SPLITS

if TYPE_CHECKING:
    from pandas import DataFrame


def read_splits(files: Mapping[str, Path], nodes: Nodes) -> tuple[Masks | None, list[Table]]:
    r"""Returns the splits of a folder as masks :math:`(N, S)`, or :obj:`None` if it has none, and
    the tables that hold them.
    """
    kinds = [kind for kind in (("splits",), MASKS, SPLITS) if any(stem in files for stem in kind)]
    if not kinds:
        return None, []
    stems = [stem for kind in kinds for stem in kind if stem in files]
    folder, given = files["features"].parent, ", ".join(files[stem].name for stem in stems)
    if len(kinds) > 1 or not set(kinds[0][:2]) <= set(stems):
        wanted = "splits, or train_mask, val_mask (and test_mask), or train, val (and test)"
        raise ValueError(f"{folder} has {given}: give {wanted}, and none of the others")
    # A node is in one split, so a 0 in all of them is the name of the column.
    is_numbered = kinds[0] == SPLITS and are_numbered([files[stem] for stem in stems])
    tables = {stem: _read(files[stem], nodes, kinds[0], is_numbered) for stem in stems}
    if stems == ["splits"]:
        return _read_words(tables["splits"], nodes), list(tables.values())
    read = _read_flags if kinds[0] == MASKS else _read_members
    masks = {stem.removesuffix("_mask"): read(table, nodes) for stem, table in tables.items()}
    if len({mask.shape for mask in masks.values()}) > 1:
        raise ValueError(f"{given} in {folder} must have the same number of columns")
    return masks, list(tables.values())


def _read(path: Path, nodes: Nodes, kind: tuple[str, ...], is_numbered: bool) -> Table:
    def is_header(text: TextFile, body: "DataFrame") -> bool:
        if kind != SPLITS:
            words = FLAGS if kind == MASKS else WORDS
            return _is_header(text.first, len(body), nodes, words)
        return is_numbered or nodes.is_header(text.first, (*ID_NAMES, *kind))

    return nodes.drop_counter(split_counter(read_table(path, is_header)))


def _is_header(cells: list[str], count: int, nodes: Nodes, words: Container[str]) -> bool:
    if is_counted(cells) and (cells[0] == "" or count == nodes.count):
        return True
    given = [cell.lower() for cell in cells if cell not in MISSING]
    return len(given) > 0 and not any(cell in words for cell in given)


def _read_words(table: Table, nodes: Nodes) -> Masks:
    if table.width == 0:
        raise ValueError(f"{table.path} has no column of splits")
    columns = []
    for column in range(table.width):
        try:
            columns.append(read_split_words(table.frame.iloc[:, column].tolist()))
        except CellError as error:
            table.refuse(error.position, error.found)
    masks = {}
    for split in SPLITS:
        mask = np.stack([column[split].numpy() for column in columns], axis=1)
        if split != "test" or mask.any():
            masks[split] = torch.from_numpy(nodes.align(table, mask, fill=False))
    return masks


def _read_flags(table: Table, nodes: Nodes) -> torch.Tensor:
    columns = []
    for position in range(table.width):
        column = table.frame.iloc[:, position]
        try:
            columns.append(read_flags(column))
        except CellError as error:
            table.refuse(error.position, f"{error.found} is neither 0 nor 1, True nor False")
        missing = count_missing(column)
        if missing:
            table.note(f"{missing} of {len(column)} flags are missing, and false")
    flags = np.array(columns, dtype=bool).reshape(table.width, -1).T
    return torch.from_numpy(nodes.align(table, np.ascontiguousarray(flags), fill=False))


def _read_members(table: Table, nodes: Nodes) -> torch.Tensor:
    if table.width > 0:
        table = table.drop_index()
    names = table.ids
    if names is None and table.width == 1:
        names = table.frame.iloc[:, 0]
    elif names is None or table.width > 0:
        raise ValueError(f"{table.path} must hold one column, the nodes of the split")
    positions = nodes.find_once(names, table)
    mask = torch.zeros(nodes.count, 1, dtype=torch.bool)
    mask[positions] = True
    return mask
