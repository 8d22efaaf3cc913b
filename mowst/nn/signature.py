r"""What the forwards of experts and gates take, read from their signatures. For a compiled or
parallel module, this is the signature of the module inside.
"""

import inspect
from functools import lru_cache
from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.nn import Sequential

from mowst.nn.conditional import is_pyg_model
from mowst.nn.nodewise import normalizes_nodes
from mowst.nn.wrappers import unwrap
from mowst.sparse.graph import Graph

# Fields of a graph that experts get in another way or not at all: labels must not leak, and a part
# of a graph has another number of nodes.
NOT_TENSORS = ("x", "edge_index", "edge_weight", "y", "num_nodes")


def takes_edges(expert: torch.nn.Module) -> bool:
    r"""Returns whether the forward of an expert takes the graph: a parameter of PyG's name
    (:obj:`edge_index`, or :obj:`adj...`), a second one without a default, or :obj:`*args`.
    """
    required = 0
    for parameter in _read_parameters(expert):
        if parameter.kind is parameter.VAR_POSITIONAL or parameter.name == "edge_index":
            return True
        if parameter.name.startswith("adj"):
            return True
        positional = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        required += positional and parameter.default is parameter.empty
    return required > 1


def list_tensors(expert: torch.nn.Module) -> dict[str, bool]:
    r"""Returns the names of what the forward of an expert takes next to features, edges and edge
    weights, and whether it is required. A :class:`~torch_geometric.nn.models.basic_gnn.BasicGNN` of
    PyG takes :obj:`edge_attr` if its layers were built for it.
    """
    expert = unwrap(expert)
    if is_mixture(expert):
        parts: Any = (expert.weak, expert.strong)
        return list_tensors(parts[0]) | list_tensors(parts[1])
    if is_pyg_model(expert):
        convs: Any = expert.convs
        # Layers without the attribute, such as GINEConv, always read edge features.
        reads = any(getattr(conv, "edge_dim", True) is not None for conv in convs)
        return {"edge_attr": True} if expert.supports_edge_attr and reads else {}
    if isinstance(expert, Sequential):
        names = list(expert.signature.param_dict)[1 + takes_edges(expert) :]
        return {name: True for name in names if name != "edge_weight"}
    found = {}
    for parameter in _read_parameters(expert)[1 + takes_edges(expert) :]:
        is_named = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if is_named and parameter.name not in ("x", "edge_index", "edge_weight"):
            found[parameter.name] = parameter.default is parameter.empty
    return found


def reads_graph(expert: torch.nn.Module, graph: Graph) -> bool:
    r"""Returns whether an expert reads the edges of a graph or one of its tensors, or normalizes
    over its nodes.
    """
    if takes_edges(expert) or normalizes_nodes(expert):
        return True
    return any(name in graph.tensors for name in list_tensors(expert))


def make_graph(model: torch.nn.Module, data: Data) -> Graph:
    r"""Returns the edges of a PyG graph with those of its fields that an expert of the model names,
    see :func:`list_tensors`.
    """
    tensors = {}
    for name in list_tensors(model):
        if name in data and name not in NOT_TENSORS:
            tensors[name] = data[name]
    return Graph(data.edge_index, data.get("edge_weight"), data.x.size(0), tensors)


def takes_features(gate: torch.nn.Module) -> bool:
    r"""Returns whether the forward of a gate takes the node features: it names a parameter
    :obj:`x`.
    """
    return any(parameter.name == "x" for parameter in _read_parameters(gate))


def takes_prob(gate: torch.nn.Module) -> bool:
    r"""Returns whether the forward of a gate takes the softmax of the weak logits: it names a
    parameter :obj:`weak_prob`.
    """
    return any(parameter.name == "weak_prob" for parameter in _read_parameters(gate))


def is_mixture(expert: torch.nn.Module) -> bool:
    r"""Returns whether an expert is a mixture itself."""
    return hasattr(expert, "log_prob") and hasattr(expert, "gate")


def takes_edge_weight(expert: torch.nn.Module) -> bool:
    r"""Returns whether an expert can use edge weights: its forward names :obj:`edge_weight` or
    takes any keyword, and no attribute :obj:`supports_edge_weight` denies it.
    """
    if not getattr(unwrap(expert), "supports_edge_weight", True):
        return False
    parameters = _read_parameters(expert)
    return any(p.name == "edge_weight" or p.kind is p.VAR_KEYWORD for p in parameters)


def requires_batch(expert: torch.nn.Module) -> bool:
    r"""Returns whether the forward of an expert has a :obj:`batch` without a default."""
    for parameter in _read_parameters(expert):
        if parameter.name == "batch":
            return parameter.default is parameter.empty
    return False


def _read_parameters(module: torch.nn.Module) -> tuple[inspect.Parameter, ...]:
    return _read_signature(type(unwrap(module)).forward)


@lru_cache(maxsize=256)
def _read_signature(forward: Any) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(forward).parameters.values())[1:]  # without self
