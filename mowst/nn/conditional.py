r"""The answers of a foreign expert for some nodes of a graph, at less than the cost of all where that is possible."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.conv import GCNConv, MessagePassing
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.nn.norm import BatchNorm
from torch_geometric.utils import k_hop_subgraph

from mowst.graph.adjacency import adjacency
from mowst.graph.formats import transposed_csr
from mowst.graph.frontier import Step
from mowst.graph.propagate import propagate
from mowst.nn.experts.base import SUMS, Expert
from mowst.nn.layers import Layers

# A subgraph with more than this share of the edges is not worth its extraction.
MAX_SHARE = 0.5


def layers_of(expert: torch.nn.Module, x: Tensor, edge_index: Any, edge_weight: Tensor | None) -> Layers | None:
    r"""An expert taken apart: one of ours by its own :meth:`layers`, and a
    :class:`~torch_geometric.nn.models.basic_gnn.BasicGNN` of PyG in evaluation mode whose norms treat each node by
    itself, with the degrees of the whole graph. :obj:`None` for all others.
    """
    if isinstance(expert, Expert):
        return expert.layers(x, edge_index, edge_weight)
    plain = isinstance(edge_index, Tensor) and not edge_index.is_sparse and not edge_index.is_sparse_csr
    if isinstance(expert, BasicGNN) and plain and not expert.training and _is_node_by_node(expert):
        return _layers_of_pyg(expert, x, edge_index, edge_weight)
    return None


def subgraph_of(
    expert: torch.nn.Module, num_nodes: int, edge_index: Any, nodes: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    r"""The subgraph that an expert needs for the given nodes if it tells in an integer :obj:`num_hops` from how many
    hops its answer draws: of one hop more, in which the degrees of all that it reads are whole. :obj:`None` for others,
    and where that is most of the graph.

    Returns:
        tuple: its nodes, its edges in their positions, the positions of the given nodes, and which edges they are.
    """
    hops = getattr(expert, "num_hops", None)
    if expert.training or not isinstance(hops, int) or not isinstance(edge_index, Tensor) or edge_index.dim() != 2:
        return None
    subgraph = k_hop_subgraph(nodes, hops + 1, edge_index, relabel_nodes=True, num_nodes=num_nodes)
    return None if subgraph[1].size(1) > MAX_SHARE * edge_index.size(1) else subgraph


def fastest_form(expert: torch.nn.Module, x: Tensor, edge_index: Any, edge_weight: Tensor | None) -> tuple:
    r"""The edges and weights in the form that an expert runs fastest on: PyG's own models whose layers all have a
    sparse product beside their messages get the transposed matrix, see :func:`~mowst.graph.formats.transposed_csr`.
    """
    if not isinstance(expert, BasicGNN) or isinstance(expert, Expert) or not isinstance(edge_index, Tensor):
        return edge_index, edge_weight
    # PyG's sparse product knows single precision alone.
    if x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type):
        return edge_index, edge_weight
    if not all(isinstance(conv, MessagePassing) and _runs_on_matrix(conv) for conv in expert.convs):
        return edge_index, edge_weight
    matrix = transposed_csr(edge_index, edge_weight, num_nodes=x.size(0))
    return (edge_index, edge_weight) if matrix is None else (matrix, None)


def _runs_on_matrix(conv: MessagePassing) -> bool:
    # An explainer needs the messages, and loops of an improved GCN weigh more on a matrix than on unweighted edges.
    same = conv.flow == "source_to_target" and not getattr(conv, "improved", False)
    return bool(conv.fuse and not conv.explain and same)


def _is_node_by_node(model: BasicGNN) -> bool:
    norms = (torch.nn.Identity, torch.nn.LayerNorm, torch.nn.BatchNorm1d, BatchNorm)
    flows = all(conv.flow == "source_to_target" and not conv.explain for conv in model.convs)
    # What a GCN multiplies messages by hangs on degrees in the whole graph, and only its sum has an operator.
    flows &= all(conv.aggr in SUMS for conv in model.convs if isinstance(conv, GCNConv))
    return model.jk_mode in (None, "last") and flows and all(isinstance(norm, norms) for norm in model.norms)


def _layers_of_pyg(model: BasicGNN, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> Layers:
    graph = adjacency(edge_index, edge_weight, num_nodes=x.size(0))
    conv = model.convs[0]
    if normalized := type(conv) is GCNConv and conv.normalize:
        operator = graph.operator("gcn", x.dtype, improved=conv.improved, add_self_loops=conv.add_self_loops)
    else:
        operator = graph.operator("sum", x.dtype)

    def layer(i: int, rows: Tensor, step: Step | None) -> Tensor:
        conv, norm = model.convs[i], model.norms[i]
        if step is None:
            out = _convolve(conv, rows, *fastest_form(model, rows, edge_index, edge_weight))
        else:
            rows = step.reads_from(rows) if i == 0 else rows
            if normalized:
                out = propagate(step.operator, conv.lin(rows))
                out = out if conv.bias is None else out + conv.bias
            else:
                edges, kept = _edges_into(step, edge_index)
                out = _convolve(conv, rows, edges, None if edge_weight is None else edge_weight[kept])[step.at]
        if i == model.num_layers - 1 and model.jk_mode is None:
            return out
        if model.act is not None and model.act_first:
            return norm(model.act(out))
        return norm(out) if model.act is None else model.act(norm(out))

    widths = [x.size(1)] + [model.hidden_channels] * (model.num_layers - 1)
    outs = [*widths[1:], model.out_channels if model.jk_mode is None else model.hidden_channels]
    head = model.lin if hasattr(model, "lin") else torch.nn.Identity()
    return Layers(x, operator, tuple(zip(widths, outs, strict=True)), layer, head)


def _convolve(conv: torch.nn.Module, x: Tensor, edges: Any, edge_weight: Tensor | None) -> Tensor:
    return conv(x, edges) if edge_weight is None else conv(x, edges, edge_weight)


def _edges_into(step: Step, edge_index: Tensor) -> tuple[Tensor, Tensor]:
    """The edges into the nodes of the step, in positions among the rows that come in, and which edges they are."""
    computed = torch.zeros(step.whole.shape[0], dtype=torch.bool, device=edge_index.device)
    computed[step.nodes] = True
    kept = computed[edge_index[1]]
    edges = edge_index[:, kept]
    return (edges if step.before is None else torch.searchsorted(step.before, edges)), kept
