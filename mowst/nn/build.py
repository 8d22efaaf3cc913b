r"""A model from names and numbers, as command lines and YAML files give them."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any, Literal

import torch

from mowst.nn.mowst import Mowst
from mowst.nn.registry import EXPERTS, GATES

# Named, because a command line library reads Any as the permission to import what a class path
# names.
Plain = bool | int | float | str | None
Arguments = dict[str, Plain | list[Plain] | dict[str, Plain]]


@dataclass(frozen=True)
class ModelConfig:
    r"""The parts of a model by name.

    Args:
        weak: Weak expert: a name, or the import path of a module class.
        strong: Strong expert: a name such as gcn, sage, tuned-gcn, or the import path of a module
            class.
        gate: Gate: power, step, monotone, learned, hypernetwork, the ablations logits and features,
            or the import path of a module class.
        hidden_channels: Width of the experts and of a learned gate.
        num_layers: Depth of the experts and of a learned gate.
        dropout: Dropout probability of the experts and of a learned gate.
        gate_features: Whether a learned gate also reads the node features; hypernetwork and
            features always do.
        mix: What is mixed: probabilities ("prob"), logits ("logit"), or as training chooses
            ("auto").
        detach_dispersion: Whether no gradient reaches the weak expert through the gate.
        weak_args: Further constructor arguments of the weak expert; they override the sizes above.
        strong_args: Further constructor arguments of the strong expert, such as norm, skip, heads.
        gate_args: Further constructor arguments of the gate.

    Raises:
        ValueError: If a width is below 1.
    """

    weak: str = "mlp"
    strong: str = "gcn"
    gate: str = "monotone"
    hidden_channels: int = 64
    num_layers: int = 2
    dropout: float = 0.5
    gate_features: bool = False
    mix: Literal["auto", "prob", "logit"] = "auto"
    detach_dispersion: bool = False
    weak_args: Arguments = field(default_factory=dict)
    strong_args: Arguments = field(default_factory=dict)
    gate_args: Arguments = field(default_factory=dict)

    def __post_init__(self) -> None:
        for given in (vars(self), self.weak_args, self.strong_args, self.gate_args):
            width = given.get("hidden_channels")
            if isinstance(width, int) and width < 1:
                raise ValueError(f"hidden_channels must be at least 1, got {width}")


def build_model(
    config: ModelConfig,
    *,
    in_channels: int,
    out_channels: int,
    num_nodes: int | None = None,
    multilabel: bool = False,
) -> Mowst:
    r"""Builds a freshly initialized :class:`~mowst.nn.mowst.Mowst`.

    Args:
        config (ModelConfig): The parts.
        in_channels (int): The number of node features.
        out_channels (int): The number of classes, or of labels.
        num_nodes (int, optional): The number of nodes, for experts with weights per node. (default:
            :obj:`None`)
        multilabel (bool, optional): Whether nodes have several labels. (default: :obj:`False`)

    Raises:
        ValueError: If a name is unknown, or a part refuses its arguments.
    """
    sizes: dict[str, Any] = {
        "hidden_channels": config.hidden_channels,
        "num_layers": config.num_layers,
        "dropout": config.dropout,
    }
    shape = {"in_channels": in_channels, "out_channels": out_channels, "num_nodes": num_nodes}
    with _name_part("weak expert", config.weak, config.weak_args):
        weak = build_expert(config.weak, **{**shape, **sizes, **config.weak_args})
    with _name_part("strong expert", config.strong, config.strong_args):
        strong = build_expert(config.strong, **{**shape, **sizes, **config.strong_args})
    with _name_part("gate", config.gate, config.gate_args):
        gate = build_gate(
            config.gate,
            in_channels=in_channels,
            num_classes=out_channels,
            gate_features=config.gate_features,
            **{**sizes, **config.gate_args},
        )
    return Mowst(weak, strong, gate, config.mix, config.detach_dispersion, multilabel)


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
) -> torch.nn.Module:
    r"""Builds an expert by its registered name, or by the import path of any module class. The
    class gets those of the named arguments that its constructor accepts.

    Args:
        name (str): A registered name, see :obj:`mowst.nn.registry.EXPERTS`, or an import path such
            as :obj:`"my_package.models.MyGNN"`.
        in_channels (int): The number of node features.
        out_channels (int): The number of classes.
        hidden_channels (int, optional): The width of hidden layers. (default: :obj:`64`)
        num_layers (int, optional): The number of layers. (default: :obj:`2`)
        dropout (float, optional): The dropout probability. (default: :obj:`0.5`)
        num_nodes (int, optional): The number of nodes of the graph, for experts with weights per
            node. (default: :obj:`None`)
        **kwargs (optional): Additional constructor arguments.

    Raises:
        ValueError: If the name is unknown, its import path leads to no module class, the class does
            not accept :obj:`in_channels`, or it requires :obj:`num_nodes`.
    """
    named: dict[str, Any] = {
        "in_channels": in_channels,
        "hidden_channels": hidden_channels,
        "out_channels": out_channels,
        "num_layers": num_layers,
        "dropout": dropout,
    }
    accepted = inspect.signature(EXPERTS.find(name)).parameters
    if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in accepted.values()):
        named = {key: value for key, value in named.items() if key in accepted}
    if "in_channels" not in named:
        raise ValueError(
            f"{name!r} cannot be built by name: its constructor accepts neither in_channels nor "
            "**kwargs"
        )
    if "num_nodes" in accepted and num_nodes is not None:
        named["num_nodes"] = num_nodes
    elif "num_nodes" in accepted and accepted["num_nodes"].default is Parameter.empty:
        raise ValueError(
            f"{name!r} has weights for each node: give num_nodes, the number of nodes of the graph"
        )
    return EXPERTS.build(name, **named, **kwargs)


def build_gate(
    name: str, *, in_channels: int, num_classes: int, gate_features: bool = False, **sizes: Any
) -> torch.nn.Module:
    r"""Builds a gate by its registered name or import path. The class gets those of the sizes that
    its constructor accepts.

    Args:
        name (str): The name.
        in_channels (int): The number of node features, for a gate that always reads them.
        num_classes (int): The number of classes.
        gate_features (bool, optional): If set to :obj:`True`, a gate that can read the node
            features does so. (default: :obj:`False`)
        **sizes (optional): :obj:`hidden_channels`, :obj:`num_layers` and :obj:`dropout`, dropped
            where the constructor does not accept them, and any other constructor arguments.

    Raises:
        ValueError: If the name is unknown, the gate cannot read features, or its constructor does
            not accept an argument.
    """
    accepted = signature(GATES.find(name)).parameters
    if gate_features and "in_channels" not in accepted:
        raise ValueError(
            f"the gate '{name}' reads no node features; 'learned' can, 'hypernetwork' and "
            "'features' always do"
        )
    unknown = sizes.keys() - accepted.keys() - {"hidden_channels", "num_layers", "dropout"}
    if unknown:
        raise ValueError(
            f"the gate '{name}' takes no {', '.join(sorted(unknown))}, only {', '.join(accepted)}"
        )
    given = {**sizes, "num_classes": num_classes}
    if gate_features or (
        "in_channels" in accepted and accepted["in_channels"].default is Parameter.empty
    ):
        given["in_channels"] = in_channels
    return GATES.build(name, **{key: value for key, value in given.items() if key in accepted})


@contextmanager
def _name_part(part: str, name: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    # Constructors raise a TypeError for unknown arguments and for values of a wrong type.
    try:
        yield
    except TypeError as error:
        raise ValueError(
            f"the {part} '{name}' cannot be built with the arguments {dict(arguments)}: {error}"
        ) from error
