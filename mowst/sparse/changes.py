r"""The rows that a change of the graph reaches."""

import numpy as np
import scipy.sparse as sp

from mowst.sparse.propagate import Operator


def find_changed_rows(before: Operator, after: Operator) -> np.ndarray:
    r"""Returns the rows that differ between two operators, as a mask :math:`(N)`. Rows that the
    first does not have differ. An edge changes the row of its target and, where degrees normalize,
    every row that reads that target's degree.

    Args:
        before (Operator): :math:`(M, M)` with :math:`M \leq N`.
        after (Operator): :math:`(N, N)`.
    """
    old, new = before.host, after.host
    counts = np.diff(old.indptr), np.diff(new.indptr)
    changed = np.ones(new.shape[0], dtype=bool)
    changed[: old.shape[0]] = counts[0] != counts[1][: old.shape[0]]
    same = ~changed
    ours, theirs = np.repeat(same[: old.shape[0]], counts[0]), np.repeat(same, counts[1])
    differ = (old.indices[ours] != new.indices[theirs]) | (old.data[ours] != new.data[theirs])
    changed[np.repeat(np.arange(new.shape[0]), counts[1])[theirs][differ]] = True
    return changed


def find_readers(operator: Operator, nodes: np.ndarray) -> np.ndarray:
    r"""Returns the nodes whose rows read one of the given nodes.

    Shapes:
        - **nodes:** a mask :math:`(N)`; **output:** a mask :math:`(N)`
    """
    matrix = operator.host
    hit = sp.csr_matrix((nodes[matrix.indices], matrix.indices, matrix.indptr), shape=matrix.shape)
    return np.asarray(hit.astype(np.int32).sum(axis=1)).ravel() > 0
