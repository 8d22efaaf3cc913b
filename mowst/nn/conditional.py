r"""The logits of an expert for some nodes, at less than the cost of all nodes if possible."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import conv as pyg_conv
from torch_geometric.nn.conv import GCNConv, MessagePassing
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.utils import k_hop_subgraph

from mowst.nn.nodewise import is_node_by_node, normalizes_nodes
from mowst.sparse.features import Features
from mowst.sparse.graph import Graph, as_graph, unwrap_graph
from mowst.sparse.layerwise import Layers
from mowst.sparse.partial import Step
from mowst.sparse.propagate import propagate

# A subgraph with more than this share of the edges is not worth its extraction.
MAX_SHARE = 0.5
SUMS = ("add", "sum")
SOURCE = "source_to_target"
# Layers that read one hop, and of the degrees those of the targets only.
ONE_HOP = (
    pyg_conv.EdgeConv,
    pyg_conv.GATConv,
    pyg_conv.GATv2Conv,
    pyg_conv.GINConv,
    pyg_conv.GraphConv,
    pyg_conv.PNAConv,
    pyg_conv.SAGEConv,
    pyg_conv.TransformerConv,
)


def takes_graph(expert: torch.nn.Module) -> bool:
    r"""Returns whether an expert takes :class:`~mowst.sparse.features.Features` and a
    :class:`~mowst.sparse.graph.Graph`: the class that defines its forward has
    :obj:`takes_graph = True`.
    """
    for cls in type(expert).__mro__:
        if "forward" in vars(cls):
            return vars(cls).get("takes_graph", False)
    return False


def chooses_sparse(expert: torch.nn.Module) -> bool:
    r"""Returns whether an expert runs on sparse features if their density makes that faster."""
    return takes_graph(expert) and getattr(expert, "sparse_features", False) is None


def split_layers(
    expert: torch.nn.Module, x: Features | Tensor, edge_index: Any, edge_weight: Tensor | None
) -> Layers | None:
    r"""Returns the layers of an expert one by one, with the degrees of the whole graph: of an
    expert of this package by its own :meth:`split_layers`, and of a
    :class:`~torch_geometric.nn.models.basic_gnn.BasicGNN` of PyG in evaluation mode whose layers
    read one hop and whose other parts treat each node by itself. Returns :obj:`None` for all
    others.
    """
    if takes_graph(expert):
        split = getattr(expert, "split_layers", None)
        return None if split is None else split(x, edge_index, edge_weight)
    plain = isinstance(edge_index, Graph) or _is_plain(edge_index)
    if plain and is_pyg_model(expert) and not expert.training and _has_exact_rows(expert):
        return _split_pyg_layers(expert, x, edge_index, edge_weight)
    return None


def extract_subgraph(
    expert: torch.nn.Module,
    num_nodes: int,
    edge_index: Any,
    edge_weight: Tensor | None,
    nodes: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor] | None:
    r"""Returns the subgraph that an expert needs for the given nodes if its integer :obj:`num_hops`
    says how many hops its predictions depend on: one hop more, in which the in-degrees of all nodes
    that it reads are whole. Returns :obj:`None` for other experts, for those with norms over nodes
    or layers that read out-neighbours, and if that is most of the graph.

    Returns:
        tuple: Its nodes, its edges between their positions, its edge weights, and the positions of
            the given nodes.
    """
    hops = getattr(expert, "num_hops", None)
    if expert.training or not isinstance(hops, int) or normalizes_nodes(expert):
        return None
    if any(getattr(part, "flow", SOURCE) != SOURCE for part in expert.modules()):
        return None
    edges, weight = unwrap_graph(edge_index, edge_weight)
    if not _is_plain(edges):
        return None
    subset, part, at, kept = k_hop_subgraph(
        nodes, hops + 1, edges, relabel_nodes=True, num_nodes=num_nodes
    )
    if part.size(1) > MAX_SHARE * edges.size(1):
        return None
    return subset, part, None if weight is None else weight[kept], at


def find_fastest_form(
    expert: torch.nn.Module, x: Features | Tensor, edge_index: Any, edge_weight: Tensor | None
) -> tuple[Any, Tensor | None]:
    r"""Returns the edges and weights in the form that an expert runs fastest on. PyG's own models
    whose layers all have a sparse product get the transposed matrix, see
    :attr:`~mowst.sparse.graph.Graph.transposed_csr`, and other modules plain tensors.
    """
    if takes_graph(expert):
        return edge_index, edge_weight
    edges, weight = unwrap_graph(edge_index, edge_weight)
    if not _is_plain(edges) or not _runs_on_matrix(expert, x):
        return edges, weight
    if torch.compiler.is_compiling() or (weight is not None and weight.requires_grad):
        return edges, weight
    graph = edge_index
    if not isinstance(graph, Graph):
        graph = as_graph(edge_index, edge_weight, x.shape[0])
    graph.check_unchanged()
    matrix = graph.transposed_csr
    return (edges, weight) if matrix is None else (matrix, None)


def _is_plain(edge_index: Any) -> bool:
    return (
        isinstance(edge_index, Tensor)
        and edge_index.layout == torch.strided
        and edge_index.dim() == 2
    )


def is_pyg_model(expert: torch.nn.Module) -> bool:
    r"""Returns whether an expert is a :class:`~torch_geometric.nn.models.basic_gnn.BasicGNN`."""
    return isinstance(expert, BasicGNN) and type(expert).forward is BasicGNN.forward


def _runs_on_matrix(expert: torch.nn.Module, x: Features | Tensor) -> bool:
    # PyG's sparse product supports single precision only.
    if x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type):
        return False
    if not is_pyg_model(expert):
        return False
    convs: Any = expert.convs
    for conv in convs:
        if not isinstance(conv, MessagePassing) or not conv.fuse:
            return False
        # An explainer needs the messages, and loops of an improved GCN weigh more on a matrix than
        # on unweighted edges.
        if conv.explain or conv.flow != SOURCE or getattr(conv, "improved", False):
            return False
    return True


def _has_exact_rows(model: BasicGNN) -> bool:
    if model.jk_mode not in (None, "last") or not is_node_by_node(model):
        return False
    options: set[tuple] = set()
    for conv in model.convs:
        if type(conv) is GCNConv and conv.aggr in SUMS:
            # What it multiplies messages by depends on degrees in the whole graph: all layers share
            # one operator.
            options.add((conv.normalize, conv.improved, conv.add_self_loops))
        elif type(conv) in ONE_HOP:
            options.add(())
        else:
            return False
        if conv.flow != SOURCE or conv.explain:
            return False
    return len(options) == 1


def _split_pyg_layers(
    model: BasicGNN, x: Any, edge_index: Any, edge_weight: Tensor | None
) -> Layers:
    graph = as_graph(edge_index, edge_weight, x.shape[0])
    edges, weight = unwrap_graph(edge_index, edge_weight)
    conv = model.convs[0]
    is_gcn = type(conv) is GCNConv and conv.normalize
    if is_gcn:
        operator = graph.operator(
            "gcn", x.dtype, improved=conv.improved, add_self_loops=conv.add_self_loops
        )
    else:
        operator = graph.operator("sum", x.dtype)

    def run_layer(i: int, rows: Tensor, step: Step | None) -> Tensor:
        conv, norm = model.convs[i], model.norms[i]
        if i == 0 and step is not None:
            rows = step.reads_from(rows)
        if step is None:
            out = _convolve(conv, rows, *find_fastest_form(model, rows, graph, None))
        elif is_gcn:
            out = propagate(step.operator, conv.lin(rows))
            if conv.bias is not None:
                out = out + conv.bias
        else:
            part, kept = _find_edges_into(step, edges)
            out = _convolve(conv, rows, part, None if weight is None else weight[kept])[step.at]
        if i == model.num_layers - 1 and model.jk_mode is None:
            return out
        if model.act is None:
            return norm(out)
        return norm(model.act(out)) if model.act_first else model.act(norm(out))

    into = [x.shape[1]] + [model.hidden_channels] * (model.num_layers - 1)
    out_of = into[1:] + [model.out_channels if model.jk_mode is None else model.hidden_channels]
    head = model.lin if hasattr(model, "lin") else torch.nn.Identity()
    return Layers(x, operator, tuple(zip(into, out_of, strict=True)), run_layer, head)


def _convolve(conv: torch.nn.Module, x: Tensor, edges: Any, edge_weight: Tensor | None) -> Tensor:
    return conv(x, edges) if edge_weight is None else conv(x, edges, edge_weight)


def _find_edges_into(step: Step, edge_index: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the edges into the nodes of the step, as positions among the rows that it reads, and
    which edges they are.
    """
    computed = torch.zeros(step.whole.shape[0], dtype=torch.bool, device=edge_index.device)
    computed[step.nodes] = True
    kept = computed[edge_index[1]]
    edges = edge_index[:, kept]
    return (edges if step.before is None else torch.searchsorted(step.before, edges)), kept
