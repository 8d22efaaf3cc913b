"""Dropout whose mask costs less than the layer it follows."""

from typing import Any

import torch
from torch import Tensor


class Dropout(torch.nn.Module):
    r"""Zeroes each element with probability :math:`p` and scales the others by :math:`1 / (1 - p)` in training.

    On CPU torch draws one element of the mask after the other, in a single thread. Where :math:`256 (1 - p)` or
    :math:`65536 (1 - p)` is a whole number, comparing random bytes or 16-bit words, eight or four to a draw, gives the
    same distribution. Elsewhere, and on other devices, this is :func:`torch.nn.functional.dropout`. Masks follow
    torch's default generator.

    Args:
        p (float): Probability of an element to be zeroed. (default: :obj:`0.5`)

    Raises:
        ValueError: If `p` is not in :math:`[0, 1]`.
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability must lie in [0, 1], got {p}")
        self.p = float(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        mask = keep_mask(x, 1 - self.p)
        if mask is None:
            return torch.nn.functional.dropout(x, self.p)
        return _Mask.apply(x, mask, 1 / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p}"


def keep_mask(x: Tensor, keep: float) -> Tensor | None:
    """A Boolean mask of the shape of `x`, true with probability `keep`; None where it cannot be exact and fast."""
    if x.is_cuda or not 0 < keep < 1:
        return None
    for dtype, levels in ((torch.uint8, 2**8), (torch.uint16, 2**16)):
        if (keep * levels).is_integer():
            return _words(x.numel(), dtype).lt(int(keep * levels)).view(x.shape)
    return None


def _words(count: int, dtype: torch.dtype) -> Tensor:
    """`count` uniform words, cut out of 64-bit draws."""
    size = torch.empty((), dtype=dtype).element_size()
    draws = torch.empty(-(-count * size // 8), dtype=torch.int64)
    # The full range: without bounds torch draws 63 bits, and every eighth byte would lose one.
    draws.random_(torch.iinfo(torch.int64).min, None)
    return draws.view(dtype)[:count]


class _Mask(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return torch.mul(x, mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return torch.mul(grad, mask).mul_(ctx.scale), None, None
