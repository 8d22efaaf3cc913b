r"""How long large folders of tables take to load, and the memory that they take.

    python experiments/bench/folders.py      # about 5 minutes, 3 GiB; writes results/folders.json

The tables are generated in a folder that is removed afterwards. Each load runs in its own process;
its seconds count from the call, and its peak is the largest resident set, imports included.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli

from mowst.data.folder import load_folder
from mowst.io import write_json
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "folders.json"
MILLION = 1_000_000


def run(scale: int = MILLION, out: Path = RESULTS) -> None:
    r"""Generates and loads every folder, and writes seconds and peaks.

    Args:
        scale: number of nodes.
        out: file to write.
    """
    rows = []
    for name, generate in CASES.items():
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root)
            generate(folder, scale, np.random.default_rng(0))
            largest = max(folder.iterdir(), key=lambda path: path.stat().st_size)
            row = {"case": name, "file": largest.name, "bytes": largest.stat().st_size}
            rows.append(row | load(folder))
        print(rows[-1], flush=True)
    write_json(out, {"environment": environment(), "nodes": scale, "rows": rows})


def load(folder: Path) -> dict[str, Any]:
    r"""Measures a load in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as executor:
        return executor.submit(time_load, folder).result()


def time_load(folder: Path) -> dict[str, Any]:
    r"""Times the call with one thread."""
    torch.set_num_threads(1)
    imports = read_peak()
    start = time.perf_counter()
    load_folder(folder)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mib": read_peak(), "imports_mib": imports}


def read_peak() -> float:
    r"""Returns the largest resident set of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def write_base(folder: Path, nodes: int) -> None:
    r"""Writes one feature, two classes, and one edge."""
    half = pd.DataFrame({"x": np.arange(nodes) % 7 / 8})
    half.to_csv(folder / "features.csv", index=False)
    pd.DataFrame({"label": np.arange(nodes) % 2}).to_csv(folder / "labels.csv", index=False)
    write_edges(folder, np.array([[0, 1]]))


def write_edges(folder: Path, edges: np.ndarray) -> None:
    r"""Writes edges under their names."""
    pd.DataFrame(edges, columns=["source", "target"]).to_csv(folder / "edges.csv", index=False)


def generate_edges(folder: Path, nodes: int, rng: np.random.Generator) -> None:
    r"""Ten edges for each node."""
    write_base(folder, nodes)
    write_edges(folder, rng.integers(nodes, size=(10 * nodes, 2)))


def generate_named_edges(folder: Path, nodes: int, rng: np.random.Generator) -> None:
    r"""An edge for each node, between ids that are text."""
    write_base(folder, nodes)
    ids = pd.Series(np.arange(nodes)).map("node-{}".format)
    frame = pd.read_csv(folder / "features.csv")
    frame.insert(0, "id", ids)
    frame.to_csv(folder / "features.csv", index=False)
    labels = pd.DataFrame({"id": ids, "label": np.arange(nodes) % 2})
    labels.to_csv(folder / "labels.csv", index=False)
    write_edges(folder, ids.to_numpy()[rng.integers(nodes, size=(nodes, 2))])


def generate_features(folder: Path, nodes: int, rng: np.random.Generator) -> None:
    r"""A hundred features for each node."""
    write_base(folder, nodes)
    with open(folder / "features.csv", "w", encoding="utf-8") as file:
        for start in range(0, nodes, 10_000):
            rows = pd.DataFrame(rng.standard_normal((min(10_000, nodes - start), 100)).round(7))
            rows.add_prefix("x").to_csv(file, index=False, header=start == 0)


def generate_classes(folder: Path, nodes: int, rng: np.random.Generator) -> None:
    r"""A class with a name for every ten nodes."""
    write_base(folder, nodes)
    names = pd.Series(np.arange(nodes) // 10).map("class-{}".format)
    pd.DataFrame({"label": names}).to_csv(folder / "labels.csv", index=False)


def generate_hub(folder: Path, nodes: int, rng: np.random.Generator) -> None:
    r"""Every node is a neighbor of the first one."""
    write_base(folder, nodes)
    write_edges(folder, np.stack([np.arange(nodes), np.zeros(nodes, int)], axis=1))


CASES: dict[str, Callable[[Path, int, np.random.Generator], None]] = {
    "10 edges per node, by row number": generate_edges,
    "1 edge per node, by text ids": generate_named_edges,
    "100 features per node": generate_features,
    "1 named class per 10 nodes": generate_classes,
    "one node with an edge from every node": generate_hub,
}


if __name__ == "__main__":
    auto_cli(run)
