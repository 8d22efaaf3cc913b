r"""A node classification task: one graph, its splits, its metric."""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor
from torch_geometric.data import Data

from mowst.metrics import METRICS, expected_score

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False, repr=False)
class GraphTask:
    r"""A graph with everything that is asked of a model on it. Every score of this package comes from
    :meth:`evaluate`, every validation loss from :meth:`nll`.

    Args:
        data (torch_geometric.data.Data): The graph: :obj:`x`, :obj:`edge_index`, :obj:`y` (:obj:`-1` where a node has
            no label) and optionally :obj:`edge_weight`. Other attributes are kept.
        masks (dict[str, Tensor]): The disjoint, non-empty node sets :obj:`"train"`, :obj:`"val"`, :obj:`"test"`.
        num_classes (int): The number of classes :math:`C`.
        metric (str, optional): A key of :obj:`mowst.metrics.METRICS`. (default: :obj:`"accuracy"`)
        name (str, optional): The name in logs and results. (default: :obj:`"graph"`)
        split (int or str, optional): Which split the masks are. (default: :obj:`0`)
        preprocessing (tuple[str, ...], optional): What was done to the published graph. (default: :obj:`()`)

    Shapes:
        - **x:** :math:`(N, F)`, **edge_index:** :math:`(2, E)`, **edge_weight:** :math:`(E)`, **y:** :math:`(N)`,
          **masks:** :math:`(N)` each

    Raises:
        ValueError: If the task cannot be trained and scored; names every problem found, with a count and an example.
    """

    data: Data
    masks: dict[str, Tensor]
    num_classes: int
    metric: str = "accuracy"
    name: str = "graph"
    split: int | str = 0
    preprocessing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ValueError("\n  - ".join([f"The task '{self.name}' cannot be used:", *problems]))

    @classmethod
    def from_data(cls, data: Data, split: int = 0, metric: str = "accuracy", name: str = "graph") -> "GraphTask":
        r"""Makes a task of a PyG graph that carries its own masks and labels. The masks move into the task.

        Args:
            data (torch_geometric.data.Data): A graph with :obj:`train_mask`, :obj:`val_mask`, :obj:`test_mask`. It
                is not modified.
            split (int, optional): The column of masks that hold several splits. (default: :obj:`0`)
            metric (str, optional): A key of :obj:`mowst.metrics.METRICS`. (default: :obj:`"accuracy"`)
            name (str, optional): The name in logs and results. (default: :obj:`"graph"`)

        Shapes:
            - **masks:** :math:`(N)` or :math:`(N, S)`; **y:** :math:`(N)` or :math:`(N, 1)`, integers, or floats
              with NaN for unlabelled nodes

        Raises:
            ValueError: If a mask is missing, there is no such split, or the task cannot be used.
        """
        data = copy(data)
        masks = {key: _column(data.pop(f"{key}_mask", None), key, split) for key in SPLITS}
        data.y = None if data.y is None else _class_ids(data.y)
        num_classes = int(data.y.max()) + 1 if data.y is not None and data.y.numel() else 0
        return cls(data, masks=masks, num_classes=num_classes, metric=metric, name=name, split=split)

    @property
    def num_nodes(self) -> int:
        return self.data.x.size(0)

    @property
    def num_features(self) -> int:
        return self.data.x.size(1)

    def index(self, split: str) -> Tensor:
        r"""The ids of the nodes of a split, :math:`(n)`."""
        return _lookup(self._index, split)

    def labels(self, split: str) -> Tensor:
        r"""The labels of the nodes of a split, :math:`(n)`."""
        return _lookup(self._labels, split)

    def features(self, split: str) -> Tensor:
        r"""The features of the :obj:`"train"` or :obj:`"val"` nodes, :math:`(n, F)`; the same tensor on every call."""
        return _lookup(self._features, split)

    def evaluate(self, prob: Tensor, split: str = "val") -> float:
        r"""The task's metric of class probabilities on a split.

        Args:
            prob (Tensor): The class probabilities of all nodes, or of the split's nodes in the order of :meth:`index`.
            split (str, optional): The nodes to score. (default: :obj:`"val"`)

        Shapes:
            - **prob:** :math:`(N, C)` or :math:`(n, C)`

        Raises:
            ValueError: If the shape is another, or a probability on the split is NaN.
        """
        prob = self._on(prob, split)
        if prob.isnan().any():
            raise ValueError(
                f"The predictions on the {split} nodes of '{self.name}' hold NaN: did the training diverge?"
            )
        return float(self.score(prob, split))

    def score(self, prob: Tensor, split: str = "val") -> Tensor:
        r"""The same as a scalar on the device of the probabilities, without waiting for it or looking for NaN."""
        return METRICS[self.metric](self._on(prob, split), self.labels(split))

    def expected(self, probs: Sequence[Tensor], shares: Sequence[Tensor], split: str = "val") -> float | None:
        r"""The exact expectation of the metric under sampled routing, see :func:`mowst.metrics.expected_score`;
        :obj:`None` for a metric without one.

        Args:
            probs (list[Tensor]): The class probabilities of each expert.
            shares (list[Tensor]): The probability that an expert answers, for each.
            split (str, optional): The nodes to score. (default: :obj:`"val"`)

        Shapes:
            - **probs:** :math:`(N, C)` each, **shares:** :math:`(N)` each
        """
        if wrong := [tuple(share.shape) for share in shares if share.shape != (self.num_nodes,)]:
            raise ValueError(f"shares must be of shape ({self.num_nodes},), got {wrong[0]}")
        index = self.index(split)
        probs = [self._on(prob, split) for prob in probs]
        return expected_score(self.metric, probs, [share[index] for share in shares], self.labels(split))

    def nll(self, prob: Tensor, split: str = "val") -> Tensor:
        r"""The mean negative log-likelihood :math:`-\frac{1}{n} \sum_v \log p_{v, y_v}` of a split, finite also where
        a probability has underflowed to 0.

        Args:
            prob (Tensor): The class probabilities of all nodes, or of the split's nodes in the order of :meth:`index`.
            split (str, optional): The nodes to score. (default: :obj:`"val"`)

        Shapes:
            - **prob:** :math:`(N, C)` or :math:`(n, C)`, **output:** a scalar
        """
        prob = self._on(prob, split)
        true = prob.gather(1, self.labels(split).unsqueeze(1))
        return -true.clamp(min=torch.finfo(prob.dtype).tiny).log().mean()

    def to(self, device: torch.device | str) -> "GraphTask":
        r"""The same task on a device."""
        masks = {key: mask.to(device) for key, mask in self.masks.items()}
        return replace(self, data=copy(self.data).to(device), masks=masks)

    def with_masks(self, train: Tensor, val: Tensor, test: Tensor, split: int | str = "custom") -> "GraphTask":
        r"""The same graph under another split, named `split` in results."""
        return replace(self, masks={"train": train, "val": val, "test": test}, split=split)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name}, nodes={self.num_nodes}, edges={self.data.edge_index.size(1)}, "
            f"features={self.num_features}, classes={self.num_classes}, metric={self.metric}, split={self.split})"
        )

    @cached_property
    def _index(self) -> dict[str, Tensor]:
        return {key: mask.nonzero().view(-1) for key, mask in self.masks.items()}

    @cached_property
    def _features(self) -> dict[str, Tensor]:
        return {key: self.data.x[index] for key, index in self._index.items() if key != "test"}

    @cached_property
    def _labels(self) -> dict[str, Tensor]:
        return {key: self.data.y[index] for key, index in self._index.items()}

    def _on(self, prob: Tensor, split: str) -> Tensor:
        index = self.index(split)
        if prob.shape == (index.numel(), self.num_classes):
            return prob
        if prob.shape != (self.num_nodes, self.num_classes):
            known = f"{(self.num_nodes, self.num_classes)} or {(index.numel(), self.num_classes)} ({split})"
            raise ValueError(f"'{self.name}' scores probabilities of shape {known}, got {tuple(prob.shape)}")
        return prob[index]


def _lookup(values: dict[str, Tensor], split: str) -> Tensor:
    if split not in values:
        raise ValueError(f"There is no split '{split}'; known: {', '.join(values)}")
    return values[split]


def _column(mask: Tensor | None, key: str, split: int) -> Tensor:
    if mask is None:
        raise ValueError(f"data.{key}_mask is missing; set it, or build GraphTask(data, masks=...)")
    if mask.dim() == 2 and not 0 <= split < mask.size(1):
        raise ValueError(f"There is no split {split}: data.{key}_mask holds splits 0 to {mask.size(1) - 1}")
    if mask.dim() == 1 and split != 0:
        raise ValueError(f"There is no split {split}: data.{key}_mask holds only split 0")
    return mask[:, split] if mask.dim() == 2 else mask


def _class_ids(y: Tensor) -> Tensor:
    y = y.squeeze(1) if y.dim() == 2 and y.size(1) == 1 else y
    if y.is_floating_point():
        y = torch.where(y.isnan(), -1.0, y)
        return y.long() if bool((y == y.round()).all()) else y
    return y.long()


def _problems(task: GraphTask) -> Iterator[str]:
    data, x, y = task.data, task.data.x, task.data.y
    if x is None or x.dim() != 2:
        yield "x is missing" if x is None else f"x must be [nodes, features], got shape {tuple(x.shape)}"
        return
    if x.size(0) == 0:
        yield "the graph has no nodes"
        return
    yield from _feature_problems(x)
    yield from _edge_problems(data.edge_index, data.get("edge_weight"), num_nodes=x.size(0))
    yield from _label_problems(y, num_nodes=x.size(0), num_classes=task.num_classes)
    yield from _mask_problems(task.masks, num_nodes=x.size(0))
    labelled = y is not None and y.shape == x.shape[:1]
    for key, mask in task.masks.items():
        if labelled and mask.dtype == torch.bool and mask.shape == x.shape[:1]:
            yield from _split_problems(key, y[mask], mask, metric=task.metric)
    if task.metric not in METRICS:
        yield f"the metric '{task.metric}' is unknown; known: {', '.join(METRICS)}"
    if task.metric == "roc_auc" and task.num_classes != 2:
        yield f"roc_auc needs 2 classes, the task has {task.num_classes}; use accuracy or f1"


def _feature_problems(x: Tensor) -> Iterator[str]:
    if not x.is_floating_point():
        yield f"x must be floating point, got {x.dtype}; x.float() makes it so"
    # A finite sum clears all values in one pass, without a second array of their size.
    elif not x.sum().isfinite() and (count := int((bad := ~x.isfinite()).sum())):
        node, column = bad.nonzero()[0].tolist()
        yield f"x holds {count} NaN or infinite values, the first at node {node}, column {column}"


def _edge_problems(edge_index: Tensor | None, edge_weight: Tensor | None, num_nodes: int) -> Iterator[str]:
    if not isinstance(edge_index, Tensor):
        yield "edge_index is missing"
        return
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.int64:
        yield f"edge_index must be int64 of shape [2, edges], got {edge_index.dtype} of {tuple(edge_index.shape)}"
        return
    outside = ((edge_index < 0) | (edge_index >= num_nodes)).any(dim=0)
    if count := int(outside.sum()):
        edge = int(outside.nonzero()[0])
        ends = tuple(edge_index[:, edge].tolist())
        yield f"{count} edges leave the nodes 0 to {num_nodes - 1}, the first is edge {edge}: {ends}"
    if edge_weight is None:
        return
    if edge_weight.shape != edge_index.shape[1:]:
        yield f"edge_weight must have one entry for each of {edge_index.size(1)} edges, got {tuple(edge_weight.shape)}"
    elif count := int((bad := ~edge_weight.isfinite()).sum()):
        yield f"edge_weight holds {count} NaN or infinite values, the first at edge {int(bad.nonzero()[0])}"


def _label_problems(y: Tensor | None, num_nodes: int, num_classes: int) -> Iterator[str]:
    if y is None:
        yield "y is missing"
    elif y.dim() == 2 and y.size(1) > 1:
        yield f"y has shape {tuple(y.shape)}: several labels per node are not supported, give one class id per node"
    elif y.shape != (num_nodes,) or y.dtype != torch.int64:
        yield f"y must be int64 of shape ({num_nodes},), got {y.dtype} of {tuple(y.shape)}"
    else:
        outside = (y < -1) | (y >= num_classes)
        if count := int(outside.sum()):
            node = int(outside.nonzero()[0])
            known = f"0 to {num_classes - 1}, or -1 for none"
            yield f"{count} labels are outside {known}; the first is {int(y[node])} at node {node}"
        if (found := y[y >= 0].unique().numel()) < 2:
            yield f"the labelled nodes hold {found} class{'es' * (found != 1)}; a task needs at least 2"


def _mask_problems(masks: dict[str, Tensor], num_nodes: int) -> Iterator[str]:
    if missing := [key for key in SPLITS if key not in masks]:
        yield f"the masks lack {', '.join(missing)}; given: {', '.join(masks) or 'none'}"
    usable = {}
    for key, mask in masks.items():
        if mask.dtype != torch.bool or mask.shape != (num_nodes,):
            yield f"the {key} mask must be bool of shape ({num_nodes},), got {mask.dtype} of {tuple(mask.shape)}"
        else:
            usable[key] = mask
    for one, other in combinations(usable, 2):
        if count := int((both := usable[one] & usable[other]).sum()):
            yield f"{one} and {other} share {count} nodes, the first is node {int(both.nonzero()[0])}"


def _split_problems(key: str, y: Tensor, mask: Tensor, metric: str) -> Iterator[str]:
    if y.numel() == 0:
        yield f"the {key} mask is empty"
    elif count := int((bad := y < 0).sum()):
        node = int(mask.nonzero()[int(bad.nonzero()[0])])
        yield f"{count} {key} nodes have no label, the first is node {node}"
    elif metric == "roc_auc" and y.unique().numel() < 2:
        yield f"the {key} nodes hold one class; roc_auc needs both"
