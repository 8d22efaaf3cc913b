r"""How long sampled neighborhoods take: our sampler, and PyG's where pyg-lib or torch-sparse is
installed.

    python experiments/bench/sampler.py      # about a minute; writes results/sampler.json

Neighborhoods of 1,024 random nodes, 10 neighbors in each of two hops, in a power-law graph. Seconds
are CPU time of one thread, so that other work on the machine counts little. Both sample the same
nodes in turns.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch_geometric.typing
from jsonargparse import auto_cli
from suite.graphs import draw_power_law
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader

from mowst.io import write_json
from mowst.sparse import Graph
from mowst.sparse.sampler import NeighborSampler
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "sampler.json"
NUM_NEIGHBORS, BATCH_SIZE = [10, 10], 1024


class CountingSampler(NeighborSampler):
    r"""Our sampler, which counts the drawn edges."""

    num_drawn = 0

    def _draw_edges(self, nodes: torch.Tensor, count: int) -> torch.Tensor:
        edges = super()._draw_edges(nodes, count)
        self.num_drawn += edges.numel()
        return edges


def run(
    nodes: int = 1_000_000, edges: int = 25_000_000, batches: int = 50, out: Path = RESULTS
) -> None:
    r"""Samples in turns, and writes the medians.

    Args:
        nodes: number of nodes.
        edges: approximate number of directed edges.
        batches: number of neighborhoods.
        out: file to write.
    """
    torch.set_num_threads(1)
    edge_index = draw_power_law(nodes, edges)
    ours = CountingSampler(Graph(edge_index, num_nodes=nodes), NUM_NEIGHBORS)
    contenders: dict[str, Callable] = {"ours": ours}
    for name in ("pyg_lib", "torch_sparse"):
        if getattr(torch_geometric.typing, f"WITH_{name.upper()}"):
            data = Data(edge_index=edge_index, num_nodes=nodes)
            contenders[name] = NeighborLoader(data, num_neighbors=NUM_NEIGHBORS)
            break  # PyG uses the first one
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    ours(torch.arange(BATCH_SIZE))  # warm-up
    ours.num_drawn = 0
    for _ in range(batches):
        seeds = torch.randint(nodes, (BATCH_SIZE,)).unique()
        for name, sample in contenders.items():
            start = time.process_time()
            sample(seeds)
            seconds[name].append(time.process_time() - start)
    medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    row = {"nodes": nodes, "edges": edge_index.size(1), "drawn_edges": ours.num_drawn / batches}
    rate = ours.num_drawn / sum(seconds["ours"])
    row |= {"median_ms": medians, "edges_per_second": rate}
    write_json(out, {"environment": environment(), "rows": [row]})
    print(row)


if __name__ == "__main__":
    auto_cli(run)
