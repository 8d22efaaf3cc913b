r"""The nodes of a folder of files, by the names that the files give them."""

from collections.abc import Container

import numpy as np

from mowst.data.folder.tables import Table


class Nodes:
    r"""The nodes of a table of features, by their ids or by the number of their row, and the names
    of their features, of which there may be none.
    """

    def __init__(self, features: Table) -> None:
        self.path = features.path
        self.ids = features.ids
        self.count = len(features.values)
        self.feature_names = features.names
        self._positions: dict[str, int] = {}
        if self.ids is None:
            return
        for row, name in enumerate(self.ids.tolist()):
            if name == "":
                features.refuse(row, "the node has no id")
            if name in self._positions:
                raise ValueError(f"{self.path} lists the node {name!r} twice")
            self._positions[name] = row
        if len(self._positions) != self.count:
            raise ValueError(f"{self.path} must have an id for each of its rows")

    def find(self, names: np.ndarray, table: Table) -> np.ndarray:
        r"""Returns the positions :math:`(R)` of the nodes that the rows of a table name."""
        if self.ids is not None:
            found = np.array([self._positions.get(str(name), -1) for name in names.tolist()], int)
            known = f"ids in {self.path.name}, such as {self.ids[0]!r}"
        else:
            from pandas import Series, to_numeric

            numbers = to_numeric(Series(names), errors="coerce").to_numpy(dtype=np.float64)
            inside = (numbers >= 0) & (numbers < self.count) & (numbers == np.floor(numbers))
            found = np.where(inside, numbers, -1).astype(np.int64)
            known = f"rows of {self.path.name}, 0 to {self.count - 1}"
        wrong = np.flatnonzero(found < 0)
        if len(wrong):
            problem = f"{names[wrong[0]]!r} is not a node ({len(wrong)} such)"
            table.refuse(int(wrong[0]), f"{problem}; nodes are the {known}")
        return found

    def find_once(self, names: np.ndarray, table: Table) -> np.ndarray:
        r"""Returns the positions, each at most once: a node that is listed twice is an error."""
        positions = self.find(names, table)
        _, first = np.unique(positions, return_index=True)
        again = np.setdiff1d(np.arange(len(positions)), first)
        if len(again):
            table.refuse(int(again[0]), "the node is listed twice")
        return positions

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
        is_named = any(cell.lower() in names for cell in cells)
        if is_named and all(cell in self._positions for cell in cells):
            found = ", ".join(cells)
            raise ValueError(
                f"are {found} nodes, or the names of columns? put a header before them"
            )
        return is_named
