r"""The splits in a folder of files: words, masks or lists of nodes, see :mod:`mowst.data.folder`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from mowst.convert import MASKS, CellError, split_masks
from mowst.data.nodes import Nodes
from mowst.data.splits import Masks
from mowst.data.tables import ID_NAMES, Header, read_table
from mowst.task import SPLITS

SPLIT_WORDS = ("train", "val", "valid", "validation", "test", "", "nan")
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def read_splits(files: Mapping[str, Path], nodes: Nodes) -> Masks | None:
    r"""The splits of a folder as masks, or :obj:`None` if it has none.

    Args:
        files (dict[str, Path]): The files by their names without ending, among others.
        nodes (Nodes): The nodes.

    Shapes:
        - **output:** three masks :math:`(N, S)`, one column per split

    Raises:
        ValueError: If there are two kinds of split files, one of three is missing, or one is not in its format.
    """
    kinds = [kind for kind in (("splits",), MASKS, SPLITS) if any(stem in files for stem in kind)]
    if not kinds:
        return None
    given = [files[stem].name for kind in kinds for stem in kind if stem in files]
    if len(kinds) > 1 or len(given) < len(kinds[0]):
        raise ValueError(
            f"{files['features'].parent} has {', '.join(given)}: give splits, or all three masks, or all three of "
            "train, val, test, and none of the others"
        )
    if kinds[0] == ("splits",):
        return _from_words(files["splits"], nodes)
    read = _flags if kinds[0] == MASKS else _members
    masks = {split: read(files[stem], nodes) for split, stem in zip(SPLITS, kinds[0], strict=True)}
    if len({mask.shape for mask in masks.values()}) > 1:
        raise ValueError(f"{', '.join(given)} in {files['features'].parent} must have as many columns each")
    return masks


def _from_words(path: Path, nodes: Nodes) -> Masks:
    table = read_table(path, _no_cell_in(SPLIT_WORDS))
    columns = []
    for column in range(table.width):
        try:
            columns.append(split_masks(table.values[:, column].tolist()))
        except CellError as error:
            table.refuse(error.position, error.found)
    if not columns:
        raise ValueError(f"{path} has no column of splits")
    masks = {split: np.stack([masks[split].numpy() for masks in columns], axis=1) for split in SPLITS}
    return {split: torch.from_numpy(nodes.align(table, mask, fill=False)) for split, mask in masks.items()}


def _flags(path: Path, nodes: Nodes) -> torch.Tensor:
    table = read_table(path, _no_cell_in(tuple(FLAGS)))
    flags = table.values
    if flags.dtype.kind not in "biuf":
        flags = np.array([[FLAGS.get(str(cell).lower(), -1) for cell in row] for row in flags]).reshape(flags.shape)
    if len(wrong := np.argwhere((flags != 0) & (flags != 1))):
        row, column = wrong[0].tolist()
        table.refuse(row, f"{table.values[row, column]!r} is neither 0 nor 1")
    return torch.from_numpy(nodes.align(table, flags.astype(bool), fill=False))


def _members(path: Path, nodes: Nodes) -> torch.Tensor:
    table = read_table(path, lambda cells: nodes.is_header(cells, ID_NAMES))
    names = table.values[:, 0] if table.ids is None and table.width == 1 else table.ids
    if names is None or table.width > (table.ids is None):
        raise ValueError(f"{path} must hold one column, the nodes of the split")
    positions = nodes.find(names, table)
    nodes.once(positions, table)
    return torch.zeros(nodes.count, 1, dtype=torch.bool).index_fill(0, torch.from_numpy(positions), True)


def _no_cell_in(words: tuple[str, ...]) -> Header:
    return lambda cells: not any(cell.lower() in words for cell in cells)
