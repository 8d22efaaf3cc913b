r"""A model in one sealed file: its weights, and the description of its parts as JSON."""

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from mowst.io import parsing
from mowst.nn.registry import rebuild, spec_of
from mowst.nn.wrappers import list_plain_names, unwrap
from mowst.sealed import read_sealed, write_sealed

FORM = "mowst-model-4"


def write_model(
    path: str | PathLike[str], state: Mapping[str, Any], spec: Mapping[str, Any]
) -> None:
    r"""Writes the tensors of a state dict and a JSON-able description, atomically.

    Raises:
        ValueError: If a lazy module has not seen its first input yet.
    """
    lazy = [name for name, value in state.items() if isinstance(value, Tensor) and is_lazy(value)]
    if lazy:
        raise ValueError(f"{lazy[0]} has no shape yet: run the model once on data before saving it")
    write_sealed(
        path, FORM, json.dumps(spec), {k: v for k, v in state.items() if isinstance(v, Tensor)}
    )


def read_model(path: str | PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    r"""Reads the tensors and the description that :func:`write_model` wrote. Nothing in the file is
    executed.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a model file of this package, or is damaged.
    """
    text, state = read_sealed(path, FORM)
    with parsing(path, "model"):
        return state, dict(json.loads(text))


def describe(part: torch.nn.Module) -> dict[str, Any]:
    r"""Returns how to rebuild a part of a model. For a module of another package, this is only its
    class.
    """
    part = unwrap(part)
    describe_mixture = getattr(part, "describe", None)
    if describe_mixture is not None:  # a mixture that is an expert of another one
        return {"mixture": describe_mixture()}
    return spec_of(part) or {"class": f"{type(part).__module__}.{type(part).__qualname__}"}


def rebuild_part(spec: Mapping[str, Any], role: str, trust: bool = False) -> torch.nn.Module:
    r"""Builds the part that :func:`describe` described.

    Raises:
        ValueError: If it is of another package. The message names it and the argument to pass it
            as.
    """
    if "class" in spec:
        raise ValueError(
            f"the {role} part of this model is a {spec['class']}, which the file cannot rebuild: "
            f"build it and pass it as {role}=..."
        )
    return rebuild(dict(spec), trust=trust)


def load_weights(model: torch.nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    r"""Loads tensors into a model and converts its floating point numbers to their precision.

    Raises:
        ValueError: If the tensors do not fit the model exactly.
    """
    names = list_plain_names(model)
    wanted = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            wanted[names[name]] = value
    problems = [f"{name} is missing" for name in wanted.keys() - state.keys()]
    problems += [f"{name} is not in the model" for name in state.keys() - wanted.keys()]
    for name in wanted.keys() & state.keys():
        given = state[name].shape
        if not is_lazy(wanted[name]) and wanted[name].shape != given:
            problems.append(
                f"{name} has shape {list(given)}, the model wants {list(wanted[name].shape)}"
            )
    if problems:
        raise ValueError(
            f"the weights in '{source}' do not fit the model: " + "; ".join(sorted(problems))
        )
    for name, value in wanted.items():
        if not is_lazy(value) and value.is_floating_point():
            value.data = value.data.to(state[name].dtype)
    loaded = {}
    for name, value in model.state_dict().items():
        loaded[name] = state[names[name]] if isinstance(value, Tensor) else value
    model.load_state_dict(loaded)
