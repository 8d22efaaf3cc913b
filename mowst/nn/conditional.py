r"""The answers of a foreign expert for some nodes of a graph, at less than the cost of all where that is possible."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.conv import GCNConv
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.nn.norm import BatchNorm
from torch_geometric.utils import k_hop_subgraph

from mowst.graph.adjacency import adjacency
from mowst.graph.frontier import Step, plan
from mowst.graph.propagate import propagate

# A subgraph with more than this share of the edges is not worth its extraction.
MAX_SHARE = 0.5


def partial_logits(
    expert: torch.nn.Module, x: Tensor, edge_index: Any, edge_weight: Tensor | None, nodes: Tensor
) -> Tensor | None:
    r"""The output of an expert for the nodes alone, or :obj:`None` where it must, or had better, run on all:

    - a :class:`~torch_geometric.nn.models.basic_gnn.BasicGNN` of PyG in evaluation mode whose norms treat each node by
      itself runs layer by layer (:func:`~mowst.graph.frontier.plan`), with the degrees of the whole graph;
    - a module with an integer :obj:`num_hops`, the number of hops from which its answer draws, runs on the subgraph of
      one hop more, in which the degrees of all that it reads are whole.

    Shapes:
        - **nodes:** :math:`(n)`; **output:** :math:`(n, C)`
    """
    if expert.training or not isinstance(edge_index, Tensor) or edge_index.is_sparse or edge_index.is_sparse_csr:
        return None
    if isinstance(expert, BasicGNN):
        return _layer_by_layer(expert, x, edge_index, edge_weight, nodes) if _is_node_by_node(expert) else None
    if isinstance(hops := getattr(expert, "num_hops", None), int):
        return _on_subgraph(expert, x, edge_index, edge_weight, nodes, hops)
    return None


def _is_node_by_node(model: BasicGNN) -> bool:
    norms = (torch.nn.Identity, torch.nn.LayerNorm, torch.nn.BatchNorm1d, BatchNorm)
    flows = all(conv.flow == "source_to_target" and not conv.explain for conv in model.convs)
    return model.jk_mode in (None, "last") and flows and all(isinstance(norm, norms) for norm in model.norms)


def _layer_by_layer(
    model: BasicGNN, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, nodes: Tensor
) -> Tensor | None:
    graph = adjacency(edge_index, edge_weight, num_nodes=x.size(0))
    widths = [x.size(1)] + [model.hidden_channels] * (model.num_layers - 1)
    outs = [*widths[1:], model.out_channels if model.jk_mode is None else model.hidden_channels]
    steps = plan(graph.operator("sum", x.dtype), nodes, tuple(zip(widths, outs, strict=True)))
    if steps[-1] is None:
        return None
    for i, (conv, norm, step) in enumerate(zip(model.convs, model.norms, steps, strict=True)):
        if i == 0 and step is not None and step.before is not None:
            x = x[step.before]
        if step is None:
            x = conv(x, edge_index) if edge_weight is None else conv(x, edge_index, edge_weight)
        elif type(conv) is GCNConv and conv.normalize:
            x = _gcn_step(conv, x, edge_index, edge_weight, step)
        else:
            edges, kept = _edges_into(step, edge_index)
            x = (conv(x, edges) if edge_weight is None else conv(x, edges, edge_weight[kept]))[step.at]
        if i < model.num_layers - 1 or model.jk_mode is not None:
            x = model.act(x) if model.act is not None and model.act_first else x
            x = norm(x)
            x = model.act(x) if model.act is not None and not model.act_first else x
    return model.lin(x) if hasattr(model, "lin") else x


def _gcn_step(conv: GCNConv, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, step: Step) -> Tensor:
    graph = adjacency(edge_index, edge_weight, num_nodes=step.whole.shape[0])
    options = {"improved": conv.improved, "add_self_loops": conv.add_self_loops}
    out = propagate(Step(graph.operator("gcn", x.dtype, **options), step.nodes, step.before).operator, conv.lin(x))
    return out if conv.bias is None else out + conv.bias


def _edges_into(step: Step, edge_index: Tensor) -> tuple[Tensor, Tensor]:
    """The edges into the nodes of the step, in positions among the rows that come in, and which edges they are."""
    computed = torch.zeros(step.whole.shape[0], dtype=torch.bool, device=edge_index.device)
    computed[step.nodes] = True
    kept = computed[edge_index[1]]
    edges = edge_index[:, kept]
    return (edges if step.before is None else torch.searchsorted(step.before, edges)), kept


def _on_subgraph(
    expert: torch.nn.Module, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, nodes: Tensor, hops: int
) -> Tensor | None:
    subset, edges, at, kept = k_hop_subgraph(nodes, hops + 1, edge_index, relabel_nodes=True, num_nodes=x.size(0))
    if edges.size(1) > MAX_SHARE * edge_index.size(1):
        return None
    weight = {} if edge_weight is None else {"edge_weight": edge_weight[kept]}
    return expert(x[subset], edges, **weight)[at]
