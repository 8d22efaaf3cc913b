r"""The predictions of a trained model for each test node, and its confidence after each round."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import degree, remove_self_loops

from mowst.nn.evaluating import evaluating
from mowst.nn.mowst import Mowst
from mowst.nn.signature import make_graph
from mowst.nn.softmax import softmax
from mowst.task import GraphTask
from mowst.train.evaluate import predict_probs
from mowst.train.inputs import TaskInputs
from mowst.train.methods import find_method
from mowst.train.stage import StageResult

BINS = 20


@torch.no_grad()
def node_details(model: Mowst, task: GraphTask, method: str) -> dict[str, Tensor]:
    r"""Returns what is known of each test node (of each validation node in a task without test
    nodes), on the CPU: :obj:`y`; :obj:`degree` and :obj:`homophily`, see
    :func:`compute_neighborhoods`; the predicted class and class probabilities of each trained
    expert, such as :obj:`weak` and :obj:`weak_prob`; and for a mixture, also :obj:`mixture`,
    :obj:`mixture_prob` and the :obj:`confidence`, whatever the route.

    Args:
        model (Mowst): The trained model.
        task (GraphTask): The task.
        method (str): The method that trained it.

    Shapes:
        - **output:** :math:`(n)`, and :math:`(n, C)` for probabilities, in the order of
          :meth:`~mowst.GraphTask.index`
    """
    task = _move_task(task, model)
    neighbors, homophily = compute_neighborhoods(task)
    found = {"y": task.data.y, "degree": neighbors, "homophily": homophily}
    chosen = find_method(method)
    probs: dict[str, Tensor] = {}
    if chosen.has_gate:
        probs, found["confidence"] = predict_probs(model, TaskInputs(model, task))
    else:
        with evaluating(model):
            for name in chosen.experts:
                logits = model.logits(name, task.data.x, make_graph(model, task.data))
                probs[name] = softmax(logits)
    for name, prob in probs.items():
        found[name] = prob.argmax(dim=-1)
        found[f"{name}_prob"] = prob.float()
    nodes = task.index(task.splits[-1])
    return {key: value[nodes].cpu() for key, value in found.items()}


def compute_neighborhoods(task: GraphTask) -> tuple[Tensor, Tensor]:
    r"""Returns the number of in-neighbors of each node, and the share of its labelled in-neighbors
    that have the label of the node, or NaN where no in-neighbor is labelled. Self-loops do not
    count.

    Shapes:
        - **output:** :math:`(N)` each
    """
    edge_index, _ = remove_self_loops(task.data.edge_index)
    y, (source, target) = task.data.y, edge_index
    labelled = y[source] >= 0
    same = labelled & (y[source] == y[target])
    neighbors = degree(target, task.num_nodes).long()
    homophily = degree(target[same], task.num_nodes) / degree(target[labelled], task.num_nodes)
    return neighbors, homophily


class ConfidenceHistogram:
    r"""A callback of :func:`~mowst.train.fit` that counts the confidence of all nodes in 20 equal
    bins, after pretraining and after each round.

    Args:
        task (GraphTask): The task.
    """

    def __init__(self, task: GraphTask) -> None:
        self.task = task
        self._counts: dict[int, Tensor] = {}

    def __call__(self, record: dict[str, Any]) -> None:
        pass

    @torch.no_grad()
    def on_stage_end(self, model: Mowst, result: StageResult) -> None:
        data = _move_task(self.task, model).data
        with evaluating(model):
            logits = model.logits("weak", data.x, make_graph(model, data))
            confidence = model.confidence(logits, data.x)
        counts = torch.histc(confidence.float().cpu(), bins=BINS, min=0, max=1)
        # The last stage of a round counts; round 0 is pretraining.
        self._counts[result.round] = counts.long()

    def rows(self) -> Tensor:
        r"""Returns the counts of shape :math:`(\mathrm{rounds} + 1, 20)`."""
        return torch.stack([self._counts[round] for round in sorted(self._counts)])


def _move_task(task: GraphTask, model: Mowst) -> GraphTask:
    # The model is on the device that it was trained on, the task where it was loaded.
    for parameter in model.parameters():
        if parameter.device != task.data.x.device:
            return task.to(parameter.device)
    return task
