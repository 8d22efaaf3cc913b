r"""Node classification task: a graph, its splits and its metric."""

import logging
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset

from mowst.convert import read_splits, repair
from mowst.forms import read_graph
from mowst.labels import average_labels, count_classes, label_prob, pick_true
from mowst.metrics import EXACT, AnyMetric, Metric, expected_score, find_metric, read_metric
from mowst.notebook import make_html
from mowst.official import score_by_ogb
from mowst.validation import SPLITS, Report, Weights, find_problems, find_remarks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class GraphTask:
    r"""A graph with node labels, splits and a metric. All scores of this package come from
    :meth:`evaluate` or :meth:`score`, all validation losses from :meth:`nll`.

    Args:
        data (torch_geometric.data.Data): The graph: :obj:`x`, :obj:`edge_index`, :obj:`y`
            (:obj:`-1` for unlabelled nodes), optionally :obj:`edge_weight` and other attributes.
            With several labels per node, :obj:`y` holds 0, 1, and :obj:`-1` for unknown labels.
            Experts whose forward names an attribute, such as :obj:`edge_attr`, get it.
        masks (dict[str, Tensor]): The disjoint, non-empty node sets :obj:`"train"`, :obj:`"val"`
            and optionally :obj:`"test"`.
        num_classes (int): The number of classes :math:`C`, or of labels :math:`L`.
        metric (str, Metric or callable, optional): A key of :obj:`mowst.metrics.METRICS`, a
            :class:`~mowst.metrics.Metric`, a function :obj:`f(prob, y)` in which higher is better,
            or an object of torchmetrics. (default: :obj:`"accuracy"`)
        name (str, optional): The name in logs and results. (default: :obj:`"graph"`)
        split (int or str, optional): The number or name of the split. (default: :obj:`0`)
        preprocessing (tuple[str, ...], optional): The changes to the published graph.
            (default: :obj:`()`)
        class_weight (str or list[float], optional): The weight of each class in the training and
            validation losses. Metrics are not weighted. :obj:`"balanced"` weights class :math:`c`
            with :math:`n_c` of :math:`n` training nodes by :math:`n / (C' \, n_c)`, where
            :math:`C'` classes have training nodes; other classes have weight 1.
            (default: :obj:`None`)
        inductive (bool, optional): If set to :obj:`True`, test nodes and their edges are hidden
            during training and model selection, see :attr:`visible`. (default: :obj:`False`)
        repaired (tuple[str, ...], optional): The changes that made the graph a task.
            (default: :obj:`()`)

    Shapes:
        - **x:** :math:`(N, F)`, **edge_index:** :math:`(2, E)`, **edge_weight:** :math:`(E)`,
          **y:** :math:`(N)` or :math:`(N, L)`, **masks:** :math:`(N)` each

    Raises:
        ValueError: If the task cannot be trained and scored. Lists every problem with a count and
            an example.
    """

    data: Data
    masks: dict[str, Tensor]
    num_classes: int
    metric: AnyMetric = "accuracy"
    name: str = "graph"
    split: int | str = 0
    preprocessing: tuple[str, ...] = ()
    class_weight: Weights = None
    inductive: bool = False
    repaired: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        metric, unknown = self.metric, []
        try:
            object.__setattr__(self, "metric", read_metric(metric))
        except ValueError as error:
            unknown.append(str(error))
        found = find_problems(
            self.data, self.masks, self.num_classes, self.metric, self.class_weight
        )
        found += unknown
        if found:
            raise ValueError("\n  - ".join([f"The task '{self.name}' cannot be used:", *found]))

    @classmethod
    def from_data(
        cls,
        data: Data | Dataset,
        split: int = 0,
        metric: AnyMetric = "accuracy",
        name: str = "graph",
        *,
        splits: Mapping[str, Any] | None = None,
        draw: Callable[[Tensor, int], dict[str, Tensor]] | None = None,
        class_weight: Weights = None,
        inductive: bool = False,
    ) -> "GraphTask":
        r"""Creates a task from a PyG graph with masks. The graph is not modified.

        Types and shapes with the same meaning as those of a task are repaired, which is logged as a
        warning. These are :obj:`adj_t` instead of :obj:`edge_index`, sparse features, arrays, lists
        and node ids instead of masks. See :meth:`report` for the repairs and remarks.

        Args:
            data (torch_geometric.data.Data): A graph with :obj:`train_mask`, :obj:`val_mask` and
                optionally :obj:`test_mask`, or a dataset of one graph.
            split (int, optional): The column of masks that hold several splits. (default: :obj:`0`)
            splits (dict, optional): The node ids or masks of :obj:`"train"`, :obj:`"val"` (or
                :obj:`"valid"`) and optionally :obj:`"test"`, instead of the masks of the graph,
                such as :obj:`dataset.get_idx_split()` of OGB. (default: :obj:`None`)
            metric, name, class_weight, inductive (optional): The fields of the task.
            draw (callable, optional): Draws the masks if the graph has none, given the labels and
                :obj:`split` as the seed, such as :func:`mowst.data.stratified_split`.
                (default: :obj:`None`)

        Shapes:
            - **masks:** :math:`(N)` or :math:`(N, S)`; **y:** :math:`(N)` or :math:`(N, 1)`, or
              :math:`(N, L)` for several labels, integers, or floats with NaN for unlabelled nodes
        """
        if not isinstance(split, Integral):
            raise ValueError(f"split must be an integer, the column of the masks, got {split!r}")
        split = int(split)
        data, repaired = repair(read_graph(data))
        carried = {key: data.pop(f"{key}_mask", None) for key in SPLITS}
        masks = {key: mask for key, mask in carried.items() if mask is not None}
        if splits is not None:
            masks = read_splits(splits, data.num_nodes or 0)
        y = data.y
        if draw is not None and not masks:
            if y is not None and y.dim() == 1 and (y >= 0).any():
                masks = draw(y, split)
        else:
            masks = _select_columns(masks, split)
        num_classes = 0
        if y is not None and y.numel() > 0 and (y.dim() == 2 or y.dtype == torch.int64):
            num_classes = count_classes(y)
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

    @property
    def num_nodes(self) -> int:
        return self.data.x.size(0)

    @property
    def num_features(self) -> int:
        return self.data.x.size(1)

    @property
    def multilabel(self) -> bool:
        r"""Whether nodes have several labels, see :mod:`mowst.labels`."""
        return self.data.y.dim() == 2

    @property
    def splits(self) -> tuple[str, ...]:
        r"""The splits of the task, in the order train, val, test."""
        return tuple(key for key in SPLITS if key in self.masks)

    @property
    def higher_is_better(self) -> bool:
        r"""Whether a higher value of the metric is better."""
        return find_metric(self.metric).higher_is_better

    @property
    def has_expected(self) -> bool:
        r"""Whether :meth:`expected` has a closed form for the metric."""
        return self.metric in EXACT

    @cached_property
    def visible(self) -> "GraphTask":
        r"""The part of the task that training and model selection may see: the task itself, or for
        an inductive task the subgraph of all nodes but the test nodes, without a test split.
        """
        if not self.inductive or "test" not in self.masks:
            return self
        keep = ~self.masks["test"]
        seen = self.data.subgraph(keep)  # with the rows of all tensors of nodes and edges
        masks = {key: self.masks[key][keep] for key in ("train", "val")}
        return replace(self, data=seen, masks=masks, inductive=False)

    @cached_property
    def class_weights(self) -> Tensor | None:
        r"""The class weights of the losses, :math:`(C)`, or :obj:`None` if they are equal."""
        if self.class_weight is None:
            return None
        x = self.data.x
        if not isinstance(self.class_weight, str):
            return torch.as_tensor(self.class_weight, dtype=x.dtype, device=x.device)
        counts = self.labels("train").bincount(minlength=self.num_classes)
        weights = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))
        return torch.where(counts > 0, weights, 1.0).to(x.dtype)

    def report(self) -> Report:
        r"""Returns the repairs of the graph, and remarks on what may be a mistake."""
        remarks = find_remarks(self.data, self.masks, self.num_classes)
        return Report(str(self), repaired=self.repaired, remarks=tuple(remarks))

    def log(self) -> None:
        r"""Logs the report. Remarks are only computed if the log level is INFO or lower."""
        for line in self.repaired:
            logger.warning("%s: %s", self.name, line)
        if logger.isEnabledFor(logging.INFO):
            for line in self.report().remarks:
                logger.info("%s: %s", self.name, line)

    def index(self, split: str) -> Tensor:
        r"""Returns the ids of the nodes of a split, :math:`(n)`."""
        if split not in self._index:
            known = ", ".join(self._index)
            raise ValueError(f"'{self.name}' has no split '{split}'; known: {known}")
        return self._index[split]

    def labels(self, split: str) -> Tensor:
        r"""Returns the labels of the nodes of a split, :math:`(n)` or :math:`(n, L)`."""
        return self._select("y", split)

    def features(self, split: str) -> Tensor:
        r"""Returns the features of the nodes of a split, :math:`(n, F)`, always the same tensor."""
        return self._select("x", split)

    def evaluate(self, prob: Tensor, split: str = "val") -> float:
        r"""Computes the task's metric on a split, for the data sets of OGB by its own evaluator if
        ogb is installed.

        Args:
            prob (Tensor): The class probabilities of all nodes, :math:`(N, C)`, or of the split's
                nodes in the order of :meth:`index`, :math:`(n, C)`. For several labels, the
                probability of each, :math:`(N, L)`, or of both sides, :math:`(N, L, 2)`.
            split (str, optional): The nodes to score. (default: :obj:`"val"`)
        """
        prob = self._select_rows(prob, split)
        if prob.isnan().any():
            nodes = f"the {split} nodes of '{self.name}'"
            raise ValueError(f"The predictions on {nodes} hold NaN: did the training diverge?")
        score = score_by_ogb(self.name, self.metric, prob, self.labels(split))
        return float(self.score(prob, split)) if score is None else score

    def score(self, prob: Tensor, split: str = "val") -> Tensor:
        r"""Computes the metric as :meth:`evaluate` does, but returns a scalar on the device of
        :obj:`prob`, without a synchronisation and without the check for NaN.
        """
        prob, y = self._select_rows(prob, split), self.labels(split)
        if isinstance(self.metric, Metric):  # one of the user's own
            prob = label_prob(prob)
        return find_metric(self.metric)(prob, y)

    def expected(
        self, weak_prob: Tensor, strong_prob: Tensor, confidence: Tensor, split: str = "val"
    ) -> float | None:
        r"""Computes the expected metric of sampled routing from the class probabilities of both
        experts and the confidence :math:`(N)`, see :func:`mowst.metrics.expected_score`. Returns
        :obj:`None` for a metric without a closed form.
        """
        if confidence.shape != (self.num_nodes,):
            got = tuple(confidence.shape)
            raise ValueError(f"confidence must be of shape ({self.num_nodes},), got {got}")
        return expected_score(
            self.metric,
            self._select_rows(weak_prob, split),
            self._select_rows(strong_prob, split),
            confidence[self.index(split)],
            self.labels(split),
        )

    def nll(self, prob: Tensor, split: str = "val") -> Tensor:
        r"""Computes the mean negative log-likelihood :math:`-\frac{1}{n} \sum_v \log p_{v, y_v}`
        on a split, of the class probabilities that :meth:`evaluate` takes, see
        :func:`~mowst.labels.node_nll` for several labels. It is finite even if a probability has
        underflowed to 0. With class weights it is the weighted mean, as in the training loss.
        """
        prob, y = self._select_rows(prob, split), self.labels(split)
        least = torch.finfo(prob.dtype).tiny
        losses = average_labels(-pick_true(prob, y).clamp(min=least).log(), y)
        if self.class_weights is None:
            return losses.mean()
        weight = self.class_weights[y]
        return (weight * losses).sum() / weight.sum()

    def to(self, device: torch.device | str) -> "GraphTask":
        r"""Returns the task on a device."""
        masks = {key: mask.to(device) for key, mask in self.masks.items()}
        return replace(self, data=copy(self.data).to(device), masks=masks)

    def __repr__(self) -> str:
        kind = "labels" if self.multilabel else "classes"
        return (
            f"{type(self).__name__}({self.name}, nodes={self.num_nodes}, "
            f"edges={self.data.edge_index.size(1)}, features={self.num_features}, "
            f"{kind}={self.num_classes}, metric={self.metric}, split={self.split})"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("nodes", f"{self.num_nodes:,}"),
            ("edges", f"{self.data.edge_index.size(1):,}"),
            ("features", f"{self.num_features:,}"),
            ("labels" if self.multilabel else "classes", self.num_classes),
        ]
        rows += [(f"{split} nodes", f"{self.index(split).numel():,}") for split in self.splits]
        rows += [("split", self.split), ("metric", str(self.metric))]
        return make_html(self.name, rows, notes=str(self.report()).splitlines()[1:])

    @cached_property
    def _index(self) -> dict[str, Tensor]:
        return {key: mask.nonzero().view(-1) for key, mask in self.masks.items()}

    @cached_property
    def _selected(self) -> dict[tuple[str, str], Tensor]:
        return {}

    def _select(self, attribute: str, split: str) -> Tensor:
        key = (attribute, split)
        if key not in self._selected:
            self._selected[key] = self.data[attribute][self.index(split)]
        return self._selected[key]

    def _select_rows(self, prob: Tensor, split: str) -> Tensor:
        index = self.index(split)
        own, whole = (index.numel(), self.num_classes), (self.num_nodes, self.num_classes)
        shape = prob.shape
        if self.multilabel and prob.dim() == 3 and prob.size(2) == 2:
            shape = prob.shape[:2]
        elif self.multilabel:
            prob = torch.stack([1 - prob, prob], dim=-1)
        if shape == own:
            return prob
        if shape != whole:
            got = tuple(shape)
            raise ValueError(
                f"'{self.name}' scores probabilities of shape {whole} or {own} ({split}), got {got}"
            )
        return prob[index]


def _select_columns(masks: dict[str, Tensor], split: int) -> dict[str, Tensor]:
    for key in ("train", "val"):
        if key not in masks:
            raise ValueError(
                f"data.{key}_mask is missing; set it, pass splits={{'train': ids, 'val': ids}}, "
                "or draw a split with draw=mowst.data.stratified_split"
            )
    counts = {key: mask.size(1) for key, mask in masks.items() if mask.dim() == 2}
    for key, count in (counts or {"train": 1}).items():
        if not 0 <= split < count:
            held = f"data.{key}_mask holds {count}, 0 to {count - 1}"
            raise ValueError(f"There is no split {split}: {held}")
    # A flat mask belongs to every split.
    return {key: mask[:, split] if key in counts else mask for key, mask in masks.items()}
