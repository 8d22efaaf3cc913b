r"""One training epoch of an expert: forward, loss, backward, Adam step."""

from collections.abc import Callable
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch_geometric.utils import to_torch_csr_tensor

from mowst.bench.propagate import both_ways, describe
from mowst.bench.timing import compare
from mowst.graph.adjacency import adjacency
from mowst.graph.propagate import propagate
from mowst.nn.experts import MLP, build_expert
from mowst.task import GraphTask

PEERS = {"gcn": torch_geometric.nn.GCN, "sage": torch_geometric.nn.GraphSAGE}


def bench_epoch(
    task: GraphTask, strong: str, hidden_channels: int, num_layers: int, repeats: int = 5, csr: bool = False
) -> dict[str, Any]:
    r"""The same model of PyG on :obj:`edge_index` (and, if asked, on torch CSR) and of this package, and our MLP of
    the same sizes; dropout 0.5. For GCN also the propagation alone that its hidden layers need.
    """
    data, num_nodes = task.data, task.num_nodes
    sizes = expert_sizes(task, hidden_channels, num_layers)
    contenders = {"PyG edge_index": epoch(PEERS[strong](**sizes), task, data.edge_index)}
    if csr:
        transposed = to_torch_csr_tensor(data.edge_index.flip(0), size=(num_nodes, num_nodes))
        contenders["PyG torch CSR"] = epoch(PEERS[strong](**sizes), task, transposed)
    contenders["ours"] = epoch(build_expert(strong, **sizes), task, data.edge_index)
    contenders["our MLP"] = epoch(MLP(**sizes), task)
    if strong == "gcn":
        contenders["our hidden propagation"] = hidden_propagation(task, hidden_channels, num_layers)
    widths = "-".join(map(str, [task.num_features, *[hidden_channels] * (num_layers - 1), task.num_classes]))
    return compare(f"{strong} epoch {widths}, {describe(data.edge_index, num_nodes)}", contenders, repeats)


def expert_sizes(task: GraphTask, hidden_channels: int, num_layers: int) -> dict[str, Any]:
    r"""Constructor arguments of an expert for a task, dropout 0.5."""
    ends = {"in_channels": task.num_features, "out_channels": task.num_classes}
    return {**ends, "hidden_channels": hidden_channels, "num_layers": num_layers, "dropout": 0.5}


def epoch(model: torch.nn.Module, task: GraphTask, *edges: Tensor) -> Callable[[], None]:
    r"""One epoch as a function."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()

    def run() -> None:
        optimizer.zero_grad()
        logits = model(task.data.x, *edges)
        cross_entropy(logits[task.index("train")], task.labels("train")).backward()
        optimizer.step()

    return run


def hidden_propagation(task: GraphTask, hidden_channels: int, num_layers: int) -> Callable[[], None]:
    r"""The propagation steps behind the first layer, on the narrower side of each."""
    operator = adjacency(task.data.edge_index, num_nodes=task.num_nodes).operator("gcn")
    widths = [hidden_channels] * (num_layers - 2) + [min(hidden_channels, task.num_classes)]
    inputs = [torch.randn(task.num_nodes, width, requires_grad=True) for width in widths]
    steps = [both_ways(lambda x=x: propagate(operator, x), x) for x in inputs]  # type: ignore[misc]

    def run() -> None:
        for step in steps:
            step()

    return run
