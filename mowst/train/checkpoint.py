r"""Nested states in one file: tensors as safetensors, everything else as JSON in the metadata. Nothing is executed."""

import json
import zlib
from os import PathLike
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mowst.io import atomic_write

FORMAT = "mowst-checkpoint-1"


def write_checkpoint(path: str | PathLike[str], tree: Any) -> None:
    r"""Writes dictionaries, lists, tuples, tensors, strings, numbers, booleans and None, nested in any way: whole, or
    not at all. Floats come back bit by bit.

    Raises:
        TypeError: if the tree holds anything else.
        OSError: if the file cannot be written; an older one is then left as it was.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_pack(tree, tensors))
    content = save(tensors, metadata={"format": FORMAT, "tree": text, "crc32": _checksum(text, tensors)})
    with atomic_write(path) as file:
        file.write(content)


def read_checkpoint(path: str | PathLike[str]) -> Any:
    r"""The tree that :func:`write_checkpoint` wrote, its tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file, or is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a safetensors file, or is damaged: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"'{path}' is not a checkpoint of this version: format {metadata.get('format')!r}")
    if metadata.get("crc32") != _checksum(metadata.get("tree", ""), tensors):
        raise ValueError(f"'{path}' is damaged: its checksum is another than the one it was written with")
    return _unpack(json.loads(metadata["tree"]), tensors)


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    # Containers become [kind, content], since JSON knows no tuples and only strings as keys; a tensor, its name.
    if isinstance(value, dict):
        return ["dict", [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_pack(item, tensors) for item in value]]
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A clone, since safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().clone().contiguous()
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


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        crc = zlib.crc32(f"{name} {tuple(value.shape)} {value.dtype}".encode(), crc)
        crc = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, crc)
    return str(crc)
