r"""An expert on a whole graph, layer by layer and in chunks of nodes: memory for a chunk, not for a
layer.
"""

from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from mowst.nn.call import CHUNK, call_expert
from mowst.nn.evaluating import evaluating
from mowst.sparse.features import Features
from mowst.sparse.layerwise import LayerCache


def layerwise_logits(
    expert: torch.nn.Module,
    x: Features | Tensor,
    edge_index: Any = None,
    edge_weight: Tensor | None = None,
    *,
    nodes: Tensor | None = None,
    chunk_size: int = CHUNK,
    folder: str | PathLike[str] | None = None,
) -> Tensor:
    r"""Returns the logits of an expert in evaluation mode, equal to those of its full forward.
    Layer :math:`l` runs for all nodes before layer :math:`l + 1`, for one chunk of nodes at a time,
    so that only the hidden rows of two layers are as long as the graph. With :obj:`folder` they are
    in memory-mapped files, and only a chunk needs memory.

    This holds for perceptrons, and for GCN, GraphSAGE and GIN of this package on dense features,
    whose layers read the rows of their neighbours where they lie. Before a layer of PyG's models,
    and before the first layer on sparse features, the rows that a chunk reads are gathered. An
    expert that cannot run layer by layer (attention, graph-wide norms, Jumping Knowledge over
    several layers, modules of other packages) runs on the whole graph.

    Args:
        expert (torch.nn.Module): The expert.
        x (Features or torch.Tensor): The node features. Pass a plain tensor, perhaps a
            memory-mapped file, if the product of the first layer, which
            :class:`~mowst.sparse.features.Features` keep, is too large.
        edge_index (Graph, torch.Tensor or SparseTensor, optional): The graph. (default:
            :obj:`None`)
        edge_weight (torch.Tensor, optional): The edge weights. (default: :obj:`None`)
        nodes (torch.Tensor, optional): The ids of the nodes to predict, for which layers compute
            only what these need. All nodes if :obj:`None`. (default: :obj:`None`)
        chunk_size (int, optional): The number of nodes that a layer computes at a time. (default:
            :obj:`65536`)
        folder (str, optional): An existing folder. The files in it are removed after the call.
            (default: :obj:`None`)

    Shapes:
        - **x:** :math:`(N, F)`, **edge_index:** :math:`(2, E)`, **edge_weight:** :math:`(E)`,
          **nodes:** :math:`(n)`
        - **output:** :math:`(N, C)` or :math:`(n, C)`

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If :obj:`chunk_size` is below 1, or as in :func:`~mowst.nn.call.call_expert`.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    if folder is not None and not Path(folder).is_dir():
        raise FileNotFoundError(f"folder for hidden rows: there is no folder '{folder}'")
    scratch = nullcontext() if folder is None else TemporaryDirectory(prefix="mowst-", dir=folder)
    with scratch as place, evaluating(expert), torch.no_grad():
        cache = LayerCache(chunk_size, place, keep=False)
        return call_expert(expert, x, edge_index, edge_weight, nodes=nodes, cache=cache)
