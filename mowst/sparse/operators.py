r"""The constant matrices of propagation steps, see :class:`~mowst.sparse.graph.Graph` for their
formulas.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch_geometric.nn.conv.gcn_conv import gcn_norm

if TYPE_CHECKING:
    from mowst.sparse.graph import Graph

Kind = Literal["gcn", "mean", "gin", "sum", "one-hop", "two-hop", "returns"]


def build_gcn(graph: "Graph", dtype: torch.dtype, **options: float) -> sp.csr_matrix:
    weight = None if graph.edge_weight is None else graph.edge_weight.to(dtype)
    edge_index, weight = gcn_norm(graph.edge_index, weight, graph.num_nodes, dtype=dtype, **options)
    if not weight.isfinite().all():
        source, target = edge_index[:, ~weight.isfinite()][:, 0].tolist()
        raise ValueError(
            "edge weights cannot be normalized where those into a node sum to less than zero, or "
            f"are not finite: look at those into nodes {source} and {target}"
        )
    return _build_csr(graph, edge_index, weight)


def build_mean(graph: "Graph", dtype: torch.dtype) -> sp.csr_matrix:
    # Scaled once the entries lie in rows: weights in the order of the edges would be one more array
    # of their length.
    matrix = _build_csr(graph, graph.edge_index, torch.ones(graph.num_edges, dtype=dtype))
    degrees = np.bincount(graph.edge_index[1].cpu().numpy(), minlength=graph.num_nodes)
    matrix.data *= np.repeat(
        1 / np.maximum(degrees, 1).astype(matrix.dtype), np.diff(matrix.indptr)
    )
    return matrix


def build_gin(graph: "Graph", dtype: torch.dtype, eps: float = 0.0) -> sp.csr_matrix:
    loop = torch.arange(graph.num_nodes, device=graph.edge_index.device).expand(2, -1)
    weight = torch.ones(graph.num_edges, dtype=dtype, device=loop.device)
    edge_index = torch.cat([graph.edge_index, loop], dim=1)
    return _build_csr(
        graph, edge_index, torch.cat([weight, weight.new_full((graph.num_nodes,), 1 + eps)])
    )


def build_sum(graph: "Graph", dtype: torch.dtype) -> sp.csr_matrix:
    weight = graph.edge_weight
    if weight is None:
        weight = torch.ones(graph.num_edges)
    return _build_csr(graph, graph.edge_index, weight.to(dtype))


def build_one_hop(graph: "Graph", dtype: torch.dtype) -> sp.csr_matrix:
    return _normalize(find_neighbors(graph), dtype)


def build_two_hop(graph: "Graph", dtype: torch.dtype) -> sp.csr_matrix:
    near = find_neighbors(graph)
    return _normalize((near @ near) > (near + _build_identity(graph)), dtype)


def build_returns(graph: "Graph", dtype: torch.dtype) -> sp.csr_matrix:
    step = build_one_hop(graph, dtype)
    return sp.diags(np.asarray(step.multiply(step.T).sum(axis=1)).ravel(), format="csr")


BUILDERS: dict[str, Callable[..., sp.csr_matrix]] = {
    "gcn": build_gcn,
    "mean": build_mean,
    "gin": build_gin,
    "sum": build_sum,
    "one-hop": build_one_hop,
    "two-hop": build_two_hop,
    "returns": build_returns,
}


def find_neighbors(graph: "Graph") -> sp.csr_matrix:
    r"""Returns the graph as sets of neighbours: a boolean matrix :math:`(N, N)` without loops."""
    present = torch.ones(graph.num_edges, dtype=torch.bool)
    return _build_csr(graph, graph.edge_index, present) > _build_identity(graph)


def _build_csr(graph: "Graph", edge_index: Tensor, weight: Tensor) -> sp.csr_matrix:
    source, target = edge_index.cpu().numpy()
    shape = (graph.num_nodes, graph.num_nodes)
    return sp.coo_matrix((weight.cpu().numpy(), (target, source)), shape).tocsr()


def _build_identity(graph: "Graph") -> sp.csr_matrix:
    return sp.identity(graph.num_nodes, dtype=bool, format="csr")


def _normalize(matrix: sp.csr_matrix, dtype: torch.dtype) -> sp.csr_matrix:
    matrix = matrix.astype(np.float64 if dtype == torch.float64 else np.float32)
    into = np.asarray(matrix.sum(axis=1)).ravel().clip(min=1) ** -0.5
    out_of = np.asarray(matrix.sum(axis=0)).ravel().clip(min=1) ** -0.5
    matrix.data *= np.repeat(into, np.diff(matrix.indptr)) * out_of[matrix.indices]
    return matrix
