"""The experts by name."""

import inspect
from typing import Any

from torch.nn import Module

from mowst.nn.experts.gat import GAT
from mowst.nn.experts.gcn import GCN
from mowst.nn.experts.gin import GIN
from mowst.nn.experts.gprgnn import GPRGNN
from mowst.nn.experts.h2gcn import H2GCN
from mowst.nn.experts.linkx import LINKX
from mowst.nn.experts.mlp import MLP
from mowst.nn.experts.sage import GraphSAGE
from mowst.nn.experts.skip import SkipGCN, SkipGIN
from mowst.nn.experts.tuned import TunedGAT, TunedGCN, TunedGraphSAGE
from mowst.nn.spec import Registry

__all__ = [
    "EXPERTS",
    "GAT",
    "GCN",
    "GIN",
    "GPRGNN",
    "H2GCN",
    "LINKX",
    "MLP",
    "GraphSAGE",
    "SkipGCN",
    "SkipGIN",
    "TunedGAT",
    "TunedGCN",
    "TunedGraphSAGE",
    "build_expert",
]

EXPERTS = Registry("expert")
EXPERTS.register("mlp")(MLP)
EXPERTS.register("gcn")(GCN)
EXPERTS.register("sage")(GraphSAGE)
EXPERTS.register("gin")(GIN)
EXPERTS.register("gat")(GAT)
EXPERTS.register("gcn-skip")(SkipGCN)
EXPERTS.register("gin-skip")(SkipGIN)
EXPERTS.register("h2gcn")(H2GCN)
EXPERTS.register("gprgnn")(GPRGNN)
EXPERTS.register("linkx")(LINKX)
EXPERTS.register("tuned-gcn")(TunedGCN)
EXPERTS.register("tuned-sage")(TunedGraphSAGE)
EXPERTS.register("tuned-gat")(TunedGAT)


def build_expert(
    name: str,
    *,
    in_channels: int,
    out_channels: int,
    hidden_channels: int = 64,
    num_layers: int = 2,
    dropout: float = 0.5,
    num_nodes: int | None = None,
    **kwargs: Any,
) -> Module:
    r"""The expert called `name`: "mlp", "gcn", "sage", "gin", "gat", "gcn-skip", "gin-skip", "h2gcn", "gprgnn",
    "linkx", "tuned-gcn", "tuned-sage", "tuned-gat", or the import path of any module class, which gets those of the
    named arguments that its constructor accepts.

    Args:
        name (str): A registered name or an import path such as "my_package.models.MyGNN".
        in_channels (int): Size of each input sample.
        out_channels (int): Number of classes.
        hidden_channels (int): Size of each hidden sample. (default: :obj:`64`)
        num_layers (int): Number of layers. (default: :obj:`2`)
        dropout (float): Dropout probability. (default: :obj:`0.5`)
        num_nodes (int, optional): Number of nodes of the graph, needed by experts with weights per node such as
            "linkx". (default: :obj:`None`)
        **kwargs (optional): Further constructor arguments, passed on as they are.

    Raises:
        ValueError: If the name is unknown, its import path leads to no module class, that class does not accept
            in_channels, or it needs `num_nodes`.
    """
    named: dict[str, Any] = {
        "in_channels": in_channels,
        "hidden_channels": hidden_channels,
        "out_channels": out_channels,
        "num_layers": num_layers,
        "dropout": dropout,
    }
    accepted = inspect.signature(EXPERTS.find(name)).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        named = {key: value for key, value in named.items() if key in accepted}
    if "in_channels" not in named:
        raise ValueError(f"{name!r} cannot be built by name: its constructor accepts neither in_channels nor **kwargs")
    if "num_nodes" in accepted and num_nodes is not None:
        named["num_nodes"] = num_nodes
    elif "num_nodes" in accepted and accepted["num_nodes"].default is inspect.Parameter.empty:
        raise ValueError(f"{name!r} has weights for each node: give num_nodes, the number of nodes of the graph")
    return EXPERTS.build(name, **named, **kwargs)
