r"""Checks of a graph as a task: errors and remarks, all at once, with counts and examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from mowst.metrics import AnyMetric

SPLITS = ("train", "val", "test")
REQUIRED_SPLITS = ("train", "val")
ROWS = 2**16  # features are checked in chunks of so many rows: they may be mapped from a file
Weights = str | Sequence[float] | Tensor | None


@dataclass(frozen=True)
class Report:
    r"""Repairs and remarks on the graph of a task. Prints one line for each.

    Args:
        title (str): The task in one line.
        repaired (tuple[str, ...], optional): The changes that made the graph a task.
            (default: :obj:`()`)
        remarks (tuple[str, ...], optional): Properties that are allowed, but may be a mistake.
            (default: :obj:`()`)
    """

    title: str
    repaired: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.title]
        lines += [f"  repaired: {line}" for line in self.repaired]
        lines += [f"  remark: {line}" for line in self.remarks]
        return "\n".join(lines)


def find_problems(
    data: Data,
    masks: Mapping[str, Tensor],
    num_classes: int,
    metric: AnyMetric,
    class_weight: Weights = None,
) -> list[str]:
    r"""Returns every reason why a graph cannot be trained and scored on. The arguments are the
    fields of :class:`mowst.task.GraphTask`.
    """
    if not isinstance(data, Data):
        return [f"data must be a torch_geometric.data.Data, got {type(data).__name__}"]
    x, y = data.x, data.y
    found = find_graph_problems(data)
    if not isinstance(x, Tensor) or x.dim() != 2 or x.size(0) == 0 or x.layout != torch.strided:
        return found
    found += _check_labels(y, num_nodes=x.size(0), num_classes=num_classes)
    found += _check_masks(masks, num_nodes=x.size(0))
    for key, mask in masks.items():
        if not _is_mask(mask, num_nodes=x.size(0)):
            continue
        if isinstance(y, Tensor) and y.shape == mask.shape and not y.is_complex():
            found += _check_split(key, y, mask, metric)
    if metric == "roc_auc" and num_classes != 2:
        found.append(f"roc_auc needs 2 classes, the task has {num_classes}; use accuracy or f1")
    return found + _check_class_weight(class_weight, num_classes)


def find_graph_problems(data: Data) -> list[str]:
    r"""Returns every reason why a graph, with or without labels, cannot be predicted."""
    x = data.x
    if x is None:
        return ["x is missing; for nodes without features, torch.eye(num_nodes) numbers them"]
    if not isinstance(x, Tensor) or x.layout != torch.strided:
        return _check_type("x", x)
    if x.dim() != 2:
        return [f"x must be [nodes, features], got shape {tuple(x.shape)}"]
    if x.size(0) == 0:
        return ["the graph has no nodes"]
    weight = data.get("edge_weight")
    return _check_features(x) + _check_edges(data.edge_index, weight, num_nodes=x.size(0))


def find_remarks(data: Data, masks: Mapping[str, Tensor], num_classes: int) -> list[str]:
    r"""Returns what is allowed in a task, but may be a mistake: constant features, duplicate edges,
    self-loops, isolated nodes, edges without their reverse, classes without training nodes,
    unlabelled nodes.
    """
    x, y = data.x, data.y
    constant = x.amin(dim=0) == x.amax(dim=0)
    found = _describe(constant, f"of {x.size(1)} features are constant", "column")
    found += _find_edge_remarks(data.edge_index, num_nodes=x.size(0))
    for key, value in data.to_dict().items():
        if key not in ("edge_weight", "edge_attr") and _holds_edge_numbers(data, key, value):
            found.append(f"{key} holds a number for each edge; weights are named edge_weight")
    absent = y[masks["train"]].bincount(minlength=num_classes) == 0
    found += _describe(absent, f"of {num_classes} classes have no training node", "class")
    share = (y < 0).float().mean().item()
    found += _describe(y < 0, f"of {y.numel()} nodes have no label ({share:.1%})", "node")
    return found


def _holds_edge_numbers(data: Data, key: str, value: Any) -> bool:
    if not isinstance(value, Tensor) or value.dim() != 1 or not data.is_edge_attr(key):
        return False
    return data.edge_weight is None


def _describe(flags: Tensor, what: str, noun: str, values: Tensor | None = None) -> list[str]:
    # A sentence with the number of flags and the position and value of the first, if any is set.
    if not flags.any():
        return []
    first = int(flags.nonzero()[0])
    value = "" if values is None else f": {values[first].tolist()}"
    return [f"{int(flags.sum())} {what}, the first is {noun} {first}{value}"]


def _check_type(key: str, value: Any) -> list[str]:
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
        return _check_type("edge_index", edge_index)
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
        got = f"{edge_index.dtype} of {tuple(edge_index.shape)}"
        hint = "; edge_index.t() has that shape" if edge_index.shape[1:] == (2,) else ""
        return [f"edge_index must be int64 of shape [2, edges], got {got}{hint}"]
    found = []
    # The range needs no masks as long as the edges.
    if edge_index.numel() and (edge_index.min() < 0 or edge_index.max() >= num_nodes):
        outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(dim=0)
        what = f"edges leave the nodes 0 to {num_nodes - 1}"
        found += _describe(outside, what, "edge", edge_index.t())
    if edge_weight is not None and not isinstance(edge_weight, Tensor):
        return found + _check_type("edge_weight", edge_weight)
    if edge_weight is not None and edge_weight.shape != edge_index.shape[1:]:
        wanted = f"one entry for each of {edge_index.size(1)} edges"
        found.append(f"edge_weight must have {wanted}, got {tuple(edge_weight.shape)}")
    elif edge_weight is not None and edge_weight.is_complex():
        found.append(f"edge_weight must be real, got {edge_weight.dtype}")
    elif edge_weight is not None:
        found += _describe(~edge_weight.isfinite(), "edge weights are NaN or infinite", "edge")
    return found


def _check_labels(y: Any, num_nodes: int, num_classes: int) -> list[str]:
    if not isinstance(y, Tensor):
        return _check_type("y", y)
    shape = tuple(y.shape)
    if y.dim() == 2 and y.size(1) > 1:
        problem = "several labels per node are not supported, give one class id per node"
        return [f"y has shape {shape}: {problem}"]
    if y.shape != (num_nodes,) or y.dtype != torch.int64:
        return [f"y must be int64 of shape ({num_nodes},), got {y.dtype} of {shape}"]
    what = f"labels are outside 0 to {num_classes - 1}, or -1 for none"
    found = _describe((y < -1) | (y >= num_classes), what, "node", y)
    count = y[y >= 0].unique().numel()
    if count < 2:
        found.append(f"the number of classes with a labelled node is {count}; it must be 2 or more")
    if num_classes > num_nodes:
        hint = "number the classes 0, 1, 2, ..."
        found.append(f"{num_classes} classes are more than {num_nodes} nodes; {hint}")
    return found


def _check_masks(masks: Mapping[str, Tensor], num_nodes: int) -> list[str]:
    found, usable = [], {}
    missing = [key for key in REQUIRED_SPLITS if key not in masks]
    if missing:
        given = ", ".join(masks) or "none"
        found.append(f"the masks lack {', '.join(missing)}; given: {given}")
    for key, mask in masks.items():
        if _is_mask(mask, num_nodes):
            usable[key] = mask
            continue
        got = type(mask).__name__
        if isinstance(mask, Tensor):
            got = f"{mask.dtype} of {tuple(mask.shape)}"
        found.append(f"the {key} mask must be bool of shape ({num_nodes},), got {got}")
    for one, other in combinations(usable, 2):
        both = usable[one] & usable[other]
        found += _describe(both, f"nodes are in both {one} and {other}", "node")
    return found


def _is_mask(mask: Any, num_nodes: int) -> bool:
    return isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == (num_nodes,)


def _check_split(key: str, y: Tensor, mask: Tensor, metric: AnyMetric) -> list[str]:
    if not mask.any():
        return [f"the {key} mask is empty"]
    found = _describe(mask & (y < 0), f"{key} nodes have no label", "node")
    if not found and metric == "roc_auc" and y[mask].unique().numel() < 2:
        found.append(f"the {key} nodes hold one class; roc_auc needs both")
    return found


def _check_class_weight(class_weight: Weights, num_classes: int) -> list[str]:
    wanted = f"{num_classes} numbers above zero or 'balanced'"
    if isinstance(class_weight, str):
        known = class_weight == "balanced"
        return [] if known else [f"class_weight must be {wanted}, got '{class_weight}'"]
    if class_weight is None:
        return []
    weight = torch.as_tensor(class_weight)
    if weight.shape == (num_classes,) and (weight.isfinite() & (weight > 0)).all():
        return []
    return [f"class_weight must be {wanted}, got {weight.tolist()}"]


def _find_edge_remarks(edge_index: Tensor, num_nodes: int) -> list[str]:
    loops = edge_index[0] == edge_index[1]
    found = _describe(loops, "edges are self-loops", "edge", edge_index.t())
    isolated = torch.ones(num_nodes, dtype=torch.bool, device=edge_index.device)
    isolated[edge_index[:, ~loops].reshape(-1)] = False
    found += _describe(isolated, "nodes are isolated", "node")
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
    return found
