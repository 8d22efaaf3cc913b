r"""The dense linear map, with its large results in blocks that are used again."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, is_autocast_enabled

from mowst.sparse.memory import make_empty, takes_blocks


def map_dense(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, into: Tensor | None = None
) -> Tensor:
    r"""Returns :math:`\mathbf{X} \mathbf{W}^{\top} + \mathbf{b}`, or, if :obj:`into` is given,
    :math:`\mathbf{X} \mathbf{W}^{\top} + \mathbf{b} + \mathbf{Y}`, whose result may use the memory
    of :math:`\mathbf{Y}`.

    Shapes:
        - **x:** :math:`(N, F_{in})`, **weight:** :math:`(F_{out}, F_{in})`, **bias:**
          :math:`(F_{out})`, **into:** :math:`(N, F_{out})`
        - **output:** :math:`(N, F_{out})`
    """
    if not _is_plain(x, weight):
        out = F.linear(x, weight, bias)
    elif into is not None and bias is None:
        return _Linear.apply(x, weight, None, into)
    else:
        out = _Linear.apply(x, weight, bias, None)
    return out if into is None else out.add_(into)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, into: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        if into is not None:
            ctx.mark_dirty(into)
            return into.addmm_(x, weight.t())
        out = make_empty(x, x.size(0), weight.size(0))
        if bias is None:
            return torch.mm(x, weight.t(), out=out)
        return torch.addmm(bias, x, weight.t(), out=out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, needs_into = ctx.needs_input_grad
        grad_x = grad_weight = grad_bias = None
        if needs_x and torch.is_grad_enabled():  # to be differentiated again
            grad_x = grad @ weight
        elif needs_x:
            grad_x = torch.mm(grad, weight, out=make_empty(grad, *x.shape))
        if needs_weight:
            grad_weight = grad.t() @ x
        if needs_bias:
            grad_bias = grad.sum(0)
        return grad_x, grad_weight, grad_bias, grad if needs_into else None


def _is_plain(x: Tensor, weight: Tensor) -> bool:
    same = x.dim() == 2 and x.dtype == weight.dtype
    return same and takes_blocks(x, x.size(0), weight.size(0)) and not is_autocast_enabled("cpu")
