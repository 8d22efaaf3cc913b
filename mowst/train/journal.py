r"""What a training run has decided so far, so that another process can take the same way to the same place."""

from collections.abc import Callable, Iterable
from typing import Any

from mowst.train.distributed import agreed


class Journal:
    r"""The results of the steps of a run, in their order. The way through a run follows from them, so replaying them
    leads to where they end, without the work.

    Args:
        entries (list, optional): the results to replay. (default: :obj:`()`)
    """

    def __init__(self, entries: Iterable[Any] = ()) -> None:
        self.entries = list(entries)
        self._next = 0

    @property
    def replaying(self) -> bool:
        r"""Whether the next step is one that was taken before."""
        return self._next < len(self.entries)

    def once(self, compute: Callable[[], Any]) -> Any:
        r"""The result of the next step: replayed, or computed and kept; of several processes, the first one's."""
        if not self.replaying:
            self.entries.append(agreed(compute()))
        self._next += 1
        return self.entries[self._next - 1]
