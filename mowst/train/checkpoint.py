r"""Nested states in one file: tensors in safetensors form, everything else as JSON."""

import json
from collections import Counter
from os import PathLike
from typing import Any

from torch import Tensor

from mowst.io import parsing
from mowst.sealed import read_sealed, write_sealed

FORM = "mowst-checkpoint-3"


def write_checkpoint(path: str | PathLike[str], tree: Any) -> None:
    r"""Writes nested dictionaries, lists, tuples, tensors, strings, numbers, booleans and
    :obj:`None`, atomically. Floats are read back bit by bit.

    Raises:
        TypeError: If the tree holds anything else.
        OSError: If the file cannot be written. An older file is then left as it was.
    """
    tensors: dict[str, Tensor] = {}
    write_sealed(path, FORM, json.dumps(_pack(tree, tensors)), tensors)


def read_checkpoint(path: str | PathLike[str]) -> Any:
    r"""Returns the tree that :func:`write_checkpoint` wrote, with its tensors on the CPU.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a checkpoint, or is damaged.
    """
    text, tensors = read_sealed(path, FORM)
    with parsing(path, "checkpoint"):
        return _unpack(json.loads(text), tensors)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    # A container becomes [kind, content], because JSON has no tuples and only strings as keys; a
    # tensor, its name.
    if isinstance(value, dict):
        kind = "counter" if isinstance(value, Counter) else "dict"  # of a MultiStepLR
        return [kind, [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_pack(item, tensors) for item in value]]
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
    if kind in ("dict", "counter"):
        table = {_unpack(k, tensors): _unpack(v, tensors) for k, v in content}
        return table if kind == "dict" else Counter(table)
    if kind == "tensor":
        # Not the mapped file, which the next checkpoint replaces: Windows refuses that.
        return tensors[content].clone()
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
