r"""States of modules, optimisers and random number generators in memory."""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from mowst.nn.evaluating import evaluating
from mowst.nn.mowst import PARTS, Mowst


class Snapshot:
    r"""A copy of the state of modules and optimisers: parameters, buffers, moments, counters.

    Args:
        *owners: Objects with :obj:`state_dict` and :obj:`load_state_dict`.
        states (list, optional): Their states; copies of the current ones if :obj:`None`. (default:
            :obj:`None`)
    """

    def __init__(self, *owners: Any, states: list[Any] | None = None) -> None:
        self.owners = owners
        if states is None:
            states = [copy.deepcopy(owner.state_dict()) for owner in owners]
        self.states = states

    def restore(self) -> None:
        r"""Returns each owner to the state that was copied."""
        for owner, state in zip(self.owners, self.states, strict=True):
            owner.load_state_dict(copy.deepcopy(state))


@contextmanager
def training_only(model: Mowst, learns: Sequence[str]) -> Iterator[None]:
    r"""A context in which only the given parts of a model can change. The others are in evaluation
    mode, so that they add no dropout noise and their batch statistics do not move, and collect no
    gradients. Modes and gradient flags are restored at its end.
    """
    frozen: list[torch.nn.Parameter] = []
    for name in PARTS:
        if name not in learns:
            frozen.extend(p for p in getattr(model, name).parameters() if not is_lazy(p))
    flags = [p.requires_grad for p in frozen]
    with evaluating(model):
        try:
            for parameter in frozen:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, flag in zip(frozen, flags, strict=True):
                parameter.requires_grad_(flag)


def get_random_state() -> dict[str, Any]:
    r"""Returns the states of the random number generators of Python, NumPy and torch as plain
    values and tensors.
    """
    numpy: Any = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (numpy[0], torch.from_numpy(numpy[1].astype(np.int64)), *numpy[2:]),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    r"""Restores the states that :func:`get_random_state` returned."""
    kind, keys, *counters = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *counters))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
