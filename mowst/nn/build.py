r"""A model from names and numbers, as command lines and YAML files give them."""

from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Literal

import torch

from mowst.nn.confidence import CONFIDENCES
from mowst.nn.experts import build_expert
from mowst.nn.mowst import Mowst


@dataclass(frozen=True)
class ModelConfig:
    r"""The parts of a model by name.

    Args:
        weak: weak expert: a name, or the import path of a module class.
        strong: strong expert: a name such as gcn, sage, gin, gat, or the import path of a module class.
        confidence: confidence: power, step, monotone, learned, or the import path of a module class.
        hidden_channels: width of both experts and of a learned confidence.
        num_layers: depth of both experts and of a learned confidence.
        dropout: dropout probability in both experts and in a learned confidence.
        gate_features: let a learned confidence read the node features beside the dispersion.
        mix: what is mixed: the experts' probabilities ("prob") or logits ("logit").
        detach_dispersion: cut the gradient that reaches the weak expert through the confidence.
        weak_args: further constructor arguments of the weak expert, which come before the sizes above.
        strong_args: the same for the strong expert, such as norm, skip, heads.
        gate_args: the same for the confidence.
    """

    weak: str = "mlp"
    strong: str = "gcn"
    confidence: str = "learned"
    hidden_channels: int = 64
    num_layers: int = 2
    dropout: float = 0.5
    gate_features: bool = False
    mix: Literal["prob", "logit"] = "prob"
    detach_dispersion: bool = False
    weak_args: dict[str, Any] = field(default_factory=dict)
    strong_args: dict[str, Any] = field(default_factory=dict)
    gate_args: dict[str, Any] = field(default_factory=dict)


def build_model(config: ModelConfig, *, in_channels: int, out_channels: int) -> Mowst:
    r"""Builds a freshly initialised model.

    Args:
        config (ModelConfig): the parts.
        in_channels (int): number of node features.
        out_channels (int): number of classes.

    Raises:
        ValueError: if a name is unknown (the known ones are listed) or a part refuses its arguments.
    """
    sizes: dict[str, Any] = {
        "hidden_channels": config.hidden_channels,
        "num_layers": config.num_layers,
        "dropout": config.dropout,
    }
    return Mowst(
        weak=build_expert(config.weak, in_channels=in_channels, out_channels=out_channels, **sizes | config.weak_args),
        strong=build_expert(
            config.strong, in_channels=in_channels, out_channels=out_channels, **sizes | config.strong_args
        ),
        confidence=build_confidence(
            config.confidence, in_channels=in_channels if config.gate_features else None, **sizes | config.gate_args
        ),
        mix=config.mix,
        detach_dispersion=config.detach_dispersion,
    )


def build_confidence(name: str, *, in_channels: int | None = None, **kwargs: Any) -> torch.nn.Module:
    r"""Builds a confidence by name or import path, with those of the arguments that its constructor takes.

    Args:
        name (str): the name.
        in_channels (int, optional): number of node features that it shall read. (default: :obj:`None`)
        **kwargs (optional): sizes.

    Raises:
        ValueError: if the name is unknown, or features are given to a confidence that cannot read them.
    """
    taken = signature(CONFIDENCES.find(name)).parameters
    if in_channels is not None:
        if "in_channels" not in taken:
            raise ValueError(f"the confidence '{name}' reads no node features; 'learned' can")
        kwargs["in_channels"] = in_channels
    return CONFIDENCES.build(name, **{key: value for key, value in kwargs.items() if key in taken})
