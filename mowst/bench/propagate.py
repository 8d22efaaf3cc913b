r"""One propagation step, forward and backward."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import SimpleConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_torch_csr_tensor

from mowst.bench.timing import compare
from mowst.graph.adjacency import adjacency
from mowst.graph.propagate import propagate


def bench_propagate(edge_index: Tensor, num_nodes: int, channels: int, repeats: int = 5) -> dict[str, Any]:
    r"""GCN's normalized propagation of :obj:`channels` columns: PyG on :obj:`edge_index` (gather and scatter), PyG on
    torch CSR, and ours.
    """
    x = torch.randn(num_nodes, channels, requires_grad=True)
    operator = adjacency(edge_index, num_nodes=num_nodes).operator("gcn")
    edges, weight = gcn_norm(edge_index, None, num_nodes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support|invariant checks)")
        transposed = to_torch_csr_tensor(edges.flip(0), weight, size=(num_nodes, num_nodes))
    conv = SimpleConv(aggr="sum")
    contenders = {
        "PyG edge_index": both_ways(lambda: conv(x, edges, weight), x),
        "PyG torch CSR": both_ways(lambda: conv(x, transposed), x),
        "ours": both_ways(lambda: propagate(operator, x), x),
    }
    return compare(f"propagate d={channels}, {describe(edge_index, num_nodes)}", contenders, repeats)


def both_ways(forward: Callable[[], Tensor], x: Tensor) -> Callable[[], None]:
    r"""A forward and its backward, with a gradient that is drawn once."""
    grad = torch.randn_like(forward().detach())

    def run() -> None:
        x.grad = None
        forward().backward(grad)

    return run


def describe(edge_index: Tensor, num_nodes: int) -> str:
    r"""The size of a graph in words."""
    return f"{num_nodes:,} nodes, {edge_index.size(1):,} edges"
