r"""Node ids, features and edges of a request, in any form."""

from collections.abc import Iterable
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from mowst.forms import make_tensor, unpack

GRAPH = ("x", "edge_index", "edge_weight")


def read_data(data: Any, names: Iterable[str]) -> Data:
    r"""Returns a graph with its features, edges and edge weights as tensors.

    Raises:
        ValueError: If it is no graph, or if one of the named fields is not finite.
    """
    has_edges = isinstance(data, Data) and data.x is not None and data.edge_index is not None
    if not has_edges:
        got = repr(data) if isinstance(data, Data) else type(data).__name__
        raise ValueError(f"data must have x and edge_index, such as task.data, got {got}")
    data = copy(data)
    for name in GRAPH:
        if data.get(name) is not None:
            data[name] = make_tensor(unpack(data[name]), name)
    if not data.x.is_floating_point():
        raise ValueError(f"features must be floating point, got {data.x.dtype}")
    for name in names:
        check_finite(name, data.get(name))
    return data


def read_ids(ids: Any, num_nodes: int) -> Tensor:
    r"""Returns the ids :math:`(n)` of nodes that are given as ids, one id, or a mask :math:`(N)`.

    Raises:
        ValueError: If they are no ids, or not below the number of nodes.
    """
    ids = make_tensor(unpack(ids), "node ids")
    if ids.dim() == 0:
        ids = ids.view(1)
    if ids.dim() == 1 and ids.dtype == torch.bool:
        if ids.numel() != num_nodes:
            raise ValueError(f"a mask of nodes must have {num_nodes} entries, got {ids.numel()}")
        return ids.nonzero().view(-1)
    if ids.dim() != 1 or (ids.numel() > 0 and not _is_integer(ids)):
        given = f"{ids.dtype} of shape {list(ids.shape)}"
        raise ValueError(f"node ids must be integers of shape [n], got {given}")
    ids = ids.long()
    outside = ids[(ids < 0) | (ids >= num_nodes)]
    if outside.numel() > 0:
        raise ValueError(f"node ids must lie in [0, {num_nodes}), got {int(outside[0])}")
    return ids


def read_features(x: Any, like: Tensor) -> Tensor:
    r"""Returns features :math:`(n, F)` that are given as rows, or as the one row :math:`(F)`, in
    the precision of others. Lists and arrays may hold integers.

    Raises:
        ValueError: If the shape or the type is another one, or if they are not finite.
    """
    width, is_tensor = like.size(1), isinstance(x, Tensor)
    x = make_tensor(unpack(x), "features")
    if x.shape == (width,):
        x = x.view(1, width)
    is_number = x.is_floating_point() or (not is_tensor and _is_integer(x))
    if x.dim() != 2 or x.size(1) != width or not is_number:
        got = f"{x.dtype} of shape {list(x.shape)}"
        raise ValueError(f"features must be floating point of shape [n, {width}], got {got}")
    given, x = x, x.detach().to(like)
    if not given.is_floating_point() and not x.to(given).equal(given):
        raise ValueError(f"the given integers are rounded as {x.dtype}: scale the features")
    count = int((~x.isfinite()).any(dim=1).sum())
    if count > 0:
        raise ValueError(f"features must be finite: {count} of {x.size(0)} rows are not")
    return x


def read_edges(edge_index: Any) -> Tensor:
    r"""Returns edges :math:`(2, E)` that are given as a tensor, array or list of integers."""
    edges = make_tensor(unpack(edge_index), "edge_index")
    return edges.long() if edges.numel() == 0 or _is_integer(edges) else edges


def read_weights(edge_weight: Any, num_edges: int) -> Tensor:
    r"""Returns edge weights :math:`(E)` that are given one by one or as one number for all.

    Raises:
        ValueError: If they are not finite.
    """
    weight = make_tensor(unpack(edge_weight), "edge_weight").detach()
    if _is_integer(weight):
        weight = weight.double()
    check_finite("edge_weight", weight)
    return weight.expand(num_edges) if weight.dim() == 0 else weight


def check_finite(name: str, value: Any) -> None:
    r"""Raises a :class:`ValueError` if a tensor holds NaN or infinite values."""
    # A finite sum clears all values without a mask of their size.
    if not isinstance(value, Tensor) or value.sum().isfinite():
        return
    count = int((~value.isfinite()).sum())
    if count > 0:
        raise ValueError(f"{name} must be finite: {count} of {value.numel()} values are not")


def _is_integer(value: Tensor) -> bool:
    other = value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
    return not other
