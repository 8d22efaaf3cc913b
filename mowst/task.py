r"""A node classification task: one graph, its splits, its metric."""

import logging
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import subgraph

from mowst.convert import from_networkx, repair
from mowst.metrics import METRICS, expected_score
from mowst.validation import SPLITS, Report, Weights, problems, remarks

logger = logging.getLogger(__name__)


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
        class_weight (str or list[float], optional): The weight of each class in every loss, of training and of
            validation; metrics know none. :obj:`"balanced"` gives class :math:`c` with :math:`n_c` of :math:`n`
            training nodes :math:`n / (C' \, n_c)`, for the :math:`C'` classes that have one, and others 1.
            (default: :obj:`None`)
        inductive (bool, optional): If set to :obj:`True`, test nodes and their edges do not exist in training and in
            the choice among states, see :attr:`visible`. (default: :obj:`False`)
        repaired (tuple[str, ...], optional): What was changed to make the graph a task. (default: :obj:`()`)

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
    class_weight: Weights = None
    inductive: bool = False
    repaired: tuple[str, ...] = ()

    splits: ClassVar[tuple[str, ...]] = SPLITS

    def __post_init__(self) -> None:
        found = list(
            problems(self.data, self.masks, self.num_classes, self.metric, self.class_weight, splits=self.splits)
        )
        if found:
            raise ValueError("\n  - ".join([f"The task '{self.name}' cannot be used:", *found]))

    @classmethod
    def from_data(
        cls,
        data: Data,
        split: int = 0,
        metric: str = "accuracy",
        name: str = "graph",
        *,
        draw: Callable[[Tensor, int], dict[str, Tensor]] | None = None,
        class_weight: Weights = None,
        inductive: bool = False,
    ) -> "GraphTask":
        r"""Makes a task of a PyG graph that carries its own masks and labels. The masks move into the task.

        Args:
            data (torch_geometric.data.Data): A graph with :obj:`train_mask`, :obj:`val_mask`, :obj:`test_mask`. It
                is not modified.
            split (int, optional): The column of masks that hold several splits. (default: :obj:`0`)
            metric (str, optional): A key of :obj:`mowst.metrics.METRICS`. (default: :obj:`"accuracy"`)
            name (str, optional): The name in logs and results. (default: :obj:`"graph"`)
            draw (callable, optional): Makes the masks of labels and the seed :obj:`split` where the graph carries
                none, such as :func:`mowst.data.stratified_split`. (default: :obj:`None`)
            class_weight, inductive (optional): The fields of the task.

        Types and shapes that are not a task's but mean the same are repaired, which is logged as a warning and kept
        in :meth:`report`; what that tells besides is logged as information.

        Shapes:
            - **masks:** :math:`(N)` or :math:`(N, S)`; **y:** :math:`(N)` or :math:`(N, 1)`, integers, or floats
              with NaN for unlabelled nodes

        Raises:
            ValueError: If a mask is missing, there is no such split, or the task cannot be used.
        """
        data, repaired = repair(data)
        carried = {key: data.pop(f"{key}_mask", None) for key in SPLITS}
        if draw is not None and all(mask is None for mask in carried.values()):
            labelled = data.y is not None and data.y.dim() == 1 and bool((data.y >= 0).any())
            masks = draw(data.y, split) if labelled else {}
        else:
            masks = {key: _column(mask, key, split) for key, mask in carried.items()}
        numbered = data.y is not None and data.y.dtype == torch.int64 and data.y.numel()
        num_classes = int(data.y.max()) + 1 if numbered else 0
        task = cls(
            data,
            masks=masks,
            num_classes=num_classes,
            metric=metric,
            name=name,
            split=split,
            class_weight=class_weight,
            inductive=inductive,
            repaired=tuple(repaired),
        )
        task.log()
        return task

    @classmethod
    def from_networkx(
        cls,
        graph: Any,
        features: str | Sequence[str] = "x",
        label: str = "y",
        weight: str = "weight",
        **kwargs: Any,
    ) -> "GraphTask":
        r"""Makes a task of a NetworkX graph, directed or not; an undirected edge runs both ways. Nodes are numbered in
        the order of the graph, :obj:`data.node_ids` lists their own ids, and :obj:`data.class_names` the classes if
        the labels are names.

        Args:
            graph (networkx.Graph): The graph. Its nodes may carry :obj:`train_mask`, :obj:`val_mask`,
                :obj:`test_mask`, or an attribute :obj:`split` of :obj:`"train"`, :obj:`"val"`, :obj:`"test"`.
            features (str or list[str], optional): The node attributes that are the features, each a number or an
                array. (default: :obj:`"x"`)
            label (str, optional): The node attribute that is the label; without it, or with :obj:`None`, NaN or
                :obj:`-1`, a node is unlabelled. (default: :obj:`"y"`)
            weight (str, optional): The edge attribute that is the weight, 1 where only some edges have it.
                (default: :obj:`"weight"`)
            **kwargs (optional): See :meth:`from_data`.

        Raises:
            ValueError: If a node lacks its features, a label is none, or the task cannot be used.
        """
        return cls.from_data(from_networkx(graph, features, label, weight), **kwargs)

    @property
    def num_nodes(self) -> int:
        return self.data.x.size(0)

    @property
    def num_features(self) -> int:
        return self.data.x.size(1)

    @cached_property
    def visible(self) -> "GraphTask":
        r"""What training and the choice among states may see: the task itself, or of an inductive one the graph that
        its train, val and unlisted nodes induce, without a test split.
        """
        if not self.inductive:
            return self
        keep, data = ~self.masks["test"], self.data
        edge_index, _, kept = subgraph(
            keep, data.edge_index, relabel_nodes=True, num_nodes=self.num_nodes, return_edge_mask=True
        )
        seen = Data(x=data.x[keep], edge_index=edge_index, y=data.y[keep])
        if data.edge_weight is not None:
            seen.edge_weight = data.edge_weight[kept]
        fields = {field: getattr(self, field) for field in ("num_classes", "metric", "name", "split", "class_weight")}
        return VisibleTask(seen, masks={key: self.masks[key][keep] for key in VisibleTask.splits}, **fields)

    @cached_property
    def class_weights(self) -> Tensor | None:
        r"""The weights of the classes in the losses, :math:`(C)`, or :obj:`None` if all weigh the same."""
        if self.class_weight is None:
            return None
        if not isinstance(self.class_weight, str):
            return torch.as_tensor(self.class_weight, dtype=self.data.x.dtype, device=self.data.x.device)
        counts = self.labels("train").bincount(minlength=self.num_classes)
        weights = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))
        return torch.where(counts > 0, weights, 1.0).to(self.data.x.dtype)

    def report(self) -> Report:
        r"""What was repaired to make the graph a task, and what in it is allowed but may be a mistake."""
        return Report(str(self), repaired=self.repaired, told=tuple(remarks(self.data, self.masks, self.num_classes)))

    def log(self) -> None:
        r"""Logs the report; nothing is computed for information that no one listens to."""
        for line in self.repaired:
            logger.warning("%s: %s", self.name, line)
        if logger.isEnabledFor(logging.INFO):
            for line in self.report().told:
                logger.info("%s: %s", self.name, line)

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
        a probability has underflowed to 0. Under class weights it is the weighted mean, as the training loss is.

        Args:
            prob (Tensor): The class probabilities of all nodes, or of the split's nodes in the order of :meth:`index`.
            split (str, optional): The nodes to score. (default: :obj:`"val"`)

        Shapes:
            - **prob:** :math:`(N, C)` or :math:`(n, C)`, **output:** a scalar
        """
        prob = self._on(prob, split)
        true = prob.gather(1, self.labels(split).unsqueeze(1)).squeeze(1)
        losses = -true.clamp(min=torch.finfo(prob.dtype).tiny).log()
        if self.class_weights is None:
            return losses.mean()
        weight = self.class_weights[self.labels(split)]
        return (weight * losses).sum() / weight.sum()

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


class VisibleTask(GraphTask):
    r"""The part of an inductive task that training may see."""

    splits = ("train", "val")


def _lookup(values: dict[str, Tensor], split: str) -> Tensor:
    if split not in values:
        raise ValueError(f"There is no split '{split}'; known: {', '.join(values)}")
    return values[split]


def _column(mask: Tensor | None, key: str, split: int) -> Tensor:
    if mask is None:
        raise ValueError(
            f"data.{key}_mask is missing; set it, build GraphTask(data, masks=...), or draw a split: "
            "draw=mowst.data.stratified_split"
        )
    if mask.dim() == 2 and not 0 <= split < mask.size(1):
        raise ValueError(f"There is no split {split}: data.{key}_mask holds splits 0 to {mask.size(1) - 1}")
    if mask.dim() == 1 and split != 0:
        raise ValueError(f"There is no split {split}: data.{key}_mask holds only split 0")
    return mask[:, split] if mask.dim() == 2 else mask
