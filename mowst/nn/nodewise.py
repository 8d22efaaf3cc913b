r"""Which modules treat each node by itself, so that they return the same rows for some nodes as for
all.
"""

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch_geometric.nn import aggr, norm
from torch_geometric.nn.aggr.fused import FusedAggregation

# Modules of other packages may read other rows.
PACKAGES = ("torch.nn.modules.", "torch_geometric.", "mowst.")
ACROSS_ROWS = (torch.nn.MultiheadAttention, torch.nn.RNNBase, torch.nn.Transformer)
# Others pad neighbours to the largest degree, or optimize over all nodes.
AGGREGATIONS = (
    aggr.SumAggregation,
    aggr.MeanAggregation,
    aggr.MaxAggregation,
    aggr.MinAggregation,
    aggr.MulAggregation,
    aggr.VarAggregation,
    aggr.StdAggregation,
    aggr.SoftmaxAggregation,
    aggr.PowerMeanAggregation,
    FusedAggregation,
    aggr.MultiAggregation,
    aggr.DegreeScalerAggregation,
)


def is_node_by_node(model: torch.nn.Module) -> bool:
    r"""Returns whether all parts of a model treat each node by itself, apart from the message
    passing of its layers: norms, activations, aggregations, and the networks inside layers. Returns
    :obj:`False` for unknown parts.
    """
    if not _is_known_act(model):
        return False
    return all(_is_known(part) for part in model.modules() if part is not model)


def normalizes_nodes(model: torch.nn.Module, in_training: bool = False) -> bool:
    r"""Returns whether a part of a model is a norm over several nodes: the graph-wide norms of PyG,
    batch norms without running statistics, and with :obj:`in_training`, those in training mode.
    """
    return any(_is_norm_of_nodes(part, in_training) for part in model.modules())


def _is_known(part: torch.nn.Module) -> bool:
    kind = type(part).__module__
    if not kind.startswith(PACKAGES) or isinstance(part, ACROSS_ROWS):
        return False
    if kind.startswith("torch_geometric.nn.aggr") and type(part) not in AGGREGATIONS:
        return False
    if _is_norm_of_nodes(part, in_training=True):
        return False
    return getattr(part, "dim", -1) != 0 and _is_known_act(part)


def _is_known_act(part: torch.nn.Module) -> bool:
    # Activations that are not modules: functions of torch, some of which name no module.
    act = vars(part).get("act")
    return act is None or (getattr(act, "__module__", "") or "torch").startswith("torch")


def _is_norm_of_nodes(part: torch.nn.Module, in_training: bool) -> bool:
    if isinstance(part, _BatchNorm):
        return part.running_mean is None or (in_training and part.training)
    if isinstance(part, norm.LayerNorm):
        return part.mode == "graph"
    if isinstance(part, norm.BatchNorm | norm.MessageNorm):
        return False  # that inside a batch norm counts
    return type(part).__module__.startswith("torch_geometric.nn.norm")
