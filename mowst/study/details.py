r"""What a trained model says of each test node, and how its confidence moved from round to round."""

from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import degree, remove_self_loops

from mowst.nn.cascade import Cascade
from mowst.nn.evaluating import evaluating
from mowst.task import GraphTask
from mowst.train.config import MIXTURES
from mowst.train.state import Snapshot

BINS = 20


@torch.no_grad()
def node_details(model: Cascade, task: GraphTask, method: str) -> dict[str, Tensor]:
    r"""The test nodes of a task as a trained model sees them, on the CPU: :obj:`y`, :obj:`degree` and
    :obj:`homophily` of :func:`neighbourhoods`, and for each expert (of a mixture also :obj:`mixture`, whatever the
    route) its answer, as :obj:`weak`, and class probabilities, as :obj:`weak_prob`. A mixture's :obj:`confidence` is
    that of the first expert.

    Args:
        model (Cascade): The model.
        task (GraphTask): The task.
        method (str): The method that trained it: of an expert alone there are no others.

    Shapes:
        - **output:** :math:`(n)`, and :math:`(n, C)` for probabilities, in the order of :obj:`task.index("test")`
    """
    data, names = _placed(task, model), model.expert_names if method in MIXTURES else (method,)
    with evaluating(model):
        logits = [
            model.logits(model.expert_names.index(name), data.x, data.edge_index, data.edge_weight) for name in names
        ]
        gates = [model.gate(k, logits[k], data.x) for k, _ in enumerate(model.gate_names)] if len(names) > 1 else []
    probs = {name: z.softmax(dim=-1) for name, z in zip(names, logits, strict=True)}
    found = dict(zip(("degree", "homophily"), neighbourhoods(task), strict=True)) | {"y": task.data.y}
    if gates:
        probs["mixture"] = model.mixture(logits, gates)
        found["confidence"] = gates[0].float()
    for name, prob in probs.items():
        found |= {name: prob.argmax(dim=-1), f"{name}_prob": prob.float()}
    return {key: value.cpu()[task.index("test")] for key, value in found.items()}


def neighbourhoods(task: GraphTask) -> tuple[Tensor, Tensor]:
    r"""The number of in-neighbours of each node, and the share of those with a label that have the node's own; NaN
    where there is none. Self-loops do not count.

    Shapes:
        - **output:** :math:`(N)` each
    """
    y, (source, target) = task.data.y, remove_self_loops(task.data.edge_index)[0]
    labelled, same = y[source] >= 0, y[source] == y[target]
    every = torch.ones_like(labelled)
    neighbours, known, alike = (degree(target[kept], task.num_nodes) for kept in (every, labelled, labelled & same))
    return neighbours.long(), alike / known


class ConfidenceHistogram:
    r"""A callback that counts how many nodes of the graph have which confidence in the first expert, after
    pretraining and after each round (joint training by itself is one).

    Args:
        model (Cascade): The model, before training.
        task (GraphTask): The task.
        refits (bool, optional): If set to :obj:`True`, the gates are fitted after each turn, which is then kept or
            undone: :obj:`gate_fit="validation"`. Otherwise they learn in turns. (default: :obj:`True`)
    """

    def __init__(self, model: Cascade, task: GraphTask, refits: bool = True) -> None:
        self.model = model
        self.task = task
        self.refits = refits
        self._turn = (0, "")
        self._rows: list[Tensor] = []
        expert, gate = getattr(model, model.expert_names[0]), getattr(model, model.gate_names[0])
        # Between turns, gates that are refitted are as the model has them.
        self._parts = [expert] if refits else [expert, gate]
        self._before = self._best = Snapshot(*self._parts)
        self._temperatures = model.temperatures

    def __call__(self, record: dict[str, Any]) -> None:
        turn = (record["round"], record["turn"])
        if turn != self._turn:
            self._settle()
            if _stage(*turn) != _stage(*self._turn):
                self._rows.append(self._count())
            self._turn = turn
        # A turn ends in the state of its last best epoch, and else where it started.
        if record["best"]:
            self._best = Snapshot(*self._parts)

    def rows(self) -> Tensor:
        r"""The counts in 20 equal parts of :math:`[0, 1]`, :math:`(\mathrm{rounds} + 1, 20)`; call it once training is
        over.
        """
        self._settle()
        return torch.stack([*self._rows, self._count()])

    def _settle(self) -> None:
        # A turn of a round that is kept ends with temperatures of its own; one that is undone, with those before it.
        if self.refits and self._turn[0] and self.model.temperatures == self._temperatures:
            self._best = self._before
        self._before, self._temperatures = self._best, self.model.temperatures

    @torch.no_grad()
    def _count(self) -> Tensor:
        now, data = Snapshot(*self._parts), _placed(self.task, self.model)
        self._best.restore()
        try:
            with evaluating(self.model):
                logits = self.model.logits(0, data.x, data.edge_index, data.edge_weight)
                confidence = self.model.gate(0, logits, data.x)
        finally:
            now.restore()
        return torch.histc(confidence.float().cpu(), bins=BINS, min=0, max=1).long()


def _stage(round: int, turn: str) -> tuple[int, bool]:
    return round, turn == "joint"


def _placed(task: GraphTask, model: Cascade) -> Data:
    # The model is where it was trained, the task where it was loaded.
    return copy(task.data).to(next((p.device for p in model.parameters()), task.data.x.device))
