r"""Trains one cell of a study, and says what came of it in one line."""

import json
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch_geometric import seed_everything

from mowst.data import load_task
from mowst.io import atomic_write
from mowst.nn.build import build_model
from mowst.study.cell import Cell
from mowst.study.details import ConfidenceHistogram, node_details
from mowst.study.lines import RUN
from mowst.task import GraphTask
from mowst.train import environment, fit
from mowst.train.callbacks import Callback
from mowst.train.config import MIXTURES

SCORES = (
    *("route", "train", "val", "test", "expected", "weak_share", "shares", "alone", "start", "choices", "scores"),
    "seconds",
)


def run_cell(
    cell: Cell,
    root: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    folder: str | PathLike[str] | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    r"""Trains a cell and returns its line, which it does not write.

    Args:
        cell (Cell): The run.
        root (str, optional): The folder of the data sets. (default: :obj:`None`)
        callbacks (list, optional): Called with the record of every evaluated epoch. (default: :obj:`()`)
        folder (str, optional): Where to write :obj:`history.jsonl`, the record of every evaluated epoch, and
            :obj:`details.safetensors`, what :func:`~mowst.study.details.node_details` tells of the test nodes and,
            of a mixture, the :obj:`histogram` of :class:`~mowst.study.details.ConfidenceHistogram`.
            (default: :obj:`None`)
        device (str, optional): Where to train. (default: :obj:`None`)
    """
    start, made_by = time.perf_counter(), environment()
    task = load_cell_task(cell, root)
    seed_everything(cell.seed)
    sizes = {"in_channels": task.num_features, "out_channels": task.num_classes, "num_nodes": task.num_nodes}
    model = build_model(cell.model_config, **sizes)
    mixes = cell.method in MIXTURES
    refits = cell.train_config.gate_fit == "validation"
    watched = {"histogram": ConfidenceHistogram(model, task, refits)} if mixes and folder else {}
    result = fit(
        model,
        task,
        method=cell.method,
        device=device,
        callbacks=[*callbacks, *watched.values()],
        **asdict(cell.train_config),
    )
    if folder:
        details = node_details(model, task, cell.method)
        write_run(folder, result.history, details | {key: watch.rows() for key, watch in watched.items()})
    return describe(cell) | {
        "status": "finished",
        "metric": task.metric,
        "sizes": {split: int(task.index(split).numel()) for split in ("train", "val", "test")},
        "preprocessing": task.preprocessing,
        **{key: getattr(result, key) for key in SCORES},
        "total_seconds": time.perf_counter() - start,
        "evaluations": len(result.history),
        "peak_mib": peak_mib(),
        "parameters": sum(
            p.numel() for name in (model.parts if mixes else [cell.method]) for p in getattr(model, name).parameters()
        ),
        "environment": made_by | {"threads": torch.get_num_threads()},
    }


def failed_line(cell: Cell, error: BaseException | str) -> dict[str, Any]:
    r"""The line of a cell that ended without a result."""
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        place = "".join(f" (line {frame.lineno} of {frame.filename}, in {frame.name})" for frame in frames[-1:])
        error = f"{type(error).__name__}: {error}{place}"
    made_by = environment() | {"threads": torch.get_num_threads()}
    return describe(cell) | {"status": "failed", "error": error, "environment": made_by}


def describe(cell: Cell) -> dict[str, Any]:
    r"""What a line says of a cell before it has run."""
    published = {"published": cell.published} if cell.published else {}
    return {key: getattr(cell, key) for key in RUN if key != "status"} | published | {"settings": cell.all_settings}


def load_cell_task(cell: Cell, root: str | Path | None = None) -> GraphTask:
    r"""The task of a cell."""
    settings = cell.all_settings
    task = load_task(cell.data, root=root, split=cell.split, transforms=settings["transforms"])
    chosen = {key: settings[key] for key in ("metric", "class_weight", "inductive") if settings[key]}
    return replace(task, **chosen) if chosen else task


def write_run(folder: str | PathLike[str], history: Sequence[Mapping[str, Any]], details: Mapping[str, Tensor]) -> None:
    r"""Writes the files of a finished run."""
    with atomic_write(Path(folder) / "history.jsonl", mode="w") as file:
        file.writelines(json.dumps(record) + "\n" for record in history)
    with atomic_write(Path(folder) / "details.safetensors") as file:
        file.write(save({name: value.contiguous() for name, value in details.items()}))


def peak_mib() -> float | None:
    r"""The most resident memory that this process had, in MiB; :obj:`None` where the system does not tell."""
    # Not getrusage: its peak is inherited from the parent process.
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else None
