r"""The softmax over few classes.

On CPU, torch vectorizes the softmax over a last dimension only if that fills a vector register.
With fewer classes it is several times as fast, equal up to rounding, to turn the classes into rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# The number of classes from which torch's own softmax is fast: float32 values in a register.
MANY = 16


def softmax(z: Tensor) -> Tensor:
    r"""Returns :math:`\mathrm{softmax}(\mathbf{z})` over the last dimension."""
    return _apply(torch.softmax, z)


def log_softmax(z: Tensor) -> Tensor:
    r"""Returns :math:`\log \mathrm{softmax}(\mathbf{z})` over the last dimension."""
    return _apply(torch.log_softmax, z)


def _apply(function: Callable[..., Tensor], z: Tensor) -> Tensor:
    if z.size(-1) >= MANY or z.device.type != "cpu":
        return function(z, dim=-1)
    return function(z.movedim(-1, 0).contiguous(), dim=0).movedim(0, -1)
