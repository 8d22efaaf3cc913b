r"""Training in a process of its own that begins with :func:`~mowst.process.prepare_process`, as a
user's program does. It prints one line of JSON. `busy.py` and `threads.py` start it.

    python experiments/bench/child.py epoch --strong sage   # an epoch on a generated graph
    python experiments/bench/child.py stages --root DATA    # weak and strong epochs on Cornell5
"""

import json
import statistics
import time

from jsonargparse import auto_cli

from mowst.process import prepare_process


def epoch(
    num_nodes: int = 41_000,
    num_edges: int = 2_600_000,
    in_channels: int = 128,
    hidden_channels: int = 64,
    strong: str = "gcn",
    seconds: float = 4.0,
) -> None:
    r"""Prints the median seconds of an epoch of a GNN with two layers and two classes, and the
    number of edges that were drawn.

    Args:
        num_nodes: number of nodes.
        num_edges: approximate number of directed edges.
        in_channels: number of features.
        hidden_channels: width of the hidden layer.
        strong: name of the GNN.
        seconds: time for which epochs are repeated after a first one.
    """
    prepare_process()
    import torch
    from suite.epoch import get_sizes, make_epoch
    from suite.graphs import draw_task

    from mowst import Features, Graph, build_expert

    torch.manual_seed(0)
    task = draw_task(num_nodes, num_edges, num_classes=2, x=torch.randn(num_nodes, in_channels))
    expert = build_expert(strong, **get_sizes(task, hidden_channels, num_layers=2))
    graph = Graph(task.data.edge_index, num_nodes=num_nodes)
    train_epoch = make_epoch(expert, task, Features(task.data.x), graph)
    train_epoch()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < seconds:
        start = time.perf_counter()
        train_epoch()
        taken.append(time.perf_counter() - start)
    print(json.dumps({"seconds": statistics.median(taken), "edges": task.data.num_edges}))


def stages(data: str = "cornell5", root: str | None = None, epochs: int = 30) -> None:
    r"""Prints the seconds of a weak and a strong stage, each of so many epochs.

    Args:
        data: name of the data set.
        root: folder of the data sets.
        epochs: number of epochs of each stage.
    """
    prepare_process()
    from suite.rounds import bench_round

    from mowst import load_task

    row = bench_round(load_task(data, root=root), epochs=epochs)
    print(json.dumps({"seconds": row["median_ms"]["ours"] / 1000}))


if __name__ == "__main__":
    auto_cli([epoch, stages])
