r"""Options that several commands share, and the import paths that files may not name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

IMPORTED = ("weak", "strong", "gate", "method")


def add_root(parser: "ArgumentParser") -> None:
    r"""Adds the option of the folder of the data sets."""
    text = "Folder of data sets (default: $MOWST_DATA, else ~/.cache/mowst)."
    parser.add_argument("--root", type=str | None, help=text)


def add_places(parser: "ArgumentParser") -> None:
    r"""Adds the options of the folder of the data sets and of the device of a model."""
    add_root(parser)
    text = "cpu, cuda, ... (default: cuda if available)."
    parser.add_argument("--device", type=str | None, help=text)


def choose_device(device: str | None) -> str:
    r"""Returns the chosen device, by default a GPU if there is one, see :func:`check_device`."""
    check_device(device)
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def check_device(device: str | None) -> None:
    r"""Raises a :obj:`ValueError` if this machine does not have a device."""
    known = ["cpu"]
    accelerator = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count()
    if accelerator and count > 0:
        known.append(accelerator.type)
        known.extend(f"{accelerator.type}:{k}" for k in range(count))
    if device and device not in known:
        choices = ", ".join(known)
        raise ValueError(f"this machine has no device '{device}', choose from {choices}")


def refuse_import_paths(settings: Mapping[str, Any], trust: bool) -> None:
    r"""Raises a :obj:`ValueError` if settings from a file, each a value or a list, name an import
    path that is not trusted: importing runs code, and the file may be somebody else's.
    """
    for key in IMPORTED:
        names = settings.get(key, ())
        for name in names if isinstance(names, list | tuple) else [names]:
            if "." in str(name) and not trust:
                raise ValueError(
                    f"the import path {name!r} comes from a file: importing it runs code, which "
                    "needs --trust"
                )
