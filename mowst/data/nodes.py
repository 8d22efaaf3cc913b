r"""The nodes of a user's own graph by the names that its files give them."""

from collections.abc import Container

import numpy as np
import pandas as pd

from mowst.data.tables import Table


class Nodes:
    r"""The nodes of a table of features: by their ids, or by the number of their row.

    Raises:
        ValueError: If an id is missing, or stands for two nodes.
    """

    def __init__(self, features: Table) -> None:
        self.path = features.path
        self.ids = features.ids
        self.count = len(features.values)
        self._index = None if self.ids is None else pd.Index(self.ids, dtype=object)
        if self._index is not None and "" in self._index:
            features.refuse(int((self._index == "").argmax()), "the node has no id")
        if self._index is not None and (len(self._index) != self.count or not self._index.is_unique):
            twice = self._index[self._index.duplicated()]
            problem = f"lists the node {twice[0]!r} twice" if len(twice) else "must have an id for each of its rows"
            raise ValueError(f"{self.path} {problem}")

    def find(self, names: np.ndarray, table: Table) -> np.ndarray:
        r"""The positions of nodes, one for each row of a table, :math:`(R)`.

        Raises:
            ValueError: If something is no node; names the row.
        """
        if self._index is not None:
            # As text, which ids are.
            found = self._index.get_indexer(pd.Index([str(name) for name in names.tolist()], dtype=object))
            known = f"ids in {self.path.name}, such as {self._index[0]!r}" if self.count else "none"
        else:
            numbers = pd.to_numeric(pd.Series(names), errors="coerce").to_numpy(dtype=np.float64)
            inside = (numbers >= 0) & (numbers < self.count) & (numbers == np.floor(numbers))
            found = np.where(inside, numbers, -1).astype(np.int64)
            known = f"rows of {self.path.name}, 0 to {self.count - 1}"
        if len(wrong := np.flatnonzero(found < 0)):
            table.refuse(int(wrong[0]), f"{names[wrong[0]]!r} is no node ({len(wrong)} such); nodes are the {known}")
        return found

    def align(self, table: Table, values: np.ndarray, fill: object) -> np.ndarray:
        r"""Values of the rows of a table in the order of the nodes, and for those that it leaves out the given one."""
        if table.ids is None:
            if len(values) != self.count:
                hint = ": is the first a header?" * (len(values) == self.count + 1)
                raise ValueError(
                    f"{table.path} has {len(values)} rows for the {self.count} nodes of {self.path.name}{hint}"
                )
            return values
        positions = self.find(table.ids, table)
        self.once(positions, table)
        aligned = np.full((self.count, *values.shape[1:]), fill, dtype=values.dtype)
        aligned[positions] = values
        return aligned

    def is_header(self, cells: list[str], names: Container[str]) -> bool:
        r"""Whether a row holds one of these names of columns.

        Raises:
            ValueError: If its cells are nodes at the same time.
        """
        named = any(cell.lower() in names for cell in cells)
        if named and self._index is not None and all(cell in self._index for cell in cells):
            raise ValueError(f"are {', '.join(cells)} nodes, or the names of columns? put a header before them")
        return named

    @staticmethod
    def once(positions: np.ndarray, table: Table) -> None:
        r"""Raises an error if a node is listed twice."""
        if (again := pd.Series(positions).duplicated()).any():
            table.refuse(int(again.argmax()), "the node is listed twice")
