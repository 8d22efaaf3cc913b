r"""Parts of every expert: feature maps, normalization, activation, dropout."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.dense.linear import Linear, is_uninitialized_parameter
from torch_geometric.nn.resolver import normalization_resolver

from mowst.sparse.dropout import Dropout
from mowst.sparse.features import Features, as_tensor, linear
from mowst.sparse.linear import map_dense
from mowst.sparse.propagate import Operator


def build_norm(norm: str | None, channels: int | None, **kwargs: Any) -> torch.nn.Module | None:
    r"""Returns PyG's layer of this name, except that "layer_norm" normalizes each node by itself
    and not the whole graph.
    """
    if norm in ("layer_norm", "LayerNorm"):
        return torch.nn.LayerNorm(channels, **kwargs)
    return normalization_resolver(norm, channels, **kwargs)


def find_sparse(x: Features | Tensor, sparse: bool | None = None) -> Operator | None:
    r"""Returns input features as a sparse matrix, or :obj:`None` if they are dense. Plain tensors
    are converted only if :obj:`sparse` forces it, and then in every call.
    """
    if isinstance(x, Features):
        return x.sparse(sparse)
    if not sparse or x.requires_grad or x.dim() != 2:
        return None
    return Features(x).sparse(sparse)


def apply_linear(lin: Any, x: Features | Tensor, sparse: bool | None = None) -> Tensor:
    r"""Returns the linear map of features as a fresh tensor, as a sparse product if they are
    sparse.
    """
    features = None if is_uninitialized_parameter(lin.weight) else find_sparse(x, sparse)
    if features is not None:
        return linear(features, lin.weight, lin.bias)
    if _is_plain(lin):
        return map_dense(as_tensor(x), lin.weight, lin.bias)
    return lin(as_tensor(x))


def _is_plain(lin: Any) -> bool:
    r"""Returns whether calling a module computes its linear map and nothing else."""
    hooks = (lin._forward_hooks, lin._forward_pre_hooks, lin._backward_hooks)
    return type(lin) in (Linear, torch.nn.Linear) and not any([*hooks, lin._backward_pre_hooks])


def activate(
    x: Tensor,
    norm: torch.nn.Module,
    act: torch.nn.Module | None,
    dropout: Dropout,
    act_first: bool = False,
) -> Tensor:
    r"""Returns :math:`\mathrm{dropout}(\sigma(\mathrm{norm}(\mathbf{X})))`, or
    :math:`\mathrm{dropout}(\mathrm{norm}( \sigma(\mathbf{X})))` with :obj:`act_first`. May be
    computed inside :obj:`x`, the fresh output of a layer.
    """
    if act is None:
        return dropout(norm(x))
    if act_first:
        return dropout(norm(act(x)))
    if type(act) is torch.nn.ReLU:
        return dropout.apply_after_relu(norm(x))
    return dropout(act(norm(x)))
