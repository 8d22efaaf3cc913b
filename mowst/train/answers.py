r"""What an expert answers in evaluation: the one way by which training, stacking and scores ask for it."""

from torch import Tensor

from mowst.nn.cascade import Cascade
from mowst.task import GraphTask


def expert_logits(model: Cascade, k: int, task: GraphTask, nodes: Tensor | None = None) -> Tensor:
    r"""The logits of expert :math:`k` for all nodes of a task, :math:`(N, C)`, or for those of the given ids,
    :math:`(n, C)`, see :meth:`~mowst.nn.cascade.Cascade.logits`. The caller sets evaluation mode.
    """
    data = task.data
    return model.logits(k, data.x, data.edge_index, data.edge_weight, nodes=nodes)
