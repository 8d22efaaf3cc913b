r"""One propagation step, forward and backward."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import SimpleConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_torch_csr_tensor

from mowst import Graph
from mowst.sparse.propagate import propagate
from suite.timing import compare


def bench_propagate(
    edge_index: Tensor, num_nodes: int, channels: int, repeats: int = 5
) -> dict[str, Any]:
    r"""Compares GCN's normalized propagation of :obj:`channels` columns: PyG on :obj:`edge_index`
    (gather and scatter), PyG on torch CSR, and ours.
    """
    x = torch.randn(num_nodes, channels, requires_grad=True)
    operator = Graph(edge_index, num_nodes=num_nodes).operator("gcn")
    edges, weight = gcn_norm(edge_index, None, num_nodes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
        transposed = to_torch_csr_tensor(edges.flip(0), weight, size=(num_nodes, num_nodes))
    conv = SimpleConv(aggr="sum")
    contenders = {
        "PyG edge_index": repeat_backward(lambda: conv(x, edges, weight), x),
        "PyG torch CSR": repeat_backward(lambda: conv(x, transposed), x),
        "ours": repeat_backward(lambda: propagate(operator, x), x),
    }
    case = f"propagate d={channels}, {describe_graph(edge_index, num_nodes)}"
    return compare(case, contenders, repeats)


def repeat_backward(forward: Callable[[], Tensor], x: Tensor) -> Callable[[], None]:
    r"""Returns a function that runs a forward and its backward, with one random gradient."""
    grad = torch.randn_like(forward().detach())

    def run() -> None:
        x.grad = None
        forward().backward(grad)

    return run


def describe_graph(edge_index: Tensor, num_nodes: int) -> str:
    r"""Describes the size of a graph in words."""
    return f"{num_nodes:,} nodes, {edge_index.size(1):,} edges"
