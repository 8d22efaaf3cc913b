r"""Constant node features: their sparse form, their rows and their products."""

import math
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from mowst.sparse.propagate import Operator, propagate

# Above this share of non-zero entries, or below this width, the dense product is faster on CPU.
MAX_DENSITY = 0.1
MIN_CHANNELS = 256
# How many entries are converted to the sparse form at a time.
BLOCK = 2**18
# How many rows of a plain tensor are sampled for its density.
SAMPLE = 64


class Features:
    r"""Node features :math:`\mathbf{X}` that stay constant. Goes wherever a model of this package
    takes :obj:`x`.

    What layers can reuse is kept in this object and lives as long as it: the sparse form of mostly
    zero features (bags of words, one-hot codes), and the products :math:`\mathbf{P} \mathbf{X}` of
    the first layer. Nothing of a plain tensor is kept. The features must not be changed while an
    object of them is in use: pass the plain tensor, or build new :class:`Features`, after a change.

    Args:
        x (torch.Tensor): The features, which are not copied.

    Attributes:
        x (torch.Tensor): The features as a plain tensor.
        whole (Features): The features that these are rows of, or :obj:`None`.
        nodes (torch.Tensor): The ids of these rows in :attr:`whole`, or :obj:`None`.

    Shapes:
        - **x:** :math:`(N, F)`

    Raises:
        ValueError: If :obj:`x` has no two dimensions, or requires a gradient.
    """

    whole: "Features | None" = None
    nodes: Tensor | None = None

    def __init__(self, x: Tensor) -> None:
        if x.dim() != 2:
            raise ValueError(
                f"features must have shape [num_nodes, num_features], got {list(x.shape)}"
            )
        if x.requires_grad:
            raise ValueError(
                "constant features cannot require a gradient: pass the tensor x itself, or "
                "x.detach()"
            )
        self.x = x
        self.shape = x.shape
        self.dtype = x.dtype
        self.device = x.device
        self._start()

    def _start(self) -> None:
        x = vars(self).get("x")  # rows are gathered when they are first read
        self._version = None if x is None or x.is_inference() else x._version
        self._products: WeakKeyDictionary[Operator, Tensor] = WeakKeyDictionary()

    @property
    def requires_grad(self) -> bool:
        return False

    def size(self, dim: int | None = None) -> Any:
        r"""Returns the shape, or one dimension of it."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        r"""Returns plain dense rows."""
        return self.x[index]

    def rows(self, nodes: Tensor) -> "Features":
        r"""Returns the rows of the given nodes, :math:`(n, F)`. They know their :attr:`whole` and
        :attr:`nodes`.
        """
        return _Rows(self, nodes)

    def sparse(self, force: bool | None = None) -> Operator | None:
        r"""Returns the features as a sparse matrix, or :obj:`None` if the dense product is faster.

        Args:
            force (bool, optional): Forces the answer. If :obj:`None`, density and width decide on
                CPU, and features on other devices stay dense. For rows, those of :attr:`whole`
                decide. (default: :obj:`None`)
        """
        if force is False:
            return None
        if force is None and (self.shape[1] < MIN_CHANNELS or self.device.type != "cpu"):
            return None
        self.check_unchanged()
        return self._mostly_zero if force is None else self._operator

    def propagate(self, operator: Operator) -> Tensor:
        r"""Returns :math:`\mathbf{P} \mathbf{X}`, computed once while both objects live."""
        self.check_unchanged()
        product = self._products.get(operator)
        if product is None:
            # A product that is computed in evaluation may be used in training: no inference tensor.
            with torch.inference_mode(False), torch.no_grad():
                product = propagate(operator, self.x)
            self._products[operator] = product
        return product

    @cached_property
    def _mostly_zero(self) -> Operator | None:
        matrix = _find_entries(self.x, MAX_DENSITY * self.x.numel())
        return None if matrix is None else Operator(matrix, self.device)

    @cached_property
    def _operator(self) -> Operator:
        return self._mostly_zero or Operator(_find_entries(self.x), self.device)

    def check_unchanged(self) -> None:
        if self._version is not None and self._version != self.x._version:
            raise ValueError(
                f"{self} were changed in place: build new Features after a change, and use the "
                "rows that a RowTaker took before it takes others"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({self.shape[0]}, {self.shape[1]})"


class _Rows(Features):
    whole: Features
    nodes: Tensor

    def __init__(self, whole: Features, nodes: Tensor, x: Tensor | None = None) -> None:
        self.whole = whole
        self.nodes = nodes.clone()
        self.shape = torch.Size([nodes.numel(), whole.shape[1]])
        self.dtype = whole.dtype
        self.device = whole.device
        if x is not None:
            self.x = x
        self._start()

    @cached_property
    def x(self) -> Tensor:  # type: ignore[override]
        return self.whole.x.index_select(0, self.nodes)

    def sparse(self, force: bool | None = None) -> Operator | None:
        self.check_unchanged()
        whole = self.whole.sparse(force)
        return None if whole is None else whole.rows(self.nodes)


def _find_entries(x: Tensor, limit: float = math.inf) -> sp.csr_matrix | None:
    # The non-zero entries, or None if there are more than the limit. Blocks of rows stay in the
    # cache of the processor.
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    num_rows, num_columns = x.shape
    values, columns, ends = [], [], [np.zeros(1, dtype=np.int64)]
    count = 0
    for part in x.split(max(BLOCK // max(num_columns, 1), 1)):
        block = part.to(dtype).cpu().numpy()
        at = np.flatnonzero(block != 0)
        values.append(block.reshape(-1)[at])
        columns.append((at % num_columns).astype(np.int32))
        ends.append(count + np.searchsorted(at, np.arange(1, len(block) + 1) * num_columns))
        count += at.size
        if count > limit:
            return None
    arrays = [np.concatenate(arrays) for arrays in (values, columns, ends)]
    return sp.csr_matrix(tuple(arrays), shape=(num_rows, num_columns))


class RowTaker:
    r"""Takes rows :math:`\mathbf{X}_B` of constant features again and again into the same memory,
    since fresh memory would cost more than the copy. The rows are valid until the next call.

    Args:
        features (Features or torch.Tensor): The features, :math:`(N, F)`.
    """

    def __init__(self, features: Features | Tensor) -> None:
        self.features = features if isinstance(features, Features) else Features(features)
        self._memory = self.features.x.new_empty(0, self.features.shape[1])

    def __call__(self, nodes: Tensor) -> Features:
        r"""Returns the rows of the given nodes, see :meth:`Features.rows`."""
        x = self.features.x
        if self._memory.size(0) < nodes.numel():
            self._memory = x.new_empty(nodes.numel(), x.size(1))
        rows = self._memory[: nodes.numel()]
        torch.index_select(x, 0, nodes, out=rows)
        return _Rows(self.features, nodes, rows)


def as_tensor(x: Features | Tensor) -> Tensor:
    r"""Returns features as a plain tensor."""
    return x.x if isinstance(x, Features) else x


def find_sparse_form(x: Features | Tensor) -> Features | Tensor:
    r"""Returns mostly zero features as :class:`Features` with their sparse form, and all others as
    they are. A sample of the rows is read first, so that dense features cost no conversion.
    """
    if isinstance(x, Features) or x.dim() != 2 or x.requires_grad:
        return x
    sample = x[:: max(x.size(0) // SAMPLE, 1)]
    if sample.count_nonzero() > MAX_DENSITY * sample.numel():
        return x
    features = Features(x)
    return x if features.sparse() is None else features


def linear(x: Operator, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Applies the dense layer to sparse features

    .. math::
        \mathbf{Y} = \mathbf{X} \mathbf{W}^{\top} + \mathbf{b}, \qquad
        \frac{\partial L}{\partial \mathbf{W}^{\top}} = \mathbf{X}^{\top} \frac{\partial L}{\partial
        \mathbf{Y}}

    Shapes:
        - **x:** :math:`(N, F_{in})`, **weight:** :math:`(F_{out}, F_{in})`, **bias:**
          :math:`(F_{out})`
        - **output:** :math:`(N, F_{out})`
    """
    out = propagate(x, weight.t())
    return out if bias is None else out.add_(bias)
