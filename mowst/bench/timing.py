r"""Comparing durations in one process."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

OURS = "ours"


def compare(case: str, contenders: Mapping[str, Callable[[], object]], repeats: int = 5) -> dict[str, Any]:
    r"""Runs every contender once to warm up, then all of them in turn, :obj:`repeats` times.

    Args:
        case (str): name of the row.
        contenders (dict): what to run, by name; :obj:`"ours"` among them. One that returns a number was measured by
            itself: that many seconds.
        repeats (int, optional): measured runs of each. (default: :obj:`5`)

    Returns:
        dict: the medians in milliseconds, and how many times longer than ours each contender took.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            own = run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                seconds[name].append(own if isinstance(own, float) else time.perf_counter() - start)
    medians = {name: 1000 * median(values) for name, values in seconds.items()}
    return {
        "case": case,
        "repeats": repeats,
        "median_ms": medians,
        "times_ours": {name: value / medians[OURS] for name, value in medians.items() if name != OURS},
    }
