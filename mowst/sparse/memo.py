r"""Values derived from tensors, found again by what the tensors hold."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Entry(NamedTuple):
    tensors: tuple[Tensor | None, ...]
    extra: Hashable
    value: Any


class ContentMemo:
    r"""Remembers the values of the last few tuples of tensors.

    Tensors are compared element by element with private copies, so a tensor that was changed, even
    through shared memory, is never mistaken for the one that it was. Forgetting costs time and
    changes no value.

    Args:
        size (int, optional): The number of entries after which the oldest is dropped. (default:
            :obj:`4`)
    """

    def __init__(self, size: int = 4) -> None:
        self.size = size
        self._entries: tuple[_Entry, ...] = ()

    def get(
        self,
        tensors: tuple[Tensor | None, ...],
        build: Callable[..., Any],
        extra: Hashable = None,
    ) -> Any:
        r"""Returns the value of :obj:`build(*copies)` for tensors of this content.

        Args:
            tensors (tuple): The tensors.
            build (callable): Builds the value from copies of the tensors, which it may keep.
            extra (hashable, optional): Anything else that the value depends on. (default:
                :obj:`None`)
        """
        for entry in self._entries:
            if entry.extra == extra and all(map(_is_equal, entry.tensors, tensors)):
                self._put_first(entry)
                return entry.value
        # A value that is built in evaluation may be used in training: no inference tensors.
        with torch.inference_mode(False), torch.no_grad():
            copies = tuple(None if tensor is None else tensor.clone() for tensor in tensors)
            value = build(*copies)
        self._put_first(_Entry(copies, extra, value))
        return value

    def _put_first(self, entry: _Entry) -> None:
        # One assignment, so that threads need no lock: a lost entry costs time.
        others = [other for other in self._entries if other is not entry]
        self._entries = (entry, *others[: self.size - 1])

    def __len__(self) -> int:
        return len(self._entries)


def _is_equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    return torch.equal(one, other)
