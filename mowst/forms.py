r"""Graphs and arrays of other libraries: what is taken, and which call helps with the rest."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset
from torch_geometric.utils import to_edge_index

# What works instead of a type, by package and class. The most special class counts.
HINTS = {
    "builtins.object": "create one from x, edge_index, y and masks",
    "builtins.str": "mowst.load_task(name) loads a data set by its name",
    "builtins.dict": "use Data.from_dict(graph)",
    "builtins.list": "give one of its graphs",
    "builtins.tuple": "for OGB, use ogb.nodeproppred.PygNodePropPredDataset(name)",
    "ogb.NodePropPredDataset": "use ogb.nodeproppred.PygNodePropPredDataset(name)",
    "dgl.DGLGraph": "use torch_geometric.utils.from_dgl(graph), then set its x and y",
    "networkx.Graph": "use torch_geometric.utils.from_networkx(graph)",
    "torch_geometric.HeteroData": "use data.to_homogeneous()",
}


def read_graph(graph: Any) -> Data:
    r"""Returns a PyG graph, or the graph of a PyG dataset that holds one. For anything else, an
    error names the call that converts it.
    """
    if isinstance(graph, Dataset):
        if len(graph) != 1:
            raise ValueError(f"{graph} holds {len(graph)} graphs; give one, such as dataset[0]")
        graph = graph[0]
    if isinstance(graph, Data):
        return graph
    hint = ""
    for kind in reversed(type(graph).__mro__):
        package = kind.__module__.split(".")[0]
        hint = HINTS.get(f"{package}.{kind.__name__}", hint)
    got = type(graph).__name__
    raise ValueError(f"from_data takes a torch_geometric.data.Data, got {got}; {hint}")


def read_adjacency(data: Data) -> list[str]:
    r"""Sets the edges of a graph from :obj:`adj_t`, whose rows are the targets, in place. Returns
    the changes. Edge weights that are all 1 are none.
    """
    adj = data.get("adj_t")
    if adj is None or data.get("edge_index") is not None:
        return []
    if hasattr(adj, "coo"):  # torch_sparse
        target, source, weight = adj.coo()
    elif isinstance(adj, Tensor) and adj.layout != torch.strided:
        is_coo = adj.layout == torch.sparse_coo
        (target, source), weight = to_edge_index(adj.coalesce() if is_coo else adj)
    else:
        raise ValueError(f"data.adj_t must be sparse, got {type(adj).__name__}; set edge_index")
    del data.adj_t
    data.edge_index = torch.stack([source, target])
    if weight is None or (weight == 1).all():
        return ["adj_t is edge_index"]
    name = "edge_weight" if weight.dim() == 1 else "edge_attr"
    data[name] = weight
    return [f"adj_t is edge_index and {name}"]


def unpack(value: Any) -> Any:
    r"""Returns sparse matrices as dense arrays or tensors, arrays of text as lists, and pandas
    columns as arrays. All else is returned as it is.
    """
    # Methods of sparse tensors, SciPy and pandas.
    for convert in ("to_dense", "toarray", "to_numpy"):
        if hasattr(value, convert):
            value = getattr(value, convert)()
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUST":
        return value.tolist()
    return list(value) if isinstance(value, tuple | range) else value


def make_tensor(values: Any, name: str) -> Tensor:
    r"""Converts an array or a list of numbers to a tensor."""
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
        # PyTorch computes with one unsigned type, takes no foreign byte order, and shares memory.
        is_unsigned = array.dtype.kind == "u" and array.dtype.itemsize > 1
        kind = np.int64 if is_unsigned else array.dtype.newbyteorder("=")
        return torch.from_numpy(np.require(array, kind, ["C", "W"]))
    except (TypeError, ValueError, RuntimeError):
        wanted = f"{name} must be a tensor, array or list of numbers"
        given = f"the given {type(values).__name__} cannot be read as one"
        raise ValueError(f"{wanted}; {given}") from None
