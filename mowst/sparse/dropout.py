r"""Dropout whose mask costs less than the layer it follows.

On CPU torch draws a mask element by element in one thread, which takes longer than a layer of a
small network. Here one 64-bit draw gives eight random bytes :math:`w`, and an element is dropped
where :math:`w < t = \lfloor 256 p \rfloor`. The remaining probability, :math:`256 p - t` of one
byte value, is decided by a second draw for the few elements where :math:`w = t`, so the mask is
exact for every :math:`p`.
"""

import math
from typing import Any

import torch
from torch import Tensor

from mowst.sparse.memory import make_empty, takes_blocks

# 16 MiB of float32: between two passes a chunk stays in the cache, and is long enough for all
# threads. Smaller ones are a little faster on an idle machine, but on a busy one the threads wait
# for each other after every pass.
CHUNK = 2**22


class Dropout(torch.nn.Module):
    r"""Zeroes each element with probability :math:`p` and scales the others by :math:`1 / (1 - p)`
    in training.

    Masks follow torch's default generator. Off the CPU and in half precision they are those of
    :func:`torch.nn.functional.dropout`.

    Args:
        p (float, optional): Probability of an element to be zeroed. (default: :obj:`0.5`)

    Raises:
        ValueError: If :obj:`p` is not in :math:`[0, 1]`.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability must lie in [0, 1], got {p}")
        self.p = float(p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if not _has_bytes(x, self.p):
            return torch.nn.functional.dropout(x, self.p)
        return _Dropout.apply(x, self.p)

    def apply_after_relu(self, x: Tensor) -> Tensor:
        r"""Returns the dropout of :obj:`relu(x)`. May be computed inside :obj:`x`, a hidden sample
        that nothing else reads.
        """
        if self.training and self.p > 0 and x.is_contiguous() and _has_bytes(x, self.p):
            return _ReLUDropout.apply(x, self.p)
        if takes_blocks(x, *x.shape) and not torch.is_grad_enabled():
            return self(torch.clamp_min(x, 0, out=make_empty(x, *x.shape)))
        return self(x.relu())

    def extra_repr(self) -> str:
        return f"p={self.p}"


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        words = _draw(x.numel(), p)
        ctx.save_for_backward(words)
        ctx.p = p
        return _drop(make_empty(x, *x.shape).copy_(x), words, p)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (words,) = ctx.saved_tensors
        return _drop(make_empty(grad, *grad.shape).copy_(grad), words, ctx.p), None


class _ReLUDropout(torch.autograd.Function):
    r"""An output is positive exactly where its input was and survived, so the backward pass needs
    no mask.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        out = _drop(x.clamp_min_(0), _draw(x.numel(), p), p)
        ctx.mark_dirty(out)
        ctx.save_for_backward(out)
        ctx.p = p
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        result = make_empty(out, *out.shape)
        torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=result)
        return result.mul_(1 / (1 - ctx.p)), None


def _has_bytes(x: Tensor, p: float) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and p < 255 / 256


def _draw(count: int, p: float) -> Tensor:
    """`count` bytes, of which those below :math:`256 p` are the dropped elements."""
    draws = make_empty(torch.empty(0, dtype=torch.int64), -(-count // 8))
    words = draws.random_(torch.iinfo(torch.int64).min, None).view(torch.uint8)[:count]
    threshold = int(256 * p)
    rest = 256 * p - threshold
    if rest > 0:
        ties = (words == threshold).nonzero().view(-1)
        kept = torch.rand(ties.numel(), dtype=torch.float64) >= rest
        words[ties[kept]] = threshold + 1
    return words


def _drop(x: Tensor, words: Tensor, p: float) -> Tensor:
    r"""In place: zero where the byte is below :math:`256 p`, scaled elsewhere."""
    limit = math.ceil(256 * p) - 0.5
    buffer = x.new_empty(min(CHUNK, x.numel()))
    for part, word in zip(x.view(-1).split(CHUNK), words.split(CHUNK), strict=True):
        level = buffer[: part.numel()].copy_(word)
        torch.ops.aten.threshold_backward.grad_input(part, level, limit, grad_input=part)
        part.mul_(1 / (1 - p))
    return x
