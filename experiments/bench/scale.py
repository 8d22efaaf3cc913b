r"""What a round of training costs as the graph grows to the size of ogbn-products, and what it would cost beyond.

    python experiments/bench/scale.py run          # 20 minutes on 2 cores, up to 15 GiB; writes results/scale.json
    python experiments/bench/scale.py run --kept true   # the same with freed memory kept, as the command line keeps it
    python experiments/bench/scale.py limits       # how large a graph the full batch takes; adds to the same file
    python experiments/bench/scale.py table --into docs/scaling.md

Mowst of an MLP and a GraphSAGE, 3 layers of 256, on generated power-law graphs whose features tell the class of half
of the nodes, and whose edges tell that of another half. A size is a process of its own, and is written when it ends; a
size that the file has is not run again. What ends at once is repeated for ten seconds, and the median is taken.
"""

import json
import math
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch_geometric.data import Data

from mowst import MLP, GraphSAGE, GraphTask, LearnedConfidence, Mowst, fit, seed_everything
from mowst.allocator import keep_freed_memory
from mowst.bench.memory import status_mib
from mowst.inference import layerwise_logits
from mowst.io import write_json
from mowst.train import environment
from mowst.train.scores import score_model

RESULTS = Path(__file__).parent / "results" / "scale.json"
# Nodes and stored edges: 25 for each node, and ogbn-products with each of its 61,859,140 edges in both directions.
SIZES = {
    "10k": (10_000, 250_000),
    "100k": (100_000, 2_500_000),
    "1M": (1_000_000, 25_000_000),
    "2.4M": (2_400_000, 60_000_000),
    "products": (2_449_029, 123_718_280),
}
PAPERS = {"nodes": 111_059_956, "edges": 1_615_685_872, "features": 128, "labelled": 1_546_782, "classes": 172}
FEATURES, CLASSES, HIDDEN, LAYERS = 100, 47, 256, 3
EPOCHS, NUM_PARTS = 3, 8
CHUNK = 2**20
REPEATED_FOR = 10  # seconds
MEMORY_GIB = 24
MARKERS = tuple(f"<!-- scale.py table: {end} -->" for end in ("begin", "end"))


def run(sizes: list[str] = list(SIZES), threads: int = 2, kept: bool = False, out: Path = RESULTS) -> None:  # noqa: B006
    r"""Trains a round on each size that the file does not have.

    Args:
        sizes: names of the sizes.
        threads: number of CPU threads.
        kept: whether freed memory is kept by the allocator: faster, and the peak holds what was freed.
        out: file to add to.
    """
    for name in sizes:
        _once(out, "kept" if kept else "rounds", name, train_round, *SIZES[name], threads, kept)


def limits(threads: int = 2, most_gib: float = 20, out: Path = RESULTS) -> None:
    r"""Trains the GraphSAGE alone in the full batch on ever larger graphs, 25 edges for each node, as long as the next
    is predicted to stay below a peak.

    Args:
        threads: number of CPU threads.
        most_gib: what the peak may be, in GiB.
        out: file to add to.
    """
    for nodes in (50_000, 100_000, 200_000, 400_000, 800_000, 1_200_000, 1_600_000, 2_400_000):
        rows = _read(out)["limits"]
        if len(rows) > 1 and (predicted := _full_batch_mib(rows, nodes) / 1024) > most_gib:
            print(f"{nodes:,} nodes would take {predicted:.1f} GiB: not tried")
            return
        _once(out, "limits", f"{nodes:,}", full_batch, nodes, 25 * nodes, threads)


def table(out: Path = RESULTS, into: Path | None = None) -> None:
    r"""Prints the measured rows, how cost grows, the limit of the full batch, and ogbn-papers100M as extrapolated.

    Args:
        out: file to read.
        into: a Markdown file that gets them between its two markers.
    """
    text = "\n\n".join(filter(None, map("\n".join, sections(_read(out)))))
    print(text)
    if into is not None:
        (before, _), (_, after) = (into.read_text().split(marker) for marker in MARKERS)
        into.write_text(f"{before}{MARKERS[0]}\n{text}\n{MARKERS[1]}{after}")


def sections(content: dict[str, Any]) -> Iterator[list[str]]:
    r"""The lines of each part of the table."""
    rounds, kept = ([content[kind][name] for name in SIZES if name in content[kind]] for kind in ("rounds", "kept"))
    tried = content["limits"]
    rows = []
    for row in (*rounds, *kept):
        seconds = [_s(row[key]) for key in ("weak_epoch", "strong_epoch", "evaluation", "round")]
        test = " / ".join(f"{100 * row['test'][name]:.1f}" for name in ("weak", "strong", "mixture"))
        name = row["name"] + ", kept" * row["kept"]
        rows.append([name, f"{row['nodes']:,}", f"{row['edges']:,}", *seconds, _gib(row["peak_mib"]), test])
    yield markdown("size|nodes|edges|weak epoch|strong epoch|evaluation|round|peak|test: weak / strong / both", rows)
    slopes, slopes_kept = exponents(rounds), exponents(kept)
    rows = [[key, *(f"edges^{slope.get(key, math.nan):.2f}" for slope in (slopes, slopes_kept))] for key in slopes]
    yield markdown("from 100k to 2.4M nodes|grows as|freed memory kept", rows)
    rows = []
    for row in rounds:
        faster = content["kept"].get(row["name"], {})
        places = ("in_memory", "on_disk")
        cells = [[_s(row[k]), _s(faster.get(k, math.nan)), f"{row[f'{k}_mib']:.0f} MiB"] for k in places]
        rows.append([row["name"], *cells[0], *cells[1]])
    head = "layer-wise inference|in memory|freed memory kept|added|on disk|freed memory kept|added, not of files"
    yield markdown(head, rows)
    if len(tried) > 1:
        yield markdown(
            "full batch, nodes|peak|epoch", [[k, _gib(r["peak_mib"]), _s(r["epoch"])] for k, r in tried.items()]
        )
        yield [f"Predicted to reach {MEMORY_GIB} GiB at {full_batch_limit(tried):,} nodes, 25 edges each."]
    yield markdown("ogbn-papers100M, extrapolated|", papers100m(content))
    made = [(row["environment"]["commit"], row["environment"]["machine"]) for row in (*rounds, *kept)]
    texts = [f"commit {commit}, {machine['processor']}, {machine['threads']} threads" for commit, machine in made]
    yield ["; ".join(dict.fromkeys(texts))]


def markdown(head: str, rows: list[list[str]]) -> list[str]:
    r"""The lines of a table, none without rows."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head.split("|"), *rows)]
    return [lines[0], "|---" * (head.count("|") + 1) + "|", *lines[1:]] if rows else []


def train_round(nodes: int, edges: int, threads: int, kept: bool) -> dict[str, Any]:
    r"""A weak and a strong turn by :func:`~mowst.fit`, then an evaluation, then inference in memory and on disk."""
    made_by = _prepare(threads, kept)
    start = time.perf_counter()
    task = power_law_task(nodes, edges)
    generated = time.perf_counter() - start
    expert = {"in_channels": FEATURES, "hidden_channels": HIDDEN, "out_channels": CLASSES, "num_layers": LAYERS}
    model = Mowst(MLP(**expert, dropout=0.5), GraphSAGE(**expert, dropout=0.5), LearnedConfidence())
    steps: dict[int, list[float]] = {}
    hook = register_optimizer_step_post_hook(
        lambda optimizer, *_: steps.setdefault(id(optimizer), []).append(time.perf_counter())
    )
    settings = {"epochs": EPOCHS, "eval_every": EPOCHS, "rounds": 1, "pretrain": "none", "gate_fit": "train"}
    result = fit(model, task, batches="random", num_parts=NUM_PARTS, weight_decay=0.0, patience=None, **settings)
    hook.remove()
    weak, strong = (NUM_PARTS * float(np.diff(ends).mean()) for ends in steps.values())
    evaluation, scores = _median(lambda: score_model(model, task))
    peak = status_mib("VmHWM")
    strong_expert, data = model.strong, task.data
    row = {"nodes": nodes, "edges": edges, "generated": generated, "weak_epoch": weak, "strong_epoch": strong}
    row |= {"round": result.seconds, "evaluation": evaluation, "peak_mib": peak, "kept": kept}
    with tempfile.TemporaryDirectory() as folder:
        for key, place in (("in_memory", None), ("on_disk", folder)):
            with AnonymousPeak() as memory:
                row[key], _ = _median(
                    lambda place=place: layerwise_logits(strong_expert, data.x, data.edge_index, folder=place)
                )
            row[f"{key}_mib"] = memory.added_mib
    test = {name: score["test"] for name, score in scores["scores"].items()}
    return row | {"test": test, "environment": made_by}


def full_batch(nodes: int, edges: int, threads: int) -> dict[str, Any]:
    r"""Two epochs of the GraphSAGE on all nodes at once."""
    made_by = _prepare(threads, kept=False)
    task = power_law_task(nodes, edges)
    sizes = {"in_channels": FEATURES, "hidden_channels": HIDDEN, "out_channels": CLASSES, "num_layers": LAYERS}
    model = GraphSAGE(**sizes, dropout=0.5)
    optimizer, seconds = torch.optim.Adam(model.parameters()), []

    def epoch() -> None:
        optimizer.zero_grad()
        logits = model(task.data.x, task.data.edge_index)
        cross_entropy(logits[task.index("train")], task.labels("train")).backward()
        optimizer.step()

    for _ in range(2):
        seconds.append(_timed(epoch)[0])
    made = {"nodes": nodes, "edges": edges, "epoch": seconds[-1], "peak_mib": status_mib("VmHWM")}
    return made | {"environment": made_by}


def power_law_task(nodes: int, edges: int, seed: int = 0) -> GraphTask:
    r"""A task of about :math:`\gamma = 2.5`: an end of an edge is the node of rank :math:`k = N u^3`, with :math:`u`
    uniform above 0.03, so that the largest degree is some 370 times the mean, as in ogbn-products; ranks are dealt at
    random, the worst order for a cache. The class of rank :math:`k` is :math:`k \bmod C`. Of consecutive :math:`C`
    ranks each second group has its class in its features, and each second pair of groups is sociable: four in five of
    the edges that such a node draws go to a node of its class. 8, 2 and 90 % of the nodes are for training, validation
    and test. Each edge is stored in both directions; repeated edges and loops stay. All in chunks: little more
    memory than the result.
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
        ends[:, start : start + size], ends[:, half + start : half + start + size] = pair, pair[::-1]
    part = torch.from_numpy(rng.random(nodes, dtype=np.float32))
    masks = {"train": part < 0.08, "val": (part >= 0.08) & (part < 0.1), "test": part >= 0.1}
    data = Data(x=torch.from_numpy(x), edge_index=edge_index, y=torch.from_numpy(y))
    return GraphTask(data, masks=masks, num_classes=CLASSES, name=f"power-law-{nodes}")


def exponents(rounds: Iterable[dict[str, Any]]) -> dict[str, float]:
    r"""The slopes of logarithms against that of the edges, by least squares from 100k to 2.4M nodes."""
    rows = [row for row in rounds if row["name"] in ("100k", "1M", "2.4M")]
    if len(rows) < 2:
        return {}
    keys = ("weak_epoch", "strong_epoch", "evaluation", "in_memory", "on_disk", "peak_mib")
    edges = np.log([row["edges"] for row in rows])
    return {key: float(np.polyfit(edges, np.log([row[key] for row in rows]), 1)[0]) for key in keys}


def full_batch_limit(rows: dict[str, Any]) -> int:
    r"""The number of nodes, 25 edges each, at which the peak is predicted to reach the memory."""
    slope, base = _full_batch_line(rows)
    return int((1024 * MEMORY_GIB - base) / slope)


def papers100m(content: dict[str, Any]) -> list[list[str]]:
    r"""Memory, disk and time for ogbn-papers100M in both directions: sizes by arithmetic, seconds extrapolated from the
    case of ogbn-products' size along the measured exponents (at least 1), with freed memory kept.
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
    measured, slopes = content["kept"].get("products"), exponents(content["kept"].values())
    for key in ("strong_epoch", "on_disk") if measured and slopes else ():
        hours = measured[key] * (edges / measured["edges"]) ** max(slopes[key], 1) / 3600
        rows.append([f"{key}, on the same cores with enough memory", f"{hours:.1f} h"])
    return rows


class AnonymousPeak:
    r"""The most anonymous memory that a block of code adds: pages of mapped files, which the system can drop at any
    time, do not count. Looked at every 20 ms.
    """

    def __enter__(self) -> "AnonymousPeak":
        self._before = self._most = status_mib("RssAnon")
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
            self._most = max(self._most, status_mib("RssAnon"))


def _prepare(threads: int, kept: bool) -> dict[str, Any]:
    torch.set_num_threads(threads)
    if kept:
        keep_freed_memory()
    seed_everything(0)
    return environment()


def _median(call: Any) -> tuple[float, Any]:
    seconds: list[float] = []
    while sum(seconds) < REPEATED_FOR:
        taken, answer = _timed(call)
        seconds.append(taken)
    return float(np.median(seconds)), answer


def _timed(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def _once(out: Path, kind: str, name: str, measure: Any, *args: Any) -> None:
    content = _read(out)
    if name in content[kind]:
        return
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        content[kind][name] = {"name": name} | executor.submit(measure, *args).result()
    write_json(out, content)
    print(json.dumps(content[kind][name]), flush=True)


def _read(out: Path) -> dict[str, Any]:
    return json.loads(out.read_text()) if out.exists() else {"rounds": {}, "kept": {}, "limits": {}}


def _full_batch_line(rows: dict[str, Any]) -> tuple[float, float]:
    nodes, peaks = zip(*[(row["nodes"], row["peak_mib"]) for row in rows.values()], strict=True)
    slope, base = np.polyfit(nodes, peaks, 1)
    return float(slope), float(base)


def _full_batch_mib(rows: dict[str, Any], nodes: int) -> float:
    slope, base = _full_batch_line(rows)
    return slope * nodes + base


def _s(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB"


if __name__ == "__main__":
    auto_cli([run, limits, table])
