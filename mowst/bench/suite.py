r"""The benchmarks in order, at two sizes."""

from collections.abc import Iterator
from typing import Any

import torch

from mowst.bench.epoch import bench_epoch
from mowst.bench.graphs import one_hot_features, random_task
from mowst.bench.memory import bench_memory
from mowst.bench.propagate import bench_propagate
from mowst.bench.turns import bench_round, bench_weak_turn


def run_suite(full: bool = False, repeats: int = 5) -> Iterator[dict[str, Any]]:
    r"""Yields one row per case. In full, the graphs have the sizes of ogbn-arxiv, Penn94, Cora and Cornell5; else an
    eighth of that. Features are standard normal, or one-hot codes where the name says so.

    Args:
        full (bool, optional): whether to take the full sizes. (default: :obj:`False`)
        repeats (int, optional): measured runs of each contender. (default: :obj:`5`)
    """
    part = 1 if full else 8
    # First, while this process is still small: it needs most of the memory of a small machine.
    yield bench_memory(169_343 // part, 2_330_000 // part, (128, 256, 40))
    arxiv = _task(169_343 // part, 2_330_000 // part, 40, in_channels=128)
    yield bench_propagate(arxiv.data.edge_index, arxiv.num_nodes, channels=256, repeats=repeats)
    yield bench_epoch(arxiv, "gcn", hidden_channels=256, num_layers=3, repeats=repeats, csr=True)
    yield bench_epoch(arxiv, "sage", hidden_channels=256, num_layers=3, repeats=repeats)
    yield bench_weak_turn(arxiv, hidden_channels=256, num_layers=3, repeats=repeats)
    del arxiv
    penn94 = _task(41_554 // part, 2_724_458 // part, 2, in_channels=128)
    yield bench_epoch(penn94, "gcn", hidden_channels=64, num_layers=2, repeats=repeats)
    one_hot = _task(41_554 // part, 2_724_458 // part, 2, one_hot=4814)
    yield bench_epoch(one_hot, "gcn", hidden_channels=64, num_layers=2, repeats=repeats)
    del penn94, one_hot
    cora = _task(2_708, 10_556, 7, one_hot=1433)
    yield bench_epoch(cora, "gcn", hidden_channels=64, num_layers=2, repeats=4 * repeats)
    yield bench_round(_task(18_660 // part, 1_581_554 // part, 2, one_hot=4735))


def _task(num_nodes: int, num_edges: int, num_classes: int, in_channels: int = 0, one_hot: int = 0) -> Any:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(num_nodes, in_channels, generator=generator)
    x = one_hot_features(num_nodes, one_hot) if one_hot else dense
    return random_task(num_nodes, num_edges, num_classes, x)
