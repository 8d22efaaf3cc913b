"""What stands before and between the layers of every expert: feature maps, normalization, activation, dropout."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.dense.linear import is_uninitialized_parameter
from torch_geometric.nn.resolver import normalization_resolver

from mowst.graph.features import linear, sparse_features
from mowst.nn.dropout import Dropout


def node_norm(norm: str | None, channels: int | None, **kwargs: Any) -> torch.nn.Module | None:
    """PyG's layer of this name, except that "layer_norm" normalizes each node by itself and not the whole graph."""
    if norm in ("layer_norm", "LayerNorm"):
        return torch.nn.LayerNorm(channels, **kwargs)
    return normalization_resolver(norm, channels, **kwargs)


def feature_linear(lin: Any, x: Tensor, sparse: bool | None = None, nodes: Tensor | None = None) -> Tensor:
    """The linear map of the features of all nodes or of some, as a sparse product where they are sparse: a fresh
    tensor.
    """
    features = None if is_uninitialized_parameter(lin.weight) else sparse_features(x, sparse)
    if features is None:
        return lin(x if nodes is None else x[nodes])
    return linear(features if nodes is None else features.rows(nodes), lin.weight, lin.bias)


def activate(
    x: Tensor, norm: torch.nn.Module, act: torch.nn.Module | None, dropout: Dropout, act_first: bool = False
) -> Tensor:
    r""":math:`\mathrm{dropout}(\sigma(\mathrm{norm}(\mathbf{X})))`, or :math:`\mathrm{dropout}(\mathrm{norm}(\sigma(
    \mathbf{X})))` with `act_first`. May be computed inside `x`, the fresh output of a layer.
    """
    if act is None:
        return dropout(norm(x))
    if act_first:
        return dropout(norm(act(x)))
    if type(act) is torch.nn.ReLU:
        return dropout.after_relu(norm(x))
    return dropout(act(norm(x)))
