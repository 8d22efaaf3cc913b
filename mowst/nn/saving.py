r"""A model in one sealed file: its weights, and the description of its parts as JSON."""

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from mowst.io import parsing
from mowst.nn.spec import rebuild, spec_of
from mowst.sealed import read_sealed, write_sealed

FORM = "mowst-model-3"


def write_model(path: str | PathLike[str], state: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    r"""Writes the tensors of a state dict and a JSON-able description, whole or not at all.

    Raises:
        ValueError: if a lazy module has not seen its first input yet.
    """
    lazy = [name for name, value in state.items() if isinstance(value, Tensor) and is_lazy(value)]
    if lazy:
        raise ValueError(f"{lazy[0]} has no shape yet: run the model once on data before saving it")
    write_sealed(path, FORM, json.dumps(spec), {k: v for k, v in state.items() if isinstance(v, Tensor)})


def read_model(path: str | PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    r"""The tensors and the description that :func:`write_model` wrote. Nothing in the file is executed.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a model file of this package, or is damaged.
    """
    text, state = read_sealed(path, FORM)
    with parsing(path, "model"):
        return state, dict(json.loads(text))


def describe(part: torch.nn.Module) -> dict[str, Any]:
    r"""How to rebuild a part of a model, or, for a module of another package, only what it was."""
    return spec_of(part) or {"class": f"{type(part).__module__}.{type(part).__qualname__}"}


def rebuild_part(spec: Mapping[str, Any], role: str, trust: bool = False) -> torch.nn.Module:
    r"""The part that :func:`describe` described.

    Raises:
        ValueError: if it is of another package: the message names it and the argument to pass it as.
    """
    if "class" in spec:
        raise ValueError(
            f"the {role} part of this model is a {spec['class']}, which the file cannot rebuild: build it and pass it "
            f"as {role}=..."
        )
    return rebuild(dict(spec), trust=trust)


def load_weights(model: torch.nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    r"""Loads tensors into a model, whose floating point numbers get the precision that they have.

    Raises:
        ValueError: if they do not fit it exactly.
    """
    wanted = {k: value for k, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    problems = [f"{name} is missing" for name in wanted.keys() - state.keys()]
    problems += [f"{name} is not in the model" for name in state.keys() - wanted.keys()]
    problems += [
        f"{name} has shape {list(state[name].shape)}, the model wants {list(wanted[name].shape)}"
        for name in wanted.keys() & state.keys()
        if not is_lazy(wanted[name]) and wanted[name].shape != state[name].shape
    ]
    if problems:
        raise ValueError(f"the weights in '{source}' do not fit the model: " + "; ".join(sorted(problems)))
    for name, value in wanted.items():
        if not is_lazy(value) and value.is_floating_point():
            value.data = value.data.to(state[name].dtype)
    extra = {name: value for name, value in model.state_dict().items() if not isinstance(value, Tensor)}
    model.load_state_dict({**state, **extra})
