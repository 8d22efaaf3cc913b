r"""How long a graph of ogbn-arxiv's size takes to load, from the publisher's tables and the cache.

    python experiments/bench/load.py      # about 2 minutes; writes results/load.json

The tables are generated in the publisher's format, in a folder that is removed afterwards. Each
load runs in its own process and counts from the call, not from the import; the files are in
the system's file cache, as after a download.
"""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jsonargparse import auto_cli

from mowst import load_task
from mowst.io import write_json
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "load.json"
SIZES = {"nodes": 169_343, "edges": 1_166_243, "features": 128, "classes": 40}
SPLIT = {"train": 90_941, "valid": 29_799, "test": 48_603}


def run(threads: int = 1, out: Path = RESULTS) -> None:
    r"""Generates, loads twice, and writes the seconds.

    Args:
        threads: number of CPU threads.
        out: file to write.
    """
    made_by = environment()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "ogb" / "ogbn_arxiv"
        write_tables(folder)
        sizes = {path.name: path.stat().st_size for path in sorted(folder.rglob("*.gz"))}
        rows = [load(root, threads, source) for source in ("tables", "cache")]
        cache = (folder / "cache" / "ogbn-arxiv.safetensors").stat().st_size
    content = {"environment": made_by, "sizes": SIZES, "bytes": sizes, "cache_bytes": cache}
    write_json(out, content | {"rows": rows})
    print(rows)


def load(root: str, threads: int, source: str) -> dict[str, Any]:
    r"""Measures a load in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as executor:
        seconds = executor.submit(time_load, root, threads).result()
    return {"from": source, "threads": threads, "seconds": seconds}


def time_load(root: str, threads: int) -> float:
    r"""Times the call, which also checks every value."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    load_task("ogbn-arxiv", root=root)
    return time.perf_counter() - start


def write_tables(folder: Path) -> None:
    r"""Writes a random graph as the publisher does: compressed CSV tables without a header."""
    rng = np.random.default_rng(0)
    nodes, order = SIZES["nodes"], rng.permutation(SIZES["nodes"])
    bounds = np.cumsum([0, *SPLIT.values()])
    tables = {
        "raw/num-node-list": [nodes],
        "raw/num-edge-list": [SIZES["edges"]],
        "raw/edge": rng.integers(nodes, size=(SIZES["edges"], 2)),
        "raw/node-feat": (rng.standard_normal((nodes, SIZES["features"])) / 4).round(6),
        "raw/node-label": rng.integers(SIZES["classes"], size=nodes),
    }
    for k, part in enumerate(SPLIT):
        tables[f"split/time/{part}"] = order[bounds[k] : bounds[k + 1]]
    for name, table in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(table).to_csv(path, header=False, index=False)


if __name__ == "__main__":
    auto_cli(run)
