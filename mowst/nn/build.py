r"""A model from names and numbers, as command lines and YAML files give them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any, Literal

import torch

from mowst.nn.cascade import Cascade
from mowst.nn.confidence import CONFIDENCES
from mowst.nn.experts import build_expert
from mowst.nn.mowst import Mowst

# Named, since a command line library takes Any for leave to import what a class path names.
Plain = bool | int | float | str | None
Arguments = dict[str, Plain | list[Plain] | dict[str, Plain]]


@dataclass(frozen=True)
class ModelConfig:
    r"""The parts of a model by name.

    Args:
        weak: weak expert: a name, or the import path of a module class.
        strong: strong expert: a name such as gcn, sage, tuned-gcn, or the import path of a module class.
        middle: names of experts between the two, weak to strong, each with a confidence of its own: a cascade.
        confidence: confidence: power, step, monotone, learned, hypernetwork, the ablations logits and features, or the
            import path of a module class.
        hidden_channels: width of the experts and of a learned confidence.
        num_layers: depth of the experts and of a learned confidence.
        dropout: dropout probability in the experts and in a learned confidence.
        gate_features: let a learned confidence read the node features beside the dispersion; hypernetwork and features
            always read them.
        mix: what is mixed: the experts' probabilities ("prob") or logits ("logit"), or as training chooses ("auto").
        detach_dispersion: cut the gradient that reaches the weak expert through the confidence.
        weak_args: further constructor arguments of the weak expert, which come before the sizes above.
        strong_args: the same for the strong expert, such as norm, skip, heads.
        gate_args: the same for the confidence.

    Raises:
        ValueError: if a width is below 1.
    """

    weak: str = "mlp"
    strong: str = "gcn"
    middle: tuple[str, ...] = ()
    confidence: str = "monotone"
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
            if isinstance(width := given.get("hidden_channels"), int) and width < 1:
                raise ValueError(f"hidden_channels must be at least 1, got {width}")


def build_model(config: ModelConfig, *, in_channels: int, out_channels: int, num_nodes: int | None = None) -> Cascade:
    r"""Builds a freshly initialised model: a :class:`~mowst.nn.mowst.Mowst`, or, with experts in between, a
    :class:`~mowst.nn.cascade.Cascade` of the experts :obj:`"weak"`, :obj:`"middle1"`, ..., :obj:`"strong"`.

    Args:
        config (ModelConfig): the parts.
        in_channels (int): number of node features.
        out_channels (int): number of classes.
        num_nodes (int, optional): number of nodes, for experts with weights per node. (default: :obj:`None`)

    Raises:
        ValueError: if a name is unknown (the known ones are listed) or a part refuses its arguments.
    """
    sizes: dict[str, Any] = {
        "hidden_channels": config.hidden_channels,
        "num_layers": config.num_layers,
        "dropout": config.dropout,
    }
    shape = {"in_channels": in_channels, "out_channels": out_channels, "num_nodes": num_nodes}
    given = {"weak": (config.weak, config.weak_args)}
    given |= {f"middle{number}": (name, {}) for number, name in enumerate(config.middle, start=1)}
    given |= {"strong": (config.strong, config.strong_args)}
    experts, gates = {}, []
    for part, (name, arguments) in given.items():
        with _naming(f"{part} expert", name, arguments):
            experts[part] = build_expert(name, **shape | sizes | arguments)
    for _ in range(len(experts) - 1):
        with _naming("confidence", config.confidence, config.gate_args):
            gates.append(
                build_confidence(
                    config.confidence,
                    in_channels=in_channels,
                    num_classes=out_channels,
                    gate_features=config.gate_features,
                    **sizes | config.gate_args,
                )
            )
    if config.middle:
        return Cascade(experts, gates, config.mix, config.detach_dispersion)
    return Mowst(experts["weak"], experts["strong"], gates[0], config.mix, config.detach_dispersion)


def build_confidence(
    name: str, *, in_channels: int, num_classes: int, gate_features: bool = False, **sizes: Any
) -> torch.nn.Module:
    r"""Builds a confidence by name or import path, with those of the sizes that its constructor takes.

    Args:
        name (str): the name.
        in_channels (int): number of node features, for a confidence that always reads them.
        num_classes (int): number of classes.
        gate_features (bool, optional): if set to :obj:`True`, a confidence that may read the node features does so.
            (default: :obj:`False`)
        **sizes (optional): :obj:`hidden_channels`, :obj:`num_layers`, :obj:`dropout`, passed on where the constructor
            takes them, and any others, which it must take.

    Raises:
        ValueError: if the name is unknown, features are asked of a confidence that cannot read them, or its constructor
            does not take an argument.
    """
    taken = signature(CONFIDENCES.find(name)).parameters
    if gate_features and "in_channels" not in taken:
        raise ValueError(
            f"the confidence '{name}' reads no node features; 'learned' can, 'hypernetwork' and 'features' always do"
        )
    if unknown := sizes.keys() - taken.keys() - {"hidden_channels", "num_layers", "dropout"}:
        raise ValueError(f"the confidence '{name}' takes no {', '.join(sorted(unknown))}, only {', '.join(taken)}")
    given = sizes | {"num_classes": num_classes}
    if gate_features or ("in_channels" in taken and taken["in_channels"].default is Parameter.empty):
        given["in_channels"] = in_channels
    return CONFIDENCES.build(name, **{key: value for key, value in given.items() if key in taken})


@contextmanager
def _naming(part: str, name: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    # Constructors say by a TypeError that they know no such argument, or make nothing of its value.
    try:
        yield
    except TypeError as error:
        raise ValueError(
            f"the {part} '{name}' cannot be built with the arguments {dict(arguments)}: {error}"
        ) from error
