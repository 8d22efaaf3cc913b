r"""The nodes of a folder of files, by the names that the files give them."""

from collections.abc import Container
from typing import TYPE_CHECKING

import numpy as np

from mowst.data.folder.tables import Table, counts_rows, is_counted, to_numbers, to_text

if TYPE_CHECKING:
    from pandas import Series


class Nodes:
    r"""The nodes of a table of features, by their ids or by the number of their row, and the names
    of their features, of which there may be none.
    """

    def __init__(self, features: Table) -> None:
        from pandas import Index

        self.path = features.path
        self.count = len(features.frame)
        self.feature_names = features.names
        self.is_index = features.is_index
        self.ids: list[str] | None = None
        self.is_numeric = True  # whether all ids are different whole numbers
        if features.ids is None:
            return
        self.ids = to_text(features.ids)
        if "" in self.ids:
            features.refuse(self.ids.index(""), "the node has no id")
        if len(self.ids) != self.count:
            raise ValueError(f"{self.path} must have an id for each of its rows")
        self._index = Index(self.ids, dtype=object)
        repeated = np.flatnonzero(self._index.duplicated())
        if len(repeated):
            problem = f"{self.path.name} lists the node {self.ids[repeated[0]]!r} twice"
            hint = "; leave out the column without a name, an index" if self.is_index else ""
            features.refuse(int(repeated[0]), f"{problem}{hint}")
        self._numbers = Index(_to_whole(features.ids))
        self.is_numeric = self._numbers.is_unique and (self._numbers >= 0).all()
        self._is_padded = self._index != self._numbers.astype(str)  # such as 007

    def locate(self, names: "Series", table: Table | None = None) -> np.ndarray:
        r"""Returns the positions :math:`(R)` of nodes, or -1 for other names. Ids are compared
        as text first, and then as whole numbers.
        """
        if self.ids is None:
            numbers = _to_whole(names)
            return np.where((numbers >= 0) & (numbers < self.count), numbers, -1)
        if names.dtype.kind in "iuf" and self.is_numeric:
            found = np.full(len(names), -1)
        else:
            found = self._index.get_indexer(to_text(names))
        rest = np.flatnonzero(found < 0)
        if not self.is_numeric or not len(rest):
            return found
        numbers = _to_whole(names.iloc[rest])
        found[rest] = np.where(numbers >= 0, self._numbers.get_indexer(numbers), -1)
        matched = rest[found[rest] >= 0]
        if names.dtype.kind in "iuf":
            matched = matched[self._is_padded[found[matched]]]
        if table is not None and len(matched):
            name, known = names.iloc[matched[0]], self.ids[found[matched[0]]]
            table.note(f"{len(matched)} ids are matched as numbers, such as {name} with {known}")
        return found

    def find(self, names: "Series", table: Table) -> np.ndarray:
        r"""Returns the positions :math:`(R)` of the nodes that the rows of a table name."""
        found = self.locate(names, table)
        wrong = np.flatnonzero(found < 0)
        if not len(wrong):
            return found
        known = f"rows of {self.path.name}, 0 to {self.count - 1}"
        if self.ids is not None:
            known = f"ids in {self.path.name}, such as {self.ids[0]!r}"
        name = names.iloc[wrong[0]]
        given = "an empty cell" if name == "" or name != name else repr(str(name))
        problem = f"{given} is not a node ({len(wrong)} such)"
        if names.dtype.kind == "f" and abs(name) >= 2**53:
            problem = f"{problem}; numbers above 2^53 are rounded unless they are integers or text"
        elif self.ids is None and set(_to_whole(names.iloc[wrong])) == {self.count}:
            problem = f"{problem}; are the nodes numbered from 1?"
        table.refuse(int(wrong[0]), f"{problem}; nodes are the {known}")

    def find_once(self, names: "Series", table: Table) -> np.ndarray:
        r"""Returns the positions, each at most once: a node that is listed twice is an error."""
        positions = self.find(names, table)
        _, first = np.unique(positions, return_index=True)
        again = np.setdiff1d(np.arange(len(positions)), first)
        if len(again):
            table.refuse(int(again[0]), "the node is listed twice")
        return positions

    def drop_counter(self, table: Table) -> Table:
        r"""Returns a table without an index that counts its rows, unless the features have one."""
        if table.is_index and not self.is_index and counts_rows(table.ids):
            return table.drop_index()
        return table

    def align(self, table: Table, values: np.ndarray, fill: object) -> np.ndarray:
        r"""Returns the values of the rows of a table in the order of the nodes. Nodes that the
        table omits get the value :obj:`fill`.
        """
        if table.ids is None:
            if len(values) != self.count:
                hint = ": is the first a header?" if len(values) == self.count + 1 else ""
                nodes = f"{self.count} nodes of {self.path.name}"
                raise ValueError(f"{table.path} has {len(values)} rows for the {nodes}{hint}")
            return values
        positions = self.find_once(table.ids, table)
        aligned = np.full((self.count, *values.shape[1:]), fill, dtype=values.dtype)
        aligned[positions] = values
        return aligned

    def is_header(self, cells: list[str], names: Container[str]) -> bool:
        r"""Returns whether a row holds one of these names of columns. Raises an error if all of its
        cells are nodes as well.
        """
        from pandas import Series

        if is_counted(cells) and cells[0] == "":
            return True
        is_named = any(cell.lower() in names for cell in cells)
        if is_named and (self.locate(Series(cells, dtype=object)) >= 0).all():
            found = ", ".join(cells)
            raise ValueError(
                f"are {found} nodes, or the names of columns? put a header before them"
            )
        return is_named


def _to_whole(names: "Series") -> np.ndarray:
    # Other values than whole numbers, and rounded ones, are -1.
    if names.dtype.kind in "iu":
        return names.to_numpy().astype(np.int64)
    if names.dtype.kind == "b":
        return np.full(len(names), -1)
    if names.dtype.kind not in "f":
        texts = to_text(names)
        digits = [text.isdecimal() and text.isascii() and len(text) < 19 for text in texts]
        if all(digits):
            return np.array(texts, dtype=object).astype(np.int64)
    numbers = to_numbers(names)
    with np.errstate(invalid="ignore"):
        is_whole = (numbers >= 0) & (numbers < 2**53) & (numbers == np.floor(numbers))
        return np.where(is_whole, numbers, -1).astype(np.int64)
