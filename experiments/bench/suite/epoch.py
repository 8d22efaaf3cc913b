r"""One training epoch of an expert: forward, loss, backward, Adam step."""

from collections.abc import Callable
from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch_geometric.utils import to_torch_csr_tensor

from mowst import MLP, Features, Graph, GraphTask, build_expert
from mowst.sparse.propagate import propagate
from suite.propagate import describe_graph, repeat_backward
from suite.timing import compare

PEERS = {"gcn": torch_geometric.nn.GCN, "sage": torch_geometric.nn.GraphSAGE}


def bench_epoch(
    task: GraphTask,
    strong: str,
    hidden_channels: int,
    num_layers: int,
    repeats: int = 5,
    csr: bool = False,
) -> dict[str, Any]:
    r"""Compares one model of PyG on :obj:`edge_index` (and, if asked, on torch CSR) and of this
    package, and our MLP of the same sizes; dropout 0.5. For GCN also the propagation that its
    hidden layers need. Our experts get the graph and the features as training passes them, as
    :class:`Graph` and :class:`Features`.
    """
    data, num_nodes = task.data, task.num_nodes
    sizes = get_sizes(task, hidden_channels, num_layers)
    features, graph = Features(data.x), Graph(data.edge_index, num_nodes=num_nodes)
    peer = PEERS[strong]
    contenders = {"PyG edge_index": make_epoch(peer(**sizes), task, data.x, data.edge_index)}
    if csr:
        transposed = to_torch_csr_tensor(data.edge_index.flip(0), size=(num_nodes, num_nodes))
        contenders["PyG torch CSR"] = make_epoch(peer(**sizes), task, data.x, transposed)
    contenders["ours"] = make_epoch(build_expert(strong, **sizes), task, features, graph)
    contenders["our MLP"] = make_epoch(MLP(**sizes), task, features)
    if strong == "gcn":
        widths = [hidden_channels] * (num_layers - 2) + [min(hidden_channels, task.num_classes)]
        contenders["our hidden propagation"] = make_propagation(graph, widths)
    channels = [task.num_features, *[hidden_channels] * (num_layers - 1), task.num_classes]
    case = f"{strong} epoch {'-'.join(map(str, channels))}"
    return compare(f"{case}, {describe_graph(data.edge_index, num_nodes)}", contenders, repeats)


def get_sizes(task: GraphTask, hidden_channels: int, num_layers: int) -> dict[str, Any]:
    r"""Returns the constructor arguments of an expert for a task, dropout 0.5."""
    return {
        "in_channels": task.num_features,
        "hidden_channels": hidden_channels,
        "num_layers": num_layers,
        "out_channels": task.num_classes,
        "dropout": 0.5,
    }


def make_epoch(model: torch.nn.Module, task: GraphTask, *inputs: Any) -> Callable[[], None]:
    r"""Returns a function that trains a model for one epoch.

    Args:
        model (torch.nn.Module): The model.
        task (GraphTask): Its task.
        *inputs: The arguments of its forward.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()

    def run() -> None:
        optimizer.zero_grad()
        logits = model(*inputs)
        cross_entropy(logits[task.index("train")], task.labels("train")).backward()
        optimizer.step()

    return run


def make_propagation(graph: Graph, widths: list[int]) -> Callable[[], None]:
    r"""Returns a function that runs the propagation steps behind the first layer, on the narrower
    side of each.
    """
    operator = graph.operator("gcn")
    steps = []
    for width in widths:
        x = torch.randn(graph.num_nodes, width, requires_grad=True)

        def step(x: Tensor = x) -> Tensor:
            return propagate(operator, x)

        steps.append(repeat_backward(step, x))

    def run() -> None:
        for step in steps:
            step()

    return run
