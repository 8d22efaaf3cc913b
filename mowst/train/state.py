r"""States of modules, optimisers and random number generators in memory, and parts that must not move."""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from mowst.nn.cascade import Cascade
from mowst.nn.evaluating import evaluating


class Snapshot:
    r"""A copy of the state of modules and optimisers: parameters, buffers, moments, counters.

    Args:
        *owners: objects with :obj:`state_dict` and :obj:`load_state_dict`.
    """

    def __init__(self, *owners: Any) -> None:
        self.owners = owners
        self.states = [copy.deepcopy(owner.state_dict()) for owner in owners]

    def restore(self) -> None:
        r"""Puts every owner back into the state that was copied."""
        for owner, state in zip(self.owners, self.states, strict=True):
            owner.load_state_dict(copy.deepcopy(state))


@contextmanager
def training_only(model: Cascade, trained: Sequence[str]) -> Iterator[None]:
    r"""A context in which only the named parts of a model can change: the others are in evaluation mode (so neither
    dropout noise nor batch statistics come from them) and collect no gradients. Modes and gradient flags are put
    back at its end.
    """
    frozen = [
        p for name in model.parts if name not in trained for p in getattr(model, name).parameters() if not is_lazy(p)
    ]
    flags = [p.requires_grad for p in frozen]
    with evaluating(model):
        try:
            for parameter in frozen:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, flag in zip(frozen, flags, strict=True):
                parameter.requires_grad_(flag)


def parameters_of(model: Cascade, trained: Sequence[str]) -> list[torch.nn.Parameter]:
    r"""The learnable parameters of the named parts.

    Raises:
        ValueError: if there are none.
    """
    parameters = [p for name in trained for p in getattr(model, name).parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"nothing to train: {' and '.join(trained)} of {model!r} have no learnable parameters")
    return parameters


def random_state() -> dict[str, Any]:
    r"""The states of the random number generators of python, numpy and torch, as plain values and tensors."""
    numpy: Any = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (numpy[0], torch.from_numpy(numpy[1].astype(np.int64)), *numpy[2:]),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    r"""Puts the generators into the states that :func:`random_state` returned."""
    kind, keys, *counters = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *counters))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
