r"""The speed table: the whole suite, with the allocator's default settings and with freed memory kept.

    python experiments/bench/speed.py run --root DATA      # about 20 minutes on 2 cores; writes results/speed.json
    python experiments/bench/speed.py table                # prints the table of that file as Markdown

Each setting is a process of its own, so that both sides of a ratio always run under the same one.
"""

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli

from mowst import load_task
from mowst.allocator import keep_freed_memory
from mowst.bench import run_suite
from mowst.bench.turns import bench_round
from mowst.io import write_json
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "speed.json"
ALLOCATORS = ("default", "kept")


def run(root: str | None = None, threads: int = 2, out: Path = RESULTS) -> None:
    r"""Runs the suite under both settings; the file is whole after every row.

    Args:
        root: folder of the data sets, for the case on Cornell5.
        threads: number of CPU threads.
        out: file to write.
    """
    rows: list[dict[str, Any]] = []
    for allocator in ALLOCATORS:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            rows = executor.submit(run_setting, allocator, rows, root, threads, out).result()


def run_setting(allocator: str, rows: list, root: str | None, threads: int, out: Path) -> list[dict[str, Any]]:
    r"""Runs the suite in this process and returns the longer list of rows."""
    torch.set_num_threads(threads)
    made_by = environment()  # before the first case: a later commit is not the code that this process loaded
    if allocator == "kept" and not keep_freed_memory():
        raise OSError("the allocator of this system has no such settings")
    for row in cases(root):
        rows = [*rows, {"allocator": allocator, **row}]
        print(json.dumps(rows[-1]), flush=True)
        write_json(out, {"environment": made_by, "rows": rows})
    return rows


def cases(root: str | None) -> Iterator[dict[str, Any]]:
    r"""The suite, and the round on the real Cornell5."""
    cornell5 = bench_round(load_task("cornell5", root=root))
    yield cornell5 | {"case": f"Cornell5: {cornell5['case']}"}
    yield from run_suite(full=True)


def table(out: Path = RESULTS) -> None:
    r"""Prints how many times longer than ours each contender took.

    Args:
        out: file to read.
    """
    content = json.loads(out.read_text())
    rows = {
        allocator: {r["case"]: r for r in content["rows"] if r["allocator"] == allocator} for allocator in ALLOCATORS
    }
    print("| case | ours | contender | times ours | ours, memory kept | times ours, memory kept |\n" + "|---" * 6 + "|")
    for case, row in rows["default"].items():
        for name in row["times_ours"] or [""]:
            both = [rows[allocator].get(case) for allocator in ALLOCATORS]
            (ours, ratio), (kept, kept_ratio) = [(amount(r), times(r, name)) if r else ("", "") for r in both]
            print("| " + " | ".join([case, ours, name, ratio, kept, kept_ratio]) + " |")
    machine = content["environment"]["machine"]
    print(f"\n{machine['processor']}, {machine['threads']} threads, {content['environment']['versions']}")


def amount(row: dict[str, Any]) -> str:
    r"""Our time or memory."""
    return f"{row['median_ms']['ours']:.0f} ms" if "median_ms" in row else f"{row['peak_mib']['ours']:.0f} MiB"


def times(row: dict[str, Any], name: str) -> str:
    r"""A ratio, if there is one."""
    return f"{row['times_ours'][name]:.2f}" if name else ""


if __name__ == "__main__":
    auto_cli([run, table])
