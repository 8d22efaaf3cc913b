r"""What an expert answers in evaluation: the one way by which training, stacking and scores ask for it."""

import torch
from torch import Tensor

from mowst.nn.cascade import Cascade
from mowst.nn.layers import LayerCache
from mowst.nn.layerwise import CHUNK
from mowst.task import GraphTask

# Above so many nodes hidden layers are longer than the cost of their bookkeeping, and may not fit in memory.
MAX_NODES = 2**19


def expert_logits(model: Cascade, k: int, task: GraphTask, nodes: Tensor | None = None) -> Tensor:
    r"""The logits of expert :math:`k` for all nodes of a task, :math:`(N, C)`, or for those of the given ids,
    :math:`(n, C)`, see :meth:`~mowst.nn.cascade.Cascade.logits`. The caller sets evaluation mode. On large graphs
    layers run in chunks of nodes, see :func:`~mowst.nn.layerwise.layerwise_logits`.
    """
    data = task.data
    cache = LayerCache(CHUNK, keep=False) if task.num_nodes > MAX_NODES and not torch.is_grad_enabled() else None
    return model.logits(k, data.x, data.edge_index, data.edge_weight, nodes=nodes, cache=cache)
