r"""Whether anything that the rows of a model's layers depend on has changed."""

from typing import Any

import torch
from torch import Tensor

PLAIN = (int, float, str)  # types of settings


class ModelWatch:
    r"""Compares a model with what it was at the last call: its tensors by content, since neither
    the version nor the address of a tensor shows a change through :obj:`.data`, its modules, and
    their settings.

    Args:
        model (torch.nn.Module): The model.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self._known: dict[str, Any] = {}

    def has_changed(self) -> bool:
        r"""Returns whether the model has changed since the last call, or this is the first."""
        state = self._read_state()
        if _are_equal(state, self._known):
            return False
        for key, value in state.items():
            state[key] = value.clone() if isinstance(value, Tensor) else value
        self._known = state
        return True

    def _read_state(self) -> dict[str, Any]:
        # Buffers outside the state dict count too.
        state = self.model.state_dict() | dict(self.model.named_buffers())
        for path, module in self.model.named_modules():
            state[f"module {path}"] = module
            for name, value in vars(module).items():
                if isinstance(value, PLAIN) and name != "training":
                    state[f"{name} of {path}"] = value
        return state


def _are_equal(state: dict[str, Any], other: dict[str, Any]) -> bool:
    for key, value in state.items():
        known = other.get(key)
        if isinstance(value, Tensor) and isinstance(known, Tensor):
            same = value.dtype == known.dtype and torch.equal(value, known)
        else:
            same = value == known
        if not same:
            return False
    return len(state) == len(other)
