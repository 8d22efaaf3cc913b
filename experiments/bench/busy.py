r"""How long training takes beside other busy processes, and with more threads.

    python experiments/bench/busy.py --root DATA      # about 25 minutes; writes results/busy.json

The competitors are this script's own: as many processes that only count as the machine has
processors. They end with the measurement, and in any case after ten minutes. Seconds are those of
training, not of imports. Runs of the settings of a row take turns.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from mowst.io import read_json, write_json
from mowst.process import THREAD_VARIABLES, count_processors
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "busy.json"
CHILD = Path(__file__).parent / "child.py"
SHORT = ("--epochs", "60", "--rounds", "1")
COUNT = "import time\nend = time.time() + 600\nwhile time.time() < end: pass"
# The environment before waiting threads slept by default.
SPINNING = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": str(count_processors())}
THREADS: dict[str, dict[str, str]] = {
    "chosen threads": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
}
LIMIT = 300  # seconds, after which a run is stopped and counts as so long


def run(
    data_sets: Sequence[str] = ("digits", "cora"),
    root: str | None = None,
    repeats: int = 3,
    out: Path = RESULTS,
) -> None:
    r"""Measures and writes the seconds; the file is complete after every row.

    Args:
        data_sets: names of the data sets on which `mowst train` runs.
        root: folder of the data sets; without it, the rounds on Cornell5 are left out.
        repeats: number of runs of each setting, of which the median counts.
        out: file to write.
    """
    place = ("--root", root) if root else ()
    cases: dict[str, Callable[[dict[str, str]], float]] = {}
    for data in data_sets:
        cases[f"{data}, 60 epochs"] = partial(time_training, (data, *SHORT, *place))
    cases["GCN epoch 128-64-2, 41k nodes, 2.6M edges"] = partial(time_child, ("epoch",))
    if root:
        cases["Cornell5, 30 weak + 30 strong epochs"] = partial(time_child, ("stages", *place))
    rows: list[dict[str, Any]] = []
    for case, measure in cases.items():
        rows.append(compare_busy(case, measure, repeats, spins=not rows))
        report(rows, out)
    for data in data_sets:
        measure = partial(time_training, (data, *place))
        rows.append(compare_threads(f"{data}, defaults", measure, repeats))
        report(rows, out)


def compare_busy(
    case: str, measure: Callable[[dict[str, str]], float], repeats: int, spins: bool
) -> dict[str, Any]:
    r"""Returns the seconds alone and beside busy processes, on request also with threads that
    spin while they wait.
    """
    row: dict[str, Any] = {"case": case}
    row["alone"] = [measure({}) for _ in range(repeats)]
    with competing():
        row["beside"] = [measure({}) for _ in range(repeats)]
    if spins:
        with competing():
            row["beside, threads spin"] = [measure(SPINNING)]
    return row


def compare_threads(
    case: str, measure: Callable[[dict[str, str]], float], repeats: int
) -> dict[str, Any]:
    r"""Returns the seconds with the chosen number of threads, with one and with two, in turns."""
    row: dict[str, Any] = {"case": case} | {name: [] for name in THREADS}
    for _ in range(repeats):
        for name, variables in THREADS.items():
            row[name].append(measure(variables))
    return row


def report(rows: list[dict[str, Any]], out: Path) -> None:
    r"""Adds to the last row how many times as long each setting takes as the first, prints the row
    and writes all of them.
    """
    row = rows[-1]
    medians = {key: statistics.median(row[key]) for key in row if key != "case"}
    first = next(iter(medians.values()))
    row["ratios"] = {key: median / first for key, median in medians.items()}
    print(row, flush=True)
    write_json(out, {"environment": environment(), "limit": LIMIT, "rows": rows})


def time_training(arguments: Sequence[str], variables: dict[str, str]) -> float:
    r"""Returns the training seconds of `mowst train`, at most the limit."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "mowst", "train", *arguments, "--run_dir", f"{folder}/run"]
        if start_python(command, variables) is None:
            return float(LIMIT)
        return read_json(Path(folder) / "run" / "result.json")["seconds"]


def time_child(arguments: Sequence[str], variables: dict[str, str]) -> float:
    r"""Returns the seconds that `child.py` measures, at most the limit."""
    return run_child(arguments, variables)["seconds"]


def run_child(arguments: Sequence[str], variables: dict[str, str]) -> dict[str, Any]:
    r"""Returns what `child.py` prints; seconds alone if it reached the limit."""
    printed = start_python([str(CHILD), *arguments], variables)
    return {"seconds": float(LIMIT)} if printed is None else json.loads(printed)


def start_python(arguments: Sequence[str], variables: dict[str, str]) -> str | None:
    r"""Returns what a Python process prints, or :obj:`None` if it reached the limit. Of the
    variables that choose threads, it has only the given ones.
    """
    hidden = ("OMP_WAIT_POLICY", *THREAD_VARIABLES)
    inherited = {key: value for key, value in os.environ.items() if key not in hidden}
    settings: dict[str, Any] = {"env": inherited | variables, "stdout": subprocess.PIPE}
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(command, check=True, timeout=LIMIT, text=True, **settings)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout


@contextmanager
def competing() -> Iterator[None]:
    r"""A context in which every processor has a busy process."""
    command = [sys.executable, "-c", COUNT]
    processes = [subprocess.Popen(command) for _ in range(count_processors())]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    auto_cli(run)
