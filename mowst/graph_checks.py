r"""Checks of features and edges: errors and remarks, with counts and examples."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

ROWS = 2**16  # features are checked in chunks of so many rows: they may be mapped from a file


def find_graph_problems(data: Data) -> list[str]:
    r"""Returns every reason why a graph, with or without labels, cannot be predicted."""
    x = data.x
    if x is None:
        return ["x is missing; for nodes without features, torch.eye(num_nodes) numbers them"]
    if not isinstance(x, Tensor) or x.layout != torch.strided:
        return check_type("x", x)
    if x.dim() != 2:
        return [f"x must be [nodes, features], got shape {tuple(x.shape)}"]
    if x.size(0) == 0:
        return ["the graph has no nodes"]
    weight = data.get("edge_weight")
    return _check_features(x) + _check_edges(data.edge_index, weight, num_nodes=x.size(0))


def find_edge_remarks(data: Data) -> list[str]:
    r"""Returns what is allowed in edges, but may be a mistake: duplicate edges, self-loops,
    isolated nodes, edges without their reverse, a number for each edge that is not its weight.
    """
    edge_index, num_nodes = data.edge_index, data.x.size(0)
    loops = edge_index[0] == edge_index[1]
    found = describe(loops, "edges are self-loops", "edge", edge_index.t())
    isolated = torch.ones(num_nodes, dtype=torch.bool, device=edge_index.device)
    isolated[edge_index[:, ~loops].reshape(-1)] = False
    found += describe(isolated, "nodes are isolated", "node")
    # One number for each pair of ends, so that one sort compares the pairs.
    pairs, counts = (edge_index[0] * num_nodes + edge_index[1]).unique(return_counts=True)
    repeated = edge_index.size(1) - pairs.numel()
    if repeated:
        pair = divmod(int(pairs[counts > 1][0]), num_nodes)
        found.append(f"{repeated} edges repeat another, such as {pair}")
    reverse = pairs % num_nodes * num_nodes + pairs // num_nodes
    one_way = pairs[~torch.isin(reverse, pairs, assume_unique=True)]
    if one_way.numel():
        pair, count = divmod(int(one_way[0]), num_nodes), one_way.numel()
        found.append(f"{count} of {pairs.numel()} edges have no reverse, such as {pair}")
    if data.get("edge_weight") is None:
        for key, value in data.to_dict().items():
            is_number = isinstance(value, Tensor) and value.dim() == 1 and data.is_edge_attr(key)
            if is_number and key != "edge_attr":
                found.append(f"{key} holds a number for each edge; weights are named edge_weight")
    return found


def describe(flags: Tensor, what: str, noun: str, values: Tensor | None = None) -> list[str]:
    r"""Returns a sentence with the number of flags, and the position and value of the first one, if
    any is set.
    """
    if not flags.any():
        return []
    first = int(flags.nonzero()[0])
    value = "" if values is None else f": {values[first].tolist()}"
    return [f"{int(flags.sum())} {what}, the first is {noun} {first}{value}"]


def check_type(key: str, value: Any) -> list[str]:
    r"""Returns the error of a field that is missing or no dense tensor."""
    if value is None:
        return [f"{key} is missing"]
    kind = "a sparse one" if isinstance(value, Tensor) else type(value).__name__
    return [f"{key} must be a dense tensor, got {kind}; GraphTask.from_data(data) converts it"]


def _check_features(x: Tensor) -> list[str]:
    if x.is_complex():
        return [f"x must be real, got {x.dtype}; torch.view_as_real(x).flatten(1) makes it so"]
    if not x.is_floating_point():
        return [f"x must be floating point, got {x.dtype}; x.float() makes it so"]
    if x.requires_grad:
        return ["x requires a gradient; x.detach() is a constant"]
    count, first = 0, ""
    for start in range(0, len(x), ROWS):
        rows = x[start : start + ROWS]
        # A finite sum clears all values, without a second array of their size.
        if not rows.sum().isfinite():
            wrong = (~rows.isfinite()).nonzero().tolist()
            count += len(wrong)
            if wrong and not first:
                first = f"node {start + wrong[0][0]}, column {wrong[0][1]}"
    return [f"x holds {count} NaN or infinite values, the first at {first}"] if count else []


def _check_edges(edge_index: Any, edge_weight: Any, num_nodes: int) -> list[str]:
    if not isinstance(edge_index, Tensor):
        return check_type("edge_index", edge_index)
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
        got = f"{edge_index.dtype} of {tuple(edge_index.shape)}"
        hint = "; edge_index.t() has that shape" if edge_index.shape[1:] == (2,) else ""
        return [f"edge_index must be int64 of shape [2, edges], got {got}{hint}"]
    found = []
    # The range needs no masks as long as the edges.
    if edge_index.numel() and (edge_index.min() < 0 or edge_index.max() >= num_nodes):
        outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(dim=0)
        what = f"edges leave the nodes 0 to {num_nodes - 1}"
        found += describe(outside, what, "edge", edge_index.t())
    if edge_weight is not None and not isinstance(edge_weight, Tensor):
        return found + check_type("edge_weight", edge_weight)
    if edge_weight is not None and edge_weight.shape != edge_index.shape[1:]:
        wanted = f"one entry for each of {edge_index.size(1)} edges"
        found.append(f"edge_weight must have {wanted}, got {tuple(edge_weight.shape)}")
    elif edge_weight is not None and edge_weight.is_complex():
        found.append(f"edge_weight must be real, got {edge_weight.dtype}")
    elif edge_weight is not None:
        found += describe(~edge_weight.isfinite(), "edge weights are NaN or infinite", "edge")
    return found
