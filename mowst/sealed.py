r"""Tensors and a text in one safetensors file, under a checksum. Nothing in such a file is executed."""

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
    r"""Writes tensors and a text, whole or not at all. Tensors may share memory, and be anywhere.

    Args:
        path (str): the file.
        form (str): the name and version of what the text and the tensors mean, such as :obj:`"mowst-model-1"`.
        text (str): the text.
        tensors (dict[str, Tensor]): the tensors.

    Raises:
        OSError: if the file cannot be written; an older one is then left as it was.
    """
    # Clones, since safetensors refuses tensors that share memory.
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    content = save(tensors, metadata=seal(form, text, tensors))
    with atomic_write(path) as file:
        file.write(content)


def seal(form: str, text: str, tensors: Tensors) -> dict[str, str]:
    r"""The metadata of the file: form, text and a CRC-32 of the text and of the names, shapes, types and values of the
    tensors, which are on the CPU and contiguous.
    """
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        crc = zlib.crc32(f"{name} {tuple(value.shape)} {value.dtype}".encode(), crc)
        crc = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, crc)
    return {"format": form, "text": text, "crc32": str(crc)}


def read_sealed(path: str | PathLike[str], form: str) -> tuple[str, dict[str, Tensor]]:
    r"""The text and the tensors, which are mapped into memory: read where they are touched, and copied where they are
    written to.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another form, or is damaged.
    """
    with open(path, "rb"), parsing(path, "safetensors file"), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if (found := metadata.get("format")) != form:
        raise ValueError(f"{path} is of the format {found!r}, not '{form}': another version or program wrote it")
    if metadata != seal(form, metadata.get("text", ""), tensors):
        raise ValueError(f"{path} is damaged: its checksum is another than the one it was written with")
    return metadata["text"], tensors
