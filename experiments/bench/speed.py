r"""The speed of this package and of PyG.

    python experiments/bench/speed.py short              # under two minutes, an eighth of the sizes
    python experiments/bench/speed.py run --root DATA    # about 20 minutes; writes the results
    python experiments/bench/speed.py table              # prints the table of that file as Markdown

The long form runs with the allocator's default settings and with freed memory kept, each in its own
process, so that both sides of a ratio run under the same setting.
"""

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from suite.epoch import bench_epoch
from suite.graphs import draw_one_hot, draw_task
from suite.memory import bench_memory
from suite.propagate import bench_propagate
from suite.rounds import bench_round, bench_weak_stage
from suite.timing import prepare, print_machine

from mowst import GraphTask, load_task
from mowst.io import write_json
from mowst.sparse.memory import keep_freed_memory
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "speed.json"
ALLOCATORS = ("default", "kept")


def short(threads: int = 2) -> None:
    r"""Prints the speed of this package and of PyG, case by case.

    Args:
        threads: number of CPU threads.
    """
    prepare(threads)
    print(environment()["machine"])
    for row in run_suite(part=8):
        unit = "MiB" if "peak_mib" in row else "ms"
        print(row["case"])
        for name, value in (row.get("peak_mib") or row["median_ms"]).items():
            times = ""
            if name in row["times_ours"]:
                times = f", {row['times_ours'][name]:.1f} times ours"
            print(f"    {name}: {value:.1f} {unit}{times}")


def run(root: str | None = None, threads: int = 2, out: Path = RESULTS) -> None:
    r"""Runs the suite under both settings; the file is complete after every row.

    Args:
        root: folder of the data sets, for the case on Cornell5.
        threads: number of CPU threads.
        out: file to write.
    """
    rows: list[dict[str, Any]] = []
    spawn = multiprocessing.get_context("spawn")
    for allocator in ALLOCATORS:
        with ProcessPoolExecutor(1, mp_context=spawn) as executor:
            rows = executor.submit(run_setting, allocator, rows, root, threads, out).result()


def run_setting(
    allocator: str, rows: list, root: str | None, threads: int, out: Path
) -> list[dict[str, Any]]:
    r"""Runs the suite in this process and returns the longer list of rows."""
    torch.set_num_threads(threads)
    made_by = environment()  # before the first case: a later commit is not the loaded code
    if allocator == "kept" and not keep_freed_memory():
        raise OSError("the allocator of this system has no such settings")
    for row in run_all(root):
        rows = [*rows, {"allocator": allocator, **row}]
        print(json.dumps(rows[-1]), flush=True)
        write_json(out, {"environment": made_by, "rows": rows})
    return rows


def run_all(root: str | None) -> Iterator[dict[str, Any]]:
    r"""Yields the round on the real Cornell5, then the suite."""
    cornell5 = bench_round(load_task("cornell5", root=root))
    cornell5["case"] = f"Cornell5: {cornell5['case']}"
    yield cornell5
    yield from run_suite()


def run_suite(part: int = 1, repeats: int = 5) -> Iterator[dict[str, Any]]:
    r"""Yields one row per case. The graphs have the sizes of ogbn-arxiv, Penn94, Cora and Cornell5.
    Features are standard normal, or one-hot codes.

    Args:
        part: divisor of the sizes.
        repeats: measured runs of each contender.
    """
    # First, while this process is still small: it needs most of the memory of a small machine.
    yield bench_memory(169_343 // part, 2_330_000 // part, (128, 256, 40))
    arxiv = make_task(169_343 // part, 2_330_000 // part, 40, in_channels=128)
    yield bench_propagate(arxiv.data.edge_index, arxiv.num_nodes, channels=256, repeats=repeats)
    yield bench_epoch(arxiv, "gcn", 256, 3, repeats, csr=True)
    yield bench_epoch(arxiv, "sage", 256, 3, repeats)
    yield bench_weak_stage(arxiv, 256, 3, repeats)
    del arxiv
    penn94 = make_task(41_554 // part, 2_724_458 // part, 2, in_channels=128)
    yield bench_epoch(penn94, "gcn", 64, 2, repeats)
    del penn94
    one_hot = make_task(41_554 // part, 2_724_458 // part, 2, one_hot=4814)
    yield bench_epoch(one_hot, "gcn", 64, 2, repeats)
    del one_hot
    cora = make_task(2_708, 10_556, 7, one_hot=1433)
    yield bench_epoch(cora, "gcn", 64, 2, 4 * repeats)
    yield bench_round(make_task(18_660 // part, 1_581_554 // part, 2, one_hot=4735))


def make_task(
    num_nodes: int, num_edges: int, num_classes: int, in_channels: int = 0, one_hot: int = 0
) -> GraphTask:
    r"""Generates a task with standard normal or one-hot features."""
    if one_hot:
        x = draw_one_hot(num_nodes, one_hot)
    else:
        x = torch.randn(num_nodes, in_channels, generator=torch.Generator().manual_seed(0))
    return draw_task(num_nodes, num_edges, num_classes, x)


def table(out: Path = RESULTS) -> None:
    r"""Prints how many times longer than ours each contender took.

    Args:
        out: file to read.
    """
    content = json.loads(out.read_text())
    default, kept = [
        {row["case"]: row for row in content["rows"] if row["allocator"] == allocator}
        for allocator in ALLOCATORS
    ]
    head = ["case", "ours", "contender", "times ours", "ours, memory kept"]
    print("| " + " | ".join([*head, "times ours, memory kept"]) + " |\n" + "|---" * 6 + "|")
    for case, row in default.items():
        for name in row["times_ours"] or [""]:
            ours, times = format_row(row, name)
            ours_kept, times_kept = format_row(kept.get(case), name)
            print("| " + " | ".join([case, ours, name, times, ours_kept, times_kept]) + " |")
    print_machine(content)


def format_row(row: dict[str, Any] | None, name: str) -> tuple[str, str]:
    r"""Formats our time or memory, and the ratio of a contender if there is one."""
    if row is None:
        return "", ""
    if "median_ms" in row:
        ours = f"{row['median_ms']['ours']:.0f} ms"
    else:
        ours = f"{row['peak_mib']['ours']:.0f} MiB"
    times = f"{row['times_ours'][name]:.2f}" if name else ""
    return ours, times


if __name__ == "__main__":
    auto_cli([short, run, table])
