r"""An expert on a whole graph, layer by layer and in chunks of nodes: memory for a chunk, not for a layer."""

from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from mowst.nn.contract import call_expert
from mowst.nn.evaluating import evaluating
from mowst.nn.layers import LayerCache

CHUNK = 2**16


def layerwise_logits(
    expert: torch.nn.Module,
    x: Tensor,
    edge_index: Any = None,
    edge_weight: Tensor | None = None,
    *,
    nodes: Tensor | None = None,
    chunk_size: int = CHUNK,
    folder: str | PathLike[str] | None = None,
) -> Tensor:
    r"""The logits of an expert in evaluation mode, equal to those of its full forward. Layer :math:`l` runs for
    all nodes before layer :math:`l + 1`, for a chunk of nodes at a time, so that nothing but the hidden rows of two
    layers is as long as the graph; with `folder` they lie in memory-mapped files, and a chunk is all that needs memory.

    This holds for perceptrons, and for GCN, GraphSAGE and GIN of this package on dense features, whose layers read
    the rows of their neighbours where they lie. Before a layer of PyG's models, and the first one on sparse or linearly
    mapped features, the rows that a chunk reads are gathered. An expert that does not come apart into layers
    (attention, graph-wide norms, Jumping Knowledge over several layers, modules of others) runs whole.

    Args:
        expert (torch.nn.Module): the expert.
        x (Tensor): node features, perhaps a memory-mapped file.
        edge_index (Tensor or SparseTensor, optional): the graph. (default: :obj:`None`)
        edge_weight (Tensor, optional): edge weights. (default: :obj:`None`)
        nodes (Tensor, optional): ids of the nodes to answer, by default all; layers compute only what these need.
            (default: :obj:`None`)
        chunk_size (int, optional): the number of nodes that a layer computes at a time. (default: :obj:`65536`)
        folder (str, optional): an existing folder; the files in it live as long as the call. (default: :obj:`None`)

    Shapes:
        - **x:** :math:`(N, F)`, **edge_index:** :math:`(2, E)`, **edge_weight:** :math:`(E)`, **nodes:** :math:`(n)`,
          **output:** :math:`(N, C)` or :math:`(n, C)`

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if `chunk_size` is below 1, or as :func:`~mowst.nn.contract.call_expert`.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    if folder is not None and not Path(folder).is_dir():
        raise FileNotFoundError(f"folder for hidden rows: there is no folder '{folder}'")
    scratch = nullcontext() if folder is None else TemporaryDirectory(prefix="mowst-", dir=folder)
    # Inference tensors cannot be remembered from one chunk to the next.
    with scratch as place, evaluating(expert), torch.inference_mode(False), torch.no_grad():
        cache = LayerCache(chunk_size, place, keep=False)
        return call_expert(expert, x, edge_index, edge_weight, nodes=nodes, cache=cache)
