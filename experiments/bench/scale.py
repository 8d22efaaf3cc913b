r"""What a round of training costs up to the size of ogbn-products, and what it would cost beyond.

    python experiments/bench/scale.py run                 # 20 minutes on 2 cores, up to 15 GiB
    python experiments/bench/scale.py run --kept true     # the same with freed memory kept
    python experiments/bench/scale.py limits              # how large a graph the full batch takes
    python experiments/bench/scale.py table --into docs/scaling.md

Mowst of an MLP and a GraphSAGE, 3 layers of 256, on generated power-law graphs. The features of
half of the nodes tell the class, and the edges of another half do. Each size runs in its own
process and is written to results/scale.json when it ends; a size that the file has is not run
again. Short measurements are repeated for ten seconds, and the median is taken.
"""

import json
import math
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from suite.memory import read_status_mib
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch_geometric.data import Data

from mowst import (
    MLP,
    Features,
    Graph,
    GraphSAGE,
    GraphTask,
    LearnedGate,
    Mowst,
    TrainConfig,
    fit,
    seed_everything,
)
from mowst.io import write_json
from mowst.serve import layerwise_logits
from mowst.sparse.memory import keep_freed_memory
from mowst.train import environment
from mowst.train.evaluate import score_model

RESULTS = Path(__file__).parent / "results" / "scale.json"
# Nodes and stored edges: 25 for each node, and the edges of ogbn-products in both directions.
SIZES = {
    "10k": (10_000, 250_000),
    "100k": (100_000, 2_500_000),
    "1M": (1_000_000, 25_000_000),
    "2.4M": (2_400_000, 60_000_000),
    "products": (2_449_029, 123_718_280),
}
PAPERS = {
    "nodes": 111_059_956,
    "edges": 1_615_685_872,
    "features": 128,
    "labelled": 1_546_782,
    "classes": 172,
}
LIMITS = (50_000, 100_000, 200_000, 400_000, 800_000, 1_200_000, 1_600_000, 2_400_000)
FEATURES, CLASSES, HIDDEN, LAYERS = 100, 47, 256, 3
EXPERT = {
    "in_channels": FEATURES,
    "hidden_channels": HIDDEN,
    "num_layers": LAYERS,
    "out_channels": CLASSES,
    "dropout": 0.5,
}
EPOCHS, NUM_PARTS = 3, 8
CHUNK = 2**20
REPEATED_FOR = 10  # seconds
MEMORY_GIB = 24
MARKERS = tuple(f"<!-- scale.py table: {end} -->" for end in ("begin", "end"))


def run(
    sizes: tuple[str, ...] = tuple(SIZES), threads: int = 2, kept: bool = False, out: Path = RESULTS
) -> None:
    r"""Trains a round on each size that the file does not have.

    Args:
        sizes: names of the sizes.
        threads: number of CPU threads.
        kept: whether freed memory is kept by the allocator: faster, and the peak holds what was
            freed.
        out: file to add to.
    """
    for name in sizes:
        _run_once(out, "kept" if kept else "rounds", name, train_round, *SIZES[name], threads, kept)


def limits(threads: int = 2, most_gib: float = 20, out: Path = RESULTS) -> None:
    r"""Trains the GraphSAGE alone in the full batch on ever larger graphs, 25 edges for each node,
    as long as the next is predicted to stay below a peak.

    Args:
        threads: number of CPU threads.
        most_gib: largest peak, in GiB.
        out: file to add to.
    """
    for nodes in LIMITS:
        rows = _read(out)["limits"]
        if len(rows) > 1:
            slope, base = _fit_full_batch(rows)
            predicted = (slope * nodes + base) / 1024
            if predicted > most_gib:
                print(f"{nodes:,} nodes would take {predicted:.1f} GiB: not tried")
                return
        _run_once(out, "limits", f"{nodes:,}", train_full_batch, nodes, 25 * nodes, threads)


def table(out: Path = RESULTS, into: Path | None = None) -> None:
    r"""Prints the measured rows, how cost grows, the limit of the full batch, and ogbn-papers100M
    as extrapolated.

    Args:
        out: file to read.
        into: a Markdown file that gets them between its two markers.
    """
    content = _read(out)
    rounds = [content["rounds"][name] for name in SIZES if name in content["rounds"]]
    kept = [content["kept"][name] for name in SIZES if name in content["kept"]]
    parts = [
        format_rounds([*rounds, *kept]),
        format_exponents(rounds, kept),
        format_inference(rounds, content["kept"]),
        format_limits(content["limits"]),
        format_table("ogbn-papers100M, extrapolated|", extrapolate_papers100m(content)),
        format_machines([*rounds, *kept]),
    ]
    text = "\n\n".join(part for part in parts if part)
    print(text)
    if into is not None:
        before, rest = into.read_text().split(MARKERS[0])
        after = rest.split(MARKERS[1])[1]
        into.write_text(f"{before}{MARKERS[0]}\n{text}\n{MARKERS[1]}{after}")


def format_rounds(measured: list[dict[str, Any]]) -> str:
    r"""Formats what a round of training takes."""
    rows = []
    for row in measured:
        name = f"{row['name']}, kept" if row["kept"] else row["name"]
        seconds = [_s(row[key]) for key in ("weak_epoch", "strong_epoch", "evaluation", "round")]
        test = [f"{100 * row['test'][part]:.1f}" for part in ("weak", "strong", "mixture")]
        sizes = [f"{row['nodes']:,}", f"{row['edges']:,}"]
        rows.append([name, *sizes, *seconds, _gib(row["peak_mib"]), " / ".join(test)])
    head = "size|nodes|edges|weak epoch|strong epoch|evaluation|round|peak"
    return format_table(f"{head}|test: weak / strong / both", rows)


def format_exponents(rounds: list[dict[str, Any]], kept: list[dict[str, Any]]) -> str:
    r"""Formats how cost grows with the edges."""
    slopes, slopes_kept = fit_exponents(rounds), fit_exponents(kept)
    rows = []
    for key, slope in slopes.items():
        rows.append([key, f"edges^{slope:.2f}", f"edges^{slopes_kept.get(key, math.nan):.2f}"])
    return format_table("from 100k to 2.4M nodes|grows as|freed memory kept", rows)


def format_inference(rounds: list[dict[str, Any]], kept: dict[str, Any]) -> str:
    r"""Formats what layer-wise inference takes."""
    rows = []
    for row in rounds:
        faster, cells = kept.get(row["name"], {}), [row["name"]]
        for key in ("in_memory", "on_disk"):
            cells += [_s(row[key]), _s(faster.get(key, math.nan)), f"{row[f'{key}_mib']:.0f} MiB"]
        rows.append(cells)
    head = "layer-wise inference|in memory|freed memory kept|added|on disk|freed memory kept"
    return format_table(f"{head}|added, not of files", rows)


def format_limits(tried: dict[str, Any]) -> str:
    r"""Formats the peaks of the full batch, and the size at which it is predicted to fill the
    memory.
    """
    if len(tried) < 2:
        return ""
    rows = [[name, _gib(row["peak_mib"]), _s(row["epoch"])] for name, row in tried.items()]
    slope, base = _fit_full_batch(tried)
    nodes = int((1024 * MEMORY_GIB - base) / slope)
    predicted = f"Predicted to reach {MEMORY_GIB} GiB at {nodes:,} nodes, 25 edges each."
    return format_table("full batch, nodes|peak|epoch", rows) + "\n\n" + predicted


def format_machines(measured: list[dict[str, Any]]) -> str:
    r"""Formats the commits and machines, each once."""
    texts = []
    for row in measured:
        machine = row["environment"]["machine"]
        text = f"commit {row['environment']['commit']}, {machine['processor']}"
        texts.append(f"{text}, {machine['threads']} threads")
    return "; ".join(dict.fromkeys(texts))


def format_table(head: str, rows: list[list[str]]) -> str:
    r"""Formats a table, empty without rows."""
    if not rows:
        return ""
    lines = [f"| {' | '.join(cells)} |" for cells in (head.split("|"), *rows)]
    rule = "|---" * (head.count("|") + 1) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def train_round(nodes: int, edges: int, threads: int, kept: bool) -> dict[str, Any]:
    r"""Trains a weak and a strong stage by :func:`~mowst.fit`, then evaluates, then runs inference
    in memory and on disk.
    """
    made_by = _prepare(threads, kept)
    start = time.perf_counter()
    task = make_power_law_task(nodes, edges)
    generated = time.perf_counter() - start
    model = Mowst(MLP(**EXPERT), GraphSAGE(**EXPERT), LearnedGate())
    config = TrainConfig(
        epochs=EPOCHS,
        patience=None,
        eval_every=EPOCHS,
        rounds=1,
        pretrain="none",
        gate_fit="train",
        batches="random",
        num_parts=NUM_PARTS,
        weight_decay=0.0,
    )
    steps: dict[int, list[float]] = {}

    def note_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
        steps.setdefault(id(optimizer), []).append(time.perf_counter())

    hook = register_optimizer_step_post_hook(note_step)
    result = fit(model, task, method="mowst", config=config)
    hook.remove()
    weak, strong = (NUM_PARTS * float(np.diff(ends).mean()) for ends in steps.values())
    evaluation, scores = _measure(lambda: score_model(model, task))
    row = {
        "nodes": nodes,
        "edges": edges,
        "generated": generated,
        "weak_epoch": weak,
        "strong_epoch": strong,
        "round": result.seconds,
        "evaluation": evaluation,
        "peak_mib": read_status_mib("VmHWM"),
        "kept": kept,
    }
    graph = Graph(task.data.edge_index, num_nodes=nodes)
    graph.operator("mean")  # built once: it is no part of either
    with tempfile.TemporaryDirectory() as folder:
        for key, place in (("in_memory", None), ("on_disk", folder)):
            row |= _measure_inference(key, model.strong, task.data.x, graph, place)
    test = {name: score["test"] for name, score in scores["scores"].items()}
    return row | {"test": test, "environment": made_by}


def train_full_batch(nodes: int, edges: int, threads: int) -> dict[str, Any]:
    r"""Trains the GraphSAGE for two epochs on all nodes at once."""
    made_by = _prepare(threads, kept=False)
    task = make_power_law_task(nodes, edges)
    features, graph = Features(task.data.x), Graph(task.data.edge_index, num_nodes=nodes)
    model = GraphSAGE(**EXPERT)
    optimizer, seconds = torch.optim.Adam(model.parameters()), []

    def train_epoch() -> None:
        optimizer.zero_grad()
        logits = model(features, graph)
        cross_entropy(logits[task.index("train")], task.labels("train")).backward()
        optimizer.step()

    for _ in range(2):
        seconds.append(_time(train_epoch)[0])
    peak = read_status_mib("VmHWM")
    made = {"nodes": nodes, "edges": edges, "epoch": seconds[-1], "peak_mib": peak}
    return made | {"environment": made_by}


def make_power_law_task(nodes: int, edges: int, seed: int = 0) -> GraphTask:
    r"""Generates a task of about :math:`\gamma = 2.5`. An end of an edge is the node of rank
    :math:`k = N u^3`, with :math:`u` uniform above 0.03, so that the largest degree is some 370
    times the mean, as in ogbn-products. Ranks are assigned at random, the worst order for a cache.
    The class of rank :math:`k` is :math:`k \bmod C`. Of consecutive :math:`C`
    ranks each second group has its class in its features, and each second pair of groups is
    sociable: four in five of the edges that such a node draws go to a node of its class. 8, 2 and
    90 % of the nodes are for training, validation and test. Each edge is stored in both directions;
    repeated edges and loops stay. It is generated in chunks, in little more memory than the result.
    """
    rng = np.random.default_rng(seed)
    id_of = rng.permutation(nodes).astype(np.int32)
    y, group = np.empty(nodes, dtype=np.int64), np.empty(nodes, dtype=np.int32)
    y[id_of], group[id_of] = np.arange(nodes) % CLASSES, np.arange(nodes) // CLASSES
    x = np.empty((nodes, FEATURES), dtype=np.float32)
    centres = rng.standard_normal((CLASSES, FEATURES), dtype=np.float32)
    for start in range(0, nodes, CHUNK):
        rows = slice(start, start + CHUNK)
        rng.standard_normal(out=x[rows], dtype=np.float32)
        x[rows] += (group[rows] % 2 == 0)[:, None] * centres[y[rows]]
    edge_index = torch.empty(2, edges, dtype=torch.int64)
    ends, half = edge_index.numpy(), edges // 2
    for start in range(0, half, CHUNK):
        size = min(CHUNK, half - start)
        u, v = (nodes * (0.03 + 0.97 * rng.random((2, size))) ** 3).astype(np.int64)
        like = v - v % CLASSES + u % CLASSES
        sociable = (u // CLASSES % 4 < 2) & (rng.random(size) < 0.8) & (like < nodes)
        pair = id_of[np.stack([u, np.where(sociable, like, v)])]
        ends[:, start : start + size], ends[:, half + start : half + start + size] = (
            pair,
            pair[::-1],
        )
    part = torch.from_numpy(rng.random(nodes, dtype=np.float32))
    masks = {"train": part < 0.08, "val": (part >= 0.08) & (part < 0.1), "test": part >= 0.1}
    data = Data(x=torch.from_numpy(x), edge_index=edge_index, y=torch.from_numpy(y))
    return GraphTask(data, masks=masks, num_classes=CLASSES, name=f"power-law-{nodes}")


def fit_exponents(rounds: Iterable[dict[str, Any]]) -> dict[str, float]:
    r"""Fits the slopes of logarithms against that of the edges, by least squares from 100k to 2.4M
    nodes.
    """
    rows = [row for row in rounds if row["name"] in ("100k", "1M", "2.4M")]
    if len(rows) < 2:
        return {}
    keys = ("weak_epoch", "strong_epoch", "evaluation", "in_memory", "on_disk", "peak_mib")
    edges = np.log([row["edges"] for row in rows])
    return {key: float(np.polyfit(edges, np.log([row[key] for row in rows]), 1)[0]) for key in keys}


def extrapolate_papers100m(content: dict[str, Any]) -> list[list[str]]:
    r"""Extrapolates memory, disk and time for ogbn-papers100M in both directions: sizes by
    arithmetic, seconds extrapolated from the case of ogbn-products' size along the measured
    exponents (at least 1), with freed memory kept.
    """
    nodes, edges, gib = PAPERS["nodes"], 2 * PAPERS["edges"], 2**30
    sizes = {
        "edge_index, int64": 16 * edges,
        "operator, CSR of int64 and float32": 12 * edges + 8 * nodes,
        "positions of the edges, for batches": 16 * edges + 8 * nodes,
        f"features, {PAPERS['features']} float32, mapped": 4 * nodes * PAPERS["features"],
        f"hidden rows of two layers, {HIDDEN} float32, on disk": 8 * nodes * HIDDEN,
        "logits of the labelled nodes": 4 * PAPERS["labelled"] * PAPERS["classes"],
    }
    rows = [[name, f"{size / gib:.1f} GiB"] for name, size in sizes.items()]
    measured, slopes = content["kept"].get("products"), fit_exponents(content["kept"].values())
    if not (measured and slopes):
        return rows
    for key in ("strong_epoch", "on_disk"):
        hours = measured[key] * (edges / measured["edges"]) ** max(slopes[key], 1) / 3600
        rows.append([f"{key}, on the same cores with enough memory", f"{hours:.1f} h"])
    return rows


class AnonymousPeak:
    r"""Measures the peak of anonymous memory that a block of code adds, every 20 ms. Pages of
    mapped files, which the system can drop at any time, do not count.
    """

    def __enter__(self) -> "AnonymousPeak":
        self._before = self._most = read_status_mib("RssAnon")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.added_mib = self._most - self._before

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._most = max(self._most, read_status_mib("RssAnon"))


def _prepare(threads: int, kept: bool) -> dict[str, Any]:
    torch.set_num_threads(threads)
    if kept:
        keep_freed_memory()
    seed_everything(0)
    return environment()


def _measure_inference(
    key: str, expert: torch.nn.Module, x: Tensor, graph: Graph, folder: str | None
) -> dict[str, float]:
    with AnonymousPeak() as memory:
        seconds, _ = _measure(lambda: layerwise_logits(expert, x, graph, folder=folder))
    return {key: seconds, f"{key}_mib": memory.added_mib}


def _measure(call: Any) -> tuple[float, Any]:
    seconds: list[float] = []
    while sum(seconds) < REPEATED_FOR:
        taken, result = _time(call)
        seconds.append(taken)
    return float(np.median(seconds)), result


def _time(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def _run_once(out: Path, kind: str, name: str, measure: Any, *args: Any) -> None:
    content = _read(out)
    if name in content[kind]:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as executor:
        content[kind][name] = {"name": name} | executor.submit(measure, *args).result()
    write_json(out, content)
    print(json.dumps(content[kind][name]), flush=True)


def _read(out: Path) -> dict[str, Any]:
    if not out.exists():
        return {"rounds": {}, "kept": {}, "limits": {}}
    return json.loads(out.read_text())


def _fit_full_batch(rows: dict[str, Any]) -> tuple[float, float]:
    nodes = [row["nodes"] for row in rows.values()]
    peaks = [row["peak_mib"] for row in rows.values()]
    slope, base = np.polyfit(nodes, peaks, 1)
    return float(slope), float(base)


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB"


if __name__ == "__main__":
    auto_cli([run, limits, table])
