r"""Splits in a folder of files: words, masks or lists of nodes."""

from collections.abc import Container, Mapping
from pathlib import Path

import numpy as np
import torch

from mowst.convert import FLAGS, MASKS, WORDS, CellError, read_split_words
from mowst.data.folder.nodes import Nodes
from mowst.data.folder.tables import ID_NAMES, read_table
from mowst.data.splits import Masks
from mowst.task import SPLITS


def read_splits(files: Mapping[str, Path], nodes: Nodes) -> Masks | None:
    r"""Returns the splits of a folder as masks :math:`(N, S)`, or :obj:`None` if it has none."""
    kinds = [kind for kind in (("splits",), MASKS, SPLITS) if any(stem in files for stem in kind)]
    if not kinds:
        return None
    stems = [stem for kind in kinds for stem in kind if stem in files]
    folder, given = files["features"].parent, ", ".join(files[stem].name for stem in stems)
    if len(kinds) > 1 or not set(kinds[0][:2]) <= set(stems):
        wanted = "splits, or train_mask, val_mask (and test_mask), or train, val (and test)"
        raise ValueError(f"{folder} has {given}: give {wanted}, and none of the others")
    if stems == ["splits"]:
        return _read_words(files["splits"], nodes)
    read = _read_flags if kinds[0] == MASKS else _read_members
    masks = {stem.removesuffix("_mask"): read(files[stem], nodes) for stem in stems}
    if len({mask.shape for mask in masks.values()}) > 1:
        raise ValueError(f"{given} in {folder} must have the same number of columns")
    return masks


def _read_words(path: Path, nodes: Nodes) -> Masks:
    table = read_table(path, lambda cells: not _hold_any(cells, (*WORDS, "nan")))
    if table.width == 0:
        raise ValueError(f"{path} has no column of splits")
    columns = []
    for column in range(table.width):
        try:
            columns.append(read_split_words(table.values[:, column].tolist()))
        except CellError as error:
            table.refuse(error.position, error.found)
    masks = {}
    for split in SPLITS:
        mask = np.stack([column[split].numpy() for column in columns], axis=1)
        if split != "test" or mask.any():
            masks[split] = torch.from_numpy(nodes.align(table, mask, fill=False))
    return masks


def _read_flags(path: Path, nodes: Nodes) -> torch.Tensor:
    table = read_table(path, lambda cells: not _hold_any(cells, FLAGS))
    flags = table.values
    if flags.dtype.kind not in "biuf":
        cells = [FLAGS.get(str(cell).lower(), -1) for cell in flags.ravel().tolist()]
        flags = np.array(cells, dtype=int).reshape(flags.shape)
    for row, column in np.argwhere((flags != 0) & (flags != 1))[:1]:
        table.refuse(int(row), f"{table.values[row, column]!r} is neither 0 nor 1")
    return torch.from_numpy(nodes.align(table, flags.astype(bool), fill=False))


def _read_members(path: Path, nodes: Nodes) -> torch.Tensor:
    table = read_table(path, lambda cells: nodes.is_header(cells, ID_NAMES))
    names = table.ids
    if names is None and table.width == 1:
        names = table.values[:, 0]
    elif names is None or table.width > 0:
        raise ValueError(f"{path} must hold one column, the nodes of the split")
    positions = nodes.find_once(names, table)
    mask = torch.zeros(nodes.count, 1, dtype=torch.bool)
    mask[positions] = True
    return mask


def _hold_any(cells: list[str], words: Container[str]) -> bool:
    return any(cell.lower() in words for cell in cells)
