r"""Tensors and a text in one safetensors file with a checksum. Nothing in it is executed."""

import zlib
from collections.abc import Mapping
from os import PathLike

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from mowst.io import atomic_write, parsing

Tensors = Mapping[str, Tensor]


def write_sealed(path: str | PathLike[str], form: str, text: str, tensors: Tensors) -> None:
    r"""Writes tensors and a text, atomically. Tensors may share memory and be on any device.
    :obj:`form` is the name and version of the format, such as :obj:`"mowst-model-1"`.
    """
    # Cloned, since safetensors refuses tensors that share memory.
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    content = save(tensors, metadata=seal(form, text, tensors))
    with atomic_write(path) as file:
        file.write(content)


def seal(form: str, text: str, tensors: Tensors) -> dict[str, str]:
    r"""Returns the metadata of a file: format, text and a CRC-32 of the text and of the names,
    shapes, types and values of the tensors. These must be contiguous and on the CPU.
    """
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        crc = zlib.crc32(f"{name} {tuple(value.shape)} {value.dtype}".encode(), crc)
        crc = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, crc)
    return {"format": form, "text": text, "crc32": str(crc)}


def read_sealed(path: str | PathLike[str], form: str) -> tuple[str, dict[str, Tensor]]:
    r"""Returns the text and the memory-mapped tensors of a file. Raises a :obj:`ValueError` if it
    has another format or is damaged.
    """
    with open(path, "rb"), parsing(path, "safetensors file"), safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    found = metadata.get("format")
    if found != form:
        raise ValueError(
            f"{path} is of the format {found!r}, not '{form}': another version or program wrote "
            "it, and can read it"
        )
    if metadata != seal(form, metadata.get("text", ""), tensors):
        raise ValueError(f"{path} is damaged: its checksum does not match its content")
    return metadata["text"], tensors
