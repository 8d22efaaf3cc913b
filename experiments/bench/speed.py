r"""The speed table: the whole suite, with the allocator's default settings and with freed memory kept.

    python experiments/bench/speed.py        # about 20 minutes on 2 cores; writes experiments/bench/results/speed.json

Each setting is a process of its own, so that both sides of a ratio always run under the same one.
"""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from mowst.allocator import keep_freed_memory
from mowst.bench import run_suite
from mowst.io import write_json
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "speed.json"


def run(allocator: str) -> list[dict]:
    if allocator == "kept":
        assert keep_freed_memory()
    rows = []
    for row in run_suite(full=True):
        rows.append({"allocator": allocator, **row})
        print(json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    rows: list[dict] = []
    for allocator in ("default", "kept"):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            rows += executor.submit(run, allocator).result()
        write_json(RESULTS, {"environment": environment(), "rows": rows})
