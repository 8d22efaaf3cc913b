"""Values derived from tensors, kept exactly as long as the tensors live unchanged."""

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor


class TensorMemo:
    r"""Remembers `build()` per tuple of tensor objects.

    A tensor is recognised by identity and by its in-place version, so a changed tensor is never mistaken for the one
    it was. Inference tensors count no changes, so nothing is remembered for them. Entries hold their tensors weakly
    and die with them; a value must therefore not refer to its own key.

    Args:
        size (int): Number of entries after which the oldest is dropped. (default: :obj:`32`)
    """

    def __init__(self, size: int = 32):
        self.size = size
        self._entries: dict[Hashable, tuple[list, list, Any]] = {}
        self._lock = threading.RLock()

    def knows(self, tensors: tuple[Tensor | None, ...], extra: Hashable = None) -> bool:
        """Whether :meth:`get` would answer without building."""
        entry = self._entries.get((*(id(tensor) for tensor in tensors), extra))
        return entry is not None and entry[1] == [None if tensor is None else tensor._version for tensor in tensors]

    def get(self, tensors: tuple[Tensor | None, ...], build: Callable[[], Any], extra: Hashable = None) -> Any:
        """The value of `build()` for these tensors and `extra`, built at most once while they stay unchanged."""
        if any(tensor is not None and tensor.is_inference() for tensor in tensors):
            return build()
        versions = [None if tensor is None else tensor._version for tensor in tensors]
        key = (*(id(tensor) for tensor in tensors), extra)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry[1] == versions:
                return entry[2]
            # Built in evaluation, a value may be used in training: it must be no inference tensor.
            with torch.inference_mode(False), torch.no_grad():
                value = build()
            self._entries.pop(key, None)
            # A copy of the keys, since a tensor that dies in another thread takes its entry away at any time.
            for oldest in list(self._entries)[: max(0, len(self._entries) + 1 - self.size)]:
                self._entries.pop(oldest, None)
            watches = [self._watch(tensor, key) for tensor in tensors if tensor is not None]
            self._entries[key] = (watches, versions, value)
            return value

    def _watch(self, tensor: Tensor, key: Hashable) -> weakref.ref:
        memo = weakref.ref(self)

        def forget(_: weakref.ref) -> None:
            if (alive := memo()) is not None:
                alive._entries.pop(key, None)

        return weakref.ref(tensor, forget)

    def __len__(self) -> int:
        return len(self._entries)
