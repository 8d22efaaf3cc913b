r"""Peak memory of a training epoch, in a process of its own."""

import multiprocessing
import re
from pathlib import Path
from typing import Any

import torch
import torch_geometric.nn

from mowst import GCN, Features, Graph
from suite.epoch import make_epoch
from suite.graphs import draw_task


def bench_memory(num_nodes: int, num_edges: int, channels: tuple[int, int, int]) -> dict[str, Any]:
    r"""Measures the resident memory that two epochs of a 3-layer GCN add at their peak, PyG's on
    :obj:`edge_index` and ours.
    """
    mebibytes, context = {}, multiprocessing.get_context("spawn")
    for name in ("PyG edge_index", "ours"):
        with context.Pool(1) as pool:
            mebibytes[name] = pool.apply(_measure_epoch, (name, num_nodes, num_edges, channels))
    sizes = f"{channels[0]}-{channels[1]}-{channels[1]}-{channels[2]}"
    return {
        "case": f"peak memory of a gcn epoch {sizes}, {num_nodes:,} nodes, {num_edges:,} edges",
        "repeats": 1,
        "peak_mib": mebibytes,
        "times_ours": {"PyG edge_index": mebibytes["PyG edge_index"] / mebibytes["ours"]},
    }


def _measure_epoch(
    name: str, num_nodes: int, num_edges: int, channels: tuple[int, int, int]
) -> float:
    in_channels, hidden_channels, num_classes = channels
    task = draw_task(num_nodes, num_edges, num_classes, x=torch.randn(num_nodes, in_channels))
    if name == "ours":
        model = GCN(in_channels, hidden_channels, 3, num_classes, dropout=0.5)
        graph = Graph(task.data.edge_index, num_nodes=num_nodes)
        run = make_epoch(model, task, Features(task.data.x), graph)
    else:
        model = torch_geometric.nn.GCN(in_channels, hidden_channels, 3, num_classes, dropout=0.5)
        run = make_epoch(model, task, task.data.x, task.data.edge_index)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    before = read_status_mib("VmRSS")
    for _ in range(2):
        run()
    return read_status_mib("VmHWM") - before


def read_status_mib(field: str) -> float:
    r"""Reads a size of this process in MiB."""
    # Not getrusage: its peak is inherited from the parent process.
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, f"/proc/self/status has no {field}: this benchmark needs Linux"
    return int(found[1]) / 1024
