r"""Trains one run of a study and describes it in one line."""

import json
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from mowst.nn.mowst import PARTS, Mowst
from mowst.study.details import ConfidenceHistogram, node_details
from mowst.study.lines import RUN
from mowst.study.run_spec import RunSpec
from mowst.study.values import TASK_DEFAULTS
from mowst.task import GraphTask
from mowst.train.callbacks import Callback, ProgressBar
from mowst.train.environment import environment
from mowst.train.fit import fit
from mowst.train.methods import find_method

# The fields of a FitResult that a line has.
RESULT = (
    *("route", "train", "val", "test", "expected", "deferred_share", "scores", "alone", "start"),
    *("choices", "seconds"),
)


def run_one(
    spec: RunSpec,
    root: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    folder: str | PathLike[str] | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    r"""Trains one run and returns its line. The line is not written.

    Args:
        spec (RunSpec): The run.
        root (str, optional): The folder of the data sets. (default: :obj:`None`)
        callbacks (list, optional): See :func:`~mowst.train.fit`. (default: :obj:`()`)
        folder (str, optional): The folder for :obj:`history.jsonl`, one record per evaluated epoch,
            and :obj:`details.safetensors`, the tensors of :func:`~mowst.study.details.node_details`
            and, for a mixture, the :obj:`histogram` of
            :class:`~mowst.study.details.ConfidenceHistogram`. (default: :obj:`None`)
        device (str, optional): Where to train. (default: :obj:`None`)
    """
    started, made_by = time.perf_counter(), environment()
    task = load_run_task(spec.data, spec.split, spec.settings, root)
    if task.multilabel:
        raise ValueError(f"'{task.name}' has several labels per node; train it with mowst.fit")
    seed_everything(spec.seed)
    model = build_run_model(spec, task)
    histogram = ConfidenceHistogram(task)
    callbacks = [ProgressBar(disable=True), *callbacks]
    if spec.has_gate and folder:
        callbacks = [*callbacks, histogram]
    result = fit(model, task, spec.method, spec.train_config, device=device, callbacks=callbacks)
    if folder:
        details = node_details(model, task, spec.method)
        if spec.has_gate:
            details["histogram"] = histogram.rows()
        write_run(folder, result.history, details)
    return {
        **describe_run(spec),
        "status": "finished",
        "metric": str(task.metric),
        "higher_is_better": task.higher_is_better,
        "sizes": {split: task.index(split).numel() for split in task.splits},
        "preprocessing": task.preprocessing,
        **{key: getattr(result, key) for key in RESULT},
        "total_seconds": time.perf_counter() - started,
        "evaluations": len(result.history),
        "peak_mib": measure_peak_mib(),
        "parameters": _count_parameters(spec, model),
        "environment": {**made_by, "threads": torch.get_num_threads()},
    }


def make_failed_line(spec: RunSpec, error: BaseException | str) -> dict[str, Any]:
    r"""Returns the line of a run that ended without a result."""
    if isinstance(error, BaseException):
        place = ""
        for frame in traceback.extract_tb(error.__traceback__)[-1:]:
            place = f" (line {frame.lineno} of {frame.filename}, in {frame.name})"
        error = f"{type(error).__name__}: {error}{place}"
    made_by = {**environment(), "threads": torch.get_num_threads()}
    return {**describe_run(spec), "status": "failed", "error": error, "environment": made_by}


def describe_run(spec: RunSpec) -> dict[str, Any]:
    r"""Returns the part of a line that is known before the run."""
    line = {key: getattr(spec, key) for key in RUN if key != "status"}
    line["has_gate"] = spec.has_gate
    if spec.published:
        line["published"] = spec.published
    return {**line, "settings": spec.all_settings}


def load_run_task(
    data: str, split: int | str, settings: Mapping[str, Any], root: str | Path | None = None
) -> GraphTask:
    r"""Loads a data set with the task settings of a run."""
    task = load_task(data, root=root, split=split, transforms=settings.get("transforms", ()))
    changes = {}
    for key in TASK_DEFAULTS:
        if key != "transforms" and settings.get(key):
            changes[key] = settings[key]
    return replace(task, **changes) if changes else task


def build_run_model(spec: RunSpec, task: GraphTask) -> Mowst:
    r"""Builds the model of a run."""
    return build_model(
        spec.model_config,
        in_channels=task.num_features,
        out_channels=task.num_classes,
        num_nodes=task.num_nodes,
        multilabel=task.multilabel,
    )


def write_run(
    folder: str | PathLike[str], history: Sequence[Mapping[str, Any]], details: Mapping[str, Tensor]
) -> None:
    r"""Writes the files of a finished run."""
    with atomic_write(Path(folder) / "history.jsonl", mode="w") as file:
        file.writelines(json.dumps(record) + "\n" for record in history)
    with atomic_write(Path(folder) / "details.safetensors") as file:
        file.write(save({name: value.contiguous() for name, value in details.items()}))


def measure_peak_mib() -> float | None:
    r"""Returns the peak resident memory of this process in MiB, or :obj:`None` where the system
    does not report it.
    """
    # Not getrusage, whose peak is inherited from the parent process.
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    return int(found[1]) / 1024 if found else None


def _count_parameters(spec: RunSpec, model: Mowst) -> int:
    count = 0
    for name in PARTS if spec.has_gate else find_method(spec.method).experts:
        count += sum(parameter.numel() for parameter in getattr(model, name).parameters())
    return count
