r"""Nested states in one sealed file: tensors, and everything else as JSON."""

import json
from os import PathLike
from typing import Any

from torch import Tensor

from mowst.io import parsing
from mowst.sealed import read_sealed, write_sealed

FORM = "mowst-checkpoint-2"


def write_checkpoint(path: str | PathLike[str], tree: Any) -> None:
    r"""Writes dictionaries, lists, tuples, tensors, strings, numbers, booleans and None, nested in any way: whole, or
    not at all. Floats come back bit by bit.

    Raises:
        TypeError: if the tree holds anything else.
        OSError: if the file cannot be written; an older one is then left as it was.
    """
    tensors: dict[str, Tensor] = {}
    write_sealed(path, FORM, json.dumps(_pack(tree, tensors)), tensors)


def read_checkpoint(path: str | PathLike[str]) -> Any:
    r"""The tree that :func:`write_checkpoint` wrote, its tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file, or is damaged.
    """
    text, tensors = read_sealed(path, FORM)
    with parsing(path, "checkpoint"):
        return _unpack(json.loads(text), tensors)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    # Containers become [kind, content], since JSON knows no tuples and only strings as keys; a tensor, its name.
    if isinstance(value, dict):
        return ["dict", [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_pack(item, tensors) for item in value]]
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return ["tensor", name]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a checkpoint holds plain values and tensors, not {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "dict":
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in content}
    if kind == "tensor":
        return tensors[content]
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
