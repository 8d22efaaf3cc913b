r"""Mostly zero features (bags of words, one-hot codes) as a sparse matrix."""

import scipy.sparse as sp
import torch
from torch import Tensor

from mowst.graph.memo import TensorMemo
from mowst.graph.propagate import Operator, propagate
from mowst.graph.rows import source_of

# Above this share of non-zero entries, or below this width, the dense product is faster on CPU.
MAX_DENSITY = 0.1
MIN_CHANNELS = 256

_known = TensorMemo()


def sparse_features(x: Tensor, sparse: bool | None = None) -> Operator | None:
    r"""The constant features `x` as an :class:`Operator`, or :obj:`None` where the dense product is the better one.

    Args:
        x (torch.Tensor): Node features; those that require a gradient stay dense.
        sparse (bool, optional): Forces the answer; by default density and width decide on CPU, and features on other
            devices stay dense; for rows of other features, what is so decided for those. (default: :obj:`None`)

    Shapes:
        - **input:** :math:`(N, F)`
    """
    if sparse is False or x.requires_grad or x.dim() != 2:
        return None
    if sparse is None and (x.size(1) < MIN_CHANNELS or x.device.type != "cpu"):
        return None
    if (source := source_of(x)) is not None:
        whole = sparse_features(source.x, sparse)
        return None if whole is None else whole.rows(source.nodes)
    return _known.get((x,), lambda: _convert(x, sparse), sparse)


def linear(x: Operator, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""The dense layer on sparse features,

    .. math::
        \mathbf{Y} = \mathbf{X} \mathbf{W}^{\top} + \mathbf{b}, \qquad
        \frac{\partial L}{\partial \mathbf{W}^{\top}} = \mathbf{X}^{\top} \frac{\partial L}{\partial \mathbf{Y}}

    Shapes:
        - **input:** x :math:`(N, F_{in})`, weight :math:`(F_{out}, F_{in})`, bias :math:`(F_{out})`
        - **output:** :math:`(N, F_{out})`
    """
    out = propagate(x, weight.t())
    return out if bias is None else out.add_(bias)


def _convert(x: Tensor, sparse: bool | None) -> Operator | None:
    if sparse is None and int(x.count_nonzero()) > MAX_DENSITY * x.numel():
        return None
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    return Operator(sp.csr_matrix(x.to(dtype).cpu().numpy()), x.device)
