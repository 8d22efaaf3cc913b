r"""From which size of a graph on two threads train a GNN faster than one.

    python experiments/bench/threads.py      # about 15 minutes; writes results/threads.json

Epochs of GCN and GraphSAGE on generated graphs, with one and two threads in turns, each in its own
process, whose waiting threads sleep. The size of a row is the one of
:func:`~mowst.process.choose_threads`: hidden values of all nodes and edges. Run it on a machine
without other work.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from busy import run_child
from jsonargparse import auto_cli

from mowst.io import write_json
from mowst.process import MIN_VALUES
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "threads.json"
# Nodes, edges and hidden channels.
SIZES = (
    (1_000, 10_000, 64),
    (2_700, 10_500, 64),
    (5_000, 50_000, 64),
    (20_000, 40_000, 64),
    (5_000, 50_000, 128),
    (5_000, 200_000, 64),
    (5_000, 50_000, 256),
    (20_000, 40_000, 256),
    (20_000, 400_000, 64),
    (40_000, 2_600_000, 64),
)


def run(
    sizes: tuple[tuple[int, int, int], ...] = SIZES,
    strong: tuple[str, ...] = ("gcn", "sage"),
    repeats: int = 3,
    seconds: float = 2.0,
    out: Path = RESULTS,
) -> None:
    r"""Measures and writes the seconds of an epoch; the file is complete after every row.

    Args:
        sizes: nodes, edges and hidden channels of each row.
        strong: names of the GNNs.
        repeats: number of processes with each number of threads.
        seconds: time for which epochs are repeated in a process.
        out: file to write.
    """
    rows: list[dict[str, Any]] = []
    for size in sizes:
        for name in strong:
            rows.append(compare_threads(size, name, repeats, seconds))
            print(json.dumps(rows[-1]), flush=True)
            content = {"environment": environment(), "min_values": MIN_VALUES, "rows": rows}
            write_json(out, content)
    print(f"one thread is faster up to {find_crossing(rows):,} values; assumed: {MIN_VALUES:,}")


def compare_threads(
    size: tuple[int, int, int], strong: str, repeats: int, seconds: float
) -> dict[str, Any]:
    r"""Returns the milliseconds of an epoch with one and with two threads."""
    num_nodes, num_edges, hidden_channels = size
    options = {"num_nodes": num_nodes, "num_edges": num_edges, "hidden_channels": hidden_channels}
    options |= {"strong": strong, "seconds": seconds}
    arguments = ["epoch", *(f"--{name}={value}" for name, value in options.items())]
    taken: dict[str, list[float]] = {"1": [], "2": []}
    for _ in range(repeats):
        for threads, values in taken.items():
            found = run_child(arguments, {"OMP_NUM_THREADS": threads})
            values.append(1000 * found["seconds"])
            num_edges = found.get("edges", num_edges)  # without repeated ones
    one, two = (statistics.median(values) for values in taken.values())
    row: dict[str, Any] = {"values": (num_nodes + num_edges) * hidden_channels, "strong": strong}
    row |= {"nodes": num_nodes, "edges": num_edges, "hidden_channels": hidden_channels}
    return row | {"ms, 1 thread": taken["1"], "ms, 2 threads": taken["2"], "speedup": one / two}


def find_crossing(rows: list[dict[str, Any]]) -> int:
    r"""Returns the most values of a row on which one thread is faster, or 0."""
    slower = [row["values"] for row in rows if row["speedup"] < 1]
    return max(slower, default=0)


if __name__ == "__main__":
    auto_cli(run)
