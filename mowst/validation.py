r"""What is wrong with a graph as a task, and what is only worth knowing: all at once, with counts and examples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch_geometric.data import Data

from mowst.metrics import METRICS

SPLITS = ("train", "val", "test")
# Features are checked so many rows at a time: they may be a file that is mapped into memory.
ROWS = 2**16
Weights = str | Sequence[float] | Tensor | None


@dataclass(frozen=True)
class Report:
    r"""What a task is told about its graph; prints one line for each. What is an error was raised before.

    Args:
        title: the task in one line.
        repaired: what was changed to make it a task.
        told: what is allowed, and may be a mistake.
    """

    title: str
    repaired: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = {"repaired": self.repaired, "told": self.told}
        return "\n".join([self.title, *(f"  {kind}: {line}" for kind, lines in parts.items() for line in lines)])


def problems(
    data: Data,
    masks: Mapping[str, Tensor],
    num_classes: int,
    metric: str,
    class_weight: Weights = None,
    splits: Sequence[str] = SPLITS,
) -> Iterator[str]:
    r"""Every reason why a graph cannot be trained and scored on, see :class:`mowst.task.GraphTask`; nothing if it can.

    Args:
        data, masks, num_classes, metric, class_weight: The fields of the task.
        splits (list[str], optional): The splits that the masks must hold. (default: all)
    """
    x, y = data.x, data.y
    if not isinstance(x, Tensor) or x.dim() != 2:
        yield f"x must be [nodes, features], got shape {tuple(x.shape)}" if isinstance(x, Tensor) else "x is missing"
        return
    if x.size(0) == 0:
        yield "the graph has no nodes"
        return
    yield from _feature_problems(x)
    yield from _edge_problems(data.edge_index, data.get("edge_weight"), num_nodes=x.size(0))
    yield from _label_problems(y, num_nodes=x.size(0), num_classes=num_classes)
    yield from _mask_problems(masks, num_nodes=x.size(0), splits=splits)
    labelled = isinstance(y, Tensor) and y.shape == x.shape[:1]
    for key, mask in masks.items():
        if labelled and mask.dtype == torch.bool and mask.shape == x.shape[:1]:
            yield from _split_problems(key, y[mask], mask, metric=metric)
    if metric not in METRICS:
        yield f"the metric '{metric}' is unknown; known: {', '.join(METRICS)}"
    if metric == "roc_auc" and num_classes != 2:
        yield f"roc_auc needs 2 classes, the task has {num_classes}; use accuracy or f1"
    yield from _weight_problems(class_weight, num_classes=num_classes)


def remarks(data: Data, masks: Mapping[str, Tensor], num_classes: int) -> Iterator[str]:
    r"""What is allowed in a task, and may be a mistake: constant features, edges given twice, self-loops, isolated
    nodes, edges without their reverse, classes without training nodes, nodes without a label.
    """
    x, y = data.x, data.y
    constant = x.amin(dim=0) == x.amax(dim=0)
    if count := int(constant.sum()):
        yield f"{count} of {x.size(1)} features are constant, the first is column {_first(constant)}"
    yield from _edge_remarks(data.edge_index, num_nodes=x.size(0))
    absent = y[masks["train"]].bincount(minlength=num_classes) == 0
    if count := int(absent.sum()):
        yield f"{count} of {num_classes} classes have no training node, the first is class {_first(absent)}"
    if count := int((none := y < 0).sum()):
        yield f"{count} of {y.numel()} nodes have no label ({count / y.numel():.1%}), the first is node {_first(none)}"


def _feature_problems(x: Tensor) -> Iterator[str]:
    if not x.is_floating_point():
        yield f"x must be floating point, got {x.dtype}; x.float() makes it so"
    elif bad := [found for start in range(0, len(x), ROWS) if (found := _not_finite(x[start : start + ROWS], start))]:
        count, (_, node, column) = sum(count for count, *_ in bad), bad[0]
        yield f"x holds {count} NaN or infinite values, the first at node {node}, column {column}"


def _not_finite(rows: Tensor, start: int) -> tuple[int, int, int] | None:
    # How many values are not, and the first. A finite sum clears all of them, without a second array of their size.
    if rows.sum().isfinite() or (bad := ~rows.isfinite()).sum() == 0:
        return None
    node, column = bad.nonzero()[0].tolist()
    return int(bad.sum()), start + node, column


def _edge_problems(edge_index: Tensor | None, edge_weight: Tensor | None, num_nodes: int) -> Iterator[str]:
    if not isinstance(edge_index, Tensor):
        yield "edge_index is missing"
        return
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
        yield f"edge_index must be int64 of shape [2, edges], got {edge_index.dtype} of {tuple(edge_index.shape)}"
        return
    # The two ends of the range tell without masks as long as the edges.
    if edge_index.numel() and (edge_index.min() < 0 or edge_index.max() >= num_nodes):
        outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(dim=0)
        count, edge = int(outside.sum()), _first(outside)
        ends = tuple(edge_index[:, edge].tolist())
        yield f"{count} edges leave the nodes 0 to {num_nodes - 1}, the first is edge {edge}: {ends}"
    if edge_weight is None:
        return
    if edge_weight.shape != edge_index.shape[1:]:
        yield f"edge_weight must have one entry for each of {edge_index.size(1)} edges, got {tuple(edge_weight.shape)}"
    elif count := int((bad := ~edge_weight.isfinite()).sum()):
        yield f"edge_weight holds {count} NaN or infinite values, the first at edge {_first(bad)}"


def _label_problems(y: Tensor | None, num_nodes: int, num_classes: int) -> Iterator[str]:
    if not isinstance(y, Tensor):
        yield "y is missing"
    elif y.dim() == 2 and y.size(1) > 1:
        yield f"y has shape {tuple(y.shape)}: several labels per node are not supported, give one class id per node"
    elif y.shape != (num_nodes,) or y.dtype != torch.int64:
        yield f"y must be int64 of shape ({num_nodes},), got {y.dtype} of {tuple(y.shape)}"
    else:
        outside = (y < -1) | (y >= num_classes)
        if count := int(outside.sum()):
            node = _first(outside)
            known = f"0 to {num_classes - 1}, or -1 for none"
            yield f"{count} labels are outside {known}; the first is {int(y[node])} at node {node}"
        if (found := y[y >= 0].unique().numel()) < 2:
            yield f"the labelled nodes hold {found} class{'es' * (found != 1)}; a task needs at least 2"
        if num_classes > num_nodes:
            yield f"{num_classes} classes are more than {num_nodes} nodes; number the classes 0, 1, 2, ..."


def _mask_problems(masks: Mapping[str, Tensor], num_nodes: int, splits: Sequence[str]) -> Iterator[str]:
    if missing := [key for key in splits if key not in masks]:
        yield f"the masks lack {', '.join(missing)}; given: {', '.join(masks) or 'none'}"
    usable = {}
    for key, mask in masks.items():
        if mask.dtype != torch.bool or mask.shape != (num_nodes,):
            yield f"the {key} mask must be bool of shape ({num_nodes},), got {mask.dtype} of {tuple(mask.shape)}"
        else:
            usable[key] = mask
    for one, other in combinations(usable, 2):
        if count := int((both := usable[one] & usable[other]).sum()):
            yield f"{one} and {other} share {count} nodes, the first is node {_first(both)}"


def _split_problems(key: str, y: Tensor, mask: Tensor, metric: str) -> Iterator[str]:
    if y.numel() == 0:
        yield f"the {key} mask is empty"
    elif count := int((bad := y < 0).sum()):
        yield f"{count} {key} nodes have no label, the first is node {int(mask.nonzero()[_first(bad)])}"
    elif metric == "roc_auc" and y.unique().numel() < 2:
        yield f"the {key} nodes hold one class; roc_auc needs both"


def _weight_problems(class_weight: Weights, num_classes: int) -> Iterator[str]:
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            yield f"class_weight '{class_weight}' is unknown; give 'balanced' or {num_classes} numbers"
    elif class_weight is not None:
        weight = torch.as_tensor(class_weight)
        if weight.shape != (num_classes,) or not bool((weight.isfinite() & (weight > 0)).all()):
            yield f"class_weight must be {num_classes} numbers above zero or 'balanced', got {weight.tolist()}"


def _edge_remarks(edge_index: Tensor, num_nodes: int) -> Iterator[str]:
    loops = edge_index[0] == edge_index[1]
    if count := int(loops.sum()):
        yield f"{count} edges are self-loops, the first at node {int(edge_index[0, _first(loops)])}"
    between = edge_index[:, ~loops]
    alone = torch.ones(num_nodes, dtype=torch.bool, device=edge_index.device).index_fill(0, between.reshape(-1), False)
    if count := int(alone.sum()):
        yield f"{count} nodes are isolated, the first is node {_first(alone)}"
    # One number for each pair of ends, so that pairs are compared by one sort.
    pairs, counts = (edge_index[0] * num_nodes + edge_index[1]).unique(return_counts=True)
    if count := edge_index.size(1) - pairs.numel():
        pair = int(pairs[_first(counts > 1)])
        yield f"{count} edges repeat another, such as {divmod(pair, num_nodes)}"
    one_way = ~torch.isin(pairs % num_nodes * num_nodes + pairs // num_nodes, pairs, assume_unique=True)
    if count := int(one_way.sum()):
        pair = int(pairs[_first(one_way)])
        yield f"{count} of {pairs.numel()} edges have no reverse, the first is {divmod(pair, num_nodes)}"


def _first(flags: Tensor) -> int:
    return int(flags.nonzero()[0])
