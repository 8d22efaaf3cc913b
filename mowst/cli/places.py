r"""Options that several commands share: where data lie and where models run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from mowst.data import load_task
from mowst.task import GraphTask


def add_root(parser: ArgumentParser) -> None:
    r"""Adds where data sets lie."""
    parser.add_argument("--root", type=str | None, help="folder of data sets, else $MOWST_DATA, else ~/.cache/mowst")


def add_places(parser: ArgumentParser) -> None:
    r"""Adds where data sets lie and on which device a model runs."""
    add_root(parser)
    parser.add_argument("--device", type=str | None, help="cpu, cuda, ... (default: cuda where there is one)")


def device_of(options: Namespace) -> str:
    return checked(options.device) or ("cuda" if torch.cuda.is_available() else "cpu")


def checked(device: str | None) -> str | None:
    r"""Raises a :obj:`ValueError` if a device is not on this machine, and lists those that are."""
    known, accelerator = ["cpu"], torch.accelerator.current_accelerator()
    if accelerator and (count := torch.accelerator.device_count()):
        known += [accelerator.type, *(f"{accelerator.type}:{k}" for k in range(count))]
    if device and device not in known:
        raise ValueError(f"this machine has no device '{device}', choose from {', '.join(known)}")
    return device


def load(data: str, root: str | None, split: int | str, config: Mapping[str, Any]) -> GraphTask:
    r"""A data set as the settings of a run have it."""
    task = load_task(data, root=root, split=split, transforms=config.get("transforms", ()))
    chosen = {key: config[key] for key in ("metric", "class_weight", "inductive") if config.get(key)}
    return replace(task, **chosen) if chosen else task
