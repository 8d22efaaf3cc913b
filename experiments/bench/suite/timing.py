r"""Durations that are compared in one process."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mowst.io import write_json
from mowst.sparse.memory import keep_freed_memory
from mowst.train import environment

OURS = "ours"


def compare(
    case: str, contenders: Mapping[str, Callable[[], object]], repeats: int = 5
) -> dict[str, Any]:
    r"""Runs every contender once to warm up, then all of them in turn, :obj:`repeats` times.
    Returns the medians in milliseconds, and how many times longer than ours each contender took.

    Args:
        case (str): The name of the row.
        contenders (dict): What to run, by name; one of them is :obj:`"ours"`. A contender that
            returns a float has measured its own seconds.
        repeats (int, optional): The number of measured runs of each. (default: :obj:`5`)
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            own = run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken = time.perf_counter() - start
            if repeat:
                seconds[name].append(own if isinstance(own, float) else taken)
    medians = {name: 1000 * median(values) for name, values in seconds.items()}
    times = {name: value / medians[OURS] for name, value in medians.items() if name != OURS}
    return {"case": case, "repeats": repeats, "median_ms": medians, "times_ours": times}


def prepare(threads: int) -> None:
    r"""Sets threads, seed and allocator of this process, the last as the command line does."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    keep_freed_memory()


def write_rows(rows: Iterable[dict[str, Any]], out: Path) -> None:
    r"""Prints and writes rows; the file is complete after every row."""
    made_by, done = environment(), []
    for row in rows:
        done.append(row)
        print(json.dumps(row), flush=True)
        write_json(out, {"environment": made_by, "rows": done})


def print_machine(content: Mapping[str, Any]) -> None:
    r"""Prints machine and versions of a result file."""
    made_by = content["environment"]
    machine = made_by["machine"]
    print(f"\n{machine['processor']}, {machine['threads']} threads, {made_by['versions']}")
