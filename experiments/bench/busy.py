r"""How long `mowst train` takes beside other busy processes, and with more threads.

    python experiments/bench/busy.py      # about 6 minutes; writes results/busy.json

The competitors are this script's own: as many processes that only count as the machine has
processors. They end with the measurement, and in any case after ten minutes. Seconds are those of
training in `result.json`, not of imports.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from mowst.io import read_json, write_json
from mowst.process import THREAD_VARIABLES, count_processors
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "busy.json"
SHORT = ("--epochs", "60", "--rounds", "1")
COUNT = "import time\nend = time.time() + 600\nwhile time.time() < end: pass"
# The environment before waiting threads slept by default.
SPINNING = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": str(count_processors())}
LIMIT = 300  # seconds, after which a run is stopped and counts as so long


def run(data_sets: Sequence[str] = ("digits",), repeats: int = 3, out: Path = RESULTS) -> None:
    r"""Measures and writes the seconds.

    Args:
        data_sets: names of the data sets.
        repeats: number of runs of each case, of which the median counts.
        out: file to write.
    """
    rows = []
    for data in data_sets:
        alone = [time_training(data, SHORT, {}) for _ in range(repeats)]
        with competing():
            beside = [time_training(data, SHORT, {}) for _ in range(repeats)]
            spinning = [time_training(data, SHORT, SPINNING)]
        row = {"case": f"{data}, 60 epochs", "alone": alone, "beside": beside}
        rows.append(row | {"beside, threads spin": spinning})
        print(rows[-1], flush=True)
    for data in data_sets:
        chosen, two = [], []
        for _ in range(repeats):
            chosen.append(time_training(data, (), {}))
            two.append(time_training(data, (), {"OMP_NUM_THREADS": "2"}))
        rows.append({"case": f"{data}, defaults", "chosen threads": chosen, "two threads": two})
        print(rows[-1], flush=True)
    for row in rows:
        medians = {key: statistics.median(row[key]) for key in row if key != "case"}
        first = next(iter(medians.values()))
        row["ratios"] = {key: median / first for key, median in medians.items()}
    write_json(out, {"environment": environment(), "limit": LIMIT, "rows": rows})


def time_training(data: str, options: Sequence[str], variables: dict[str, str]) -> float:
    r"""Returns the training seconds of a run, at most the limit."""
    inherited = {
        k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", *THREAD_VARIABLES)
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "mowst",
            "train",
            data,
            *options,
            "--run_dir",
            f"{folder}/run",
        ]
        settings: dict[str, Any] = {"env": inherited | variables, "stdout": subprocess.DEVNULL}
        try:
            subprocess.run(command, check=True, timeout=LIMIT, **settings)
        except subprocess.TimeoutExpired:
            return float(LIMIT)
        return read_json(Path(folder) / "run" / "result.json")["seconds"]


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
