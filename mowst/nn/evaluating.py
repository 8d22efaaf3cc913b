r"""Modules in evaluation mode within a context."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch

_lock = threading.Lock()
_held: WeakKeyDictionary[torch.nn.Module, tuple[int, bool]] = WeakKeyDictionary()


@contextmanager
def evaluating(*modules: torch.nn.Module) -> Iterator[None]:
    r"""A context in which modules are in evaluation mode. Several threads may enter it. The mode of
    each submodule is restored when the last thread leaves.
    """
    parts = {part for module in modules for part in module.modules()}
    with _lock:
        for part in parts:
            users, training = _held.get(part, (0, part.training))
            _held[part] = users + 1, training
        for module in modules:
            module.eval()
    try:
        yield
    finally:
        with _lock:
            for part in parts:
                users, training = _held.pop(part)
                if users > 1:
                    _held[part] = users - 1, training
                else:
                    part.training = training
