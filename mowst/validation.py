r"""Checks of a graph as a task: errors and remarks, all at once, with counts and examples. Those of
features and edges are in :mod:`mowst.graph_checks`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from mowst.graph_checks import check_type, describe, find_edge_remarks, find_graph_problems
from mowst.labels import is_labelled
from mowst.metrics import AnyMetric

SPLITS = ("train", "val", "test")
REQUIRED_SPLITS = ("train", "val")
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
        if isinstance(y, Tensor) and y.shape[:1] == mask.shape and y.dtype == torch.int64:
            found += _check_split(key, y, mask, metric)
    several = isinstance(y, Tensor) and y.dim() == 2
    if metric == "roc_auc" and num_classes != 2 and not several:
        found.append(f"roc_auc needs 2 classes, the task has {num_classes}; use accuracy or f1")
    if several and class_weight is not None:
        found.append("class_weight weights classes; a task of several labels has none")
    return found + _check_class_weight(class_weight, num_classes)


def find_remarks(data: Data, masks: Mapping[str, Tensor], num_classes: int) -> list[str]:
    r"""Returns what is allowed in a task, but may be a mistake: constant features, duplicate edges,
    self-loops, isolated nodes, edges without their reverse, classes without training nodes,
    unlabelled nodes.
    """
    x, y = data.x, data.y
    constant = x.amin(dim=0) == x.amax(dim=0)
    found = describe(constant, f"of {x.size(1)} features are constant", "column")
    found += find_edge_remarks(data)
    if y.dim() == 2:
        return found + _find_label_remarks(y, masks["train"])
    absent = y[masks["train"]].bincount(minlength=num_classes) == 0
    found += describe(absent, f"of {num_classes} classes have no training node", "class")
    share = (y < 0).float().mean().item()
    found += describe(y < 0, f"of {y.numel()} nodes have no label ({share:.1%})", "node")
    return found


def _find_label_remarks(y: Tensor, train: Tensor) -> list[str]:
    absent = (y[train] == 1).sum(dim=0) == 0
    found = describe(absent, f"of {y.size(1)} labels have no training node", "label")
    count = int((y < 0).sum())
    if count > 0:
        found.append(f"{count} of {y.numel()} labels are unknown ({count / y.numel():.1%})")
    if (y >= 0).all() and (y.sum(dim=1) == 1).all():
        found.append("each node has exactly one label; y.argmax(dim=1) makes them classes")
    return found


def _check_labels(y: Any, num_nodes: int, num_classes: int) -> list[str]:
    if not isinstance(y, Tensor):
        return check_type("y", y)
    shape = tuple(y.shape)
    if y.is_floating_point() and (y.isfinite() & (y != y.round())).any():
        return [f"y holds real numbers, of {y.dtype}; nodes are classified: bin y into classes"]
    if y.dim() == 2:
        return _check_several(y, num_nodes, num_classes)
    if y.shape != (num_nodes,) or y.dtype != torch.int64:
        return [f"y must be int64 of shape ({num_nodes},), got {y.dtype} of {shape}"]
    what = f"labels are outside 0 to {num_classes - 1}, or -1 for none"
    found = describe((y < -1) | (y >= num_classes), what, "node", y)
    count = y[y >= 0].unique().numel()
    if count < 2:
        found.append(f"the number of classes with a labelled node is {count}; it must be 2 or more")
    if num_classes > num_nodes:
        hint = "number the classes 0, 1, 2, ..."
        found.append(f"{num_classes} classes are more than {num_nodes} nodes; {hint}")
    return found


def _check_several(y: Tensor, num_nodes: int, num_classes: int) -> list[str]:
    if y.shape != (num_nodes, num_classes) or y.dtype != torch.int64:
        wanted, got = f"int64 of {(num_nodes, num_classes)}", f"{y.dtype} of {tuple(y.shape)}"
        return [f"y with several labels per node must be {wanted}, got {got}"]
    what = "nodes have labels that are not 0, 1, or -1 for unknown"
    found = describe(((y < -1) | (y > 1)).any(dim=1), what, "node", y)
    if not (y >= 0).any():
        found.append("no label is known")
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
        found += describe(both, f"nodes are in both {one} and {other}", "node")
    return found


def _is_mask(mask: Any, num_nodes: int) -> bool:
    return isinstance(mask, Tensor) and mask.dtype == torch.bool and mask.shape == (num_nodes,)


def _check_split(key: str, y: Tensor, mask: Tensor, metric: AnyMetric) -> list[str]:
    if not mask.any():
        return [f"the {key} mask is empty"]
    found = describe(mask & ~is_labelled(y), f"{key} nodes have no label", "node")
    if found or metric != "roc_auc":
        return found
    seen = y[mask].view(int(mask.sum()), -1)
    if not ((seen == 0).any(dim=0) & (seen == 1).any(dim=0)).any():
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
