r"""What a prediction of a few nodes costs: MLP and GCN behind a predictor, and the GNN by itself.

    python experiments/bench/serving.py run        # about 3 minutes; writes results/serving.json
    python experiments/bench/serving.py table      # prints the table of that file as Markdown

Requests are for a few random nodes of a power-law graph of ogbn-arxiv's size, and 10 % of them are
deferred. Weights are random: the cost depends on the shapes only. All contenders serve the same
requests in one process.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from suite.epoch import get_sizes
from suite.graphs import draw_task
from suite.propagate import describe_graph
from suite.rounds import make_model
from suite.timing import compare, prepare, print_machine, write_rows
from torch import Tensor
from torch_geometric.nn import GCN as PyGGCN
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import k_hop_subgraph

from mowst import Features, Graph, GraphTask
from mowst.nn.call import call_expert
from mowst.serve import Predictor

RESULTS = Path(__file__).parent / "results" / "serving.json"
HIDDEN, LAYERS, BUDGET = 256, 3, 0.1
SIZES = (10, 100, 1000, 10_000)


def run(threads: int = 2, num_nodes: int = 169_343, repeats: int = 20, out: Path = RESULTS) -> None:
    r"""Requests 10 to 10,000 nodes, then changes the graph and requests again; the file is complete
    after every row.

    Args:
        threads: number of CPU threads.
        num_nodes: size of the graph.
        repeats: measured requests of each contender.
        out: file to write.
    """
    prepare(threads)
    write_rows(run_cases(num_nodes, repeats), out)


def run_cases(num_nodes: int, repeats: int) -> Iterator[dict[str, Any]]:
    r"""Yields a row for each number of nodes, then one for changes."""
    task = draw_task(num_nodes, 14 * num_nodes, 40, x=torch.randn(num_nodes, 128))
    for size in SIZES:
        yield bench_requests(task, size, repeats)
    yield bench_changes(task, repeats)


@torch.no_grad()
def bench_requests(task: GraphTask, size: int, repeats: int) -> dict[str, Any]:
    r"""Requests the same random nodes from every contender, and others in every repeat."""
    data, model = task.data, make_model(task, HIDDEN, LAYERS).eval()
    features, graph = Features(data.x), Graph(data.edge_index, num_nodes=task.num_nodes)
    drawn = [torch.randperm(task.num_nodes)[:size] for _ in range(repeats + 1)]
    plain = Predictor(model, data, budget=BUDGET, cache=False)
    cached = Predictor(model, data, budget=BUDGET, cache=True)
    full = Predictor(model, data, budget=1.0, cache=True)
    full.predict(torch.arange(task.num_nodes))
    contenders: dict[str, Callable[[Tensor], object]] = {
        "ours": plain.predict,
        "ours, hidden layers cached from one request to the next": cached.predict,
        "ours, all hidden layers cached": full.predict,
        "GNN on what its layers must compute, all nodes": lambda ids: call_expert(
            model.strong, features, graph, nodes=ids
        ),
        "full GNN pass": lambda _: model.strong(features, graph),
    }
    if size <= 100:
        contenders["PyG, exact L-hop subgraph, all nodes"] = make_subgraph_gnn(task)
    channels = [task.num_features, *[HIDDEN] * (LAYERS - 1), task.num_classes]
    sizes = "-".join(map(str, channels))
    case = f"{size} nodes, {BUDGET:.0%} deferred, GCN {sizes}"
    case = f"{case}, {describe_graph(data.edge_index, task.num_nodes)}"
    timed = {name: take_next(request, drawn) for name, request in contenders.items()}
    row = compare(case, timed, repeats)
    statistics = [plain.predict(ids).statistics for ids in drawn]
    means = {}
    for name in ("deferred_share", "touched_nodes", "touched_edges"):
        means[name] = sum(getattr(one, name) for one in statistics) / len(statistics)
    return row | {"mean_per_request": means}


def take_next(request: Callable[[Tensor], object], drawn: list[Tensor]) -> Callable[[], None]:
    r"""Returns a function that serves the next request at each call."""
    left = iter(drawn)

    def run() -> None:
        request(next(left))

    return run


def make_subgraph_gnn(task: GraphTask) -> Callable[[Tensor], Tensor]:
    r"""Returns PyG's GCN on the nodes within L hops, with the degrees of the whole graph, which are
    known before.
    """
    gnn = PyGGCN(**get_sizes(task, HIDDEN, LAYERS), normalize=False).eval()
    edges, weight = gcn_norm(task.data.edge_index, None, task.num_nodes)

    def predict(ids: Tensor) -> Tensor:
        subset, inside, at, mask = k_hop_subgraph(
            ids, LAYERS, edges, relabel_nodes=True, num_nodes=task.num_nodes
        )
        return gnn(task.data.x[subset], inside, weight[mask])[at]

    return predict


def bench_changes(task: GraphTask, repeats: int) -> dict[str, Any]:
    r"""Requests 10 nodes right after new features of one node, and after a new node with five
    edges.
    """
    model = make_model(task, HIDDEN, LAYERS).eval()
    predictor = Predictor(model, task.data, budget=BUDGET, cache=True)
    predictor.predict(torch.arange(task.num_nodes))

    def request() -> None:
        predictor.predict(torch.randperm(task.num_nodes)[:10])

    def change_features() -> None:
        node, features = torch.randint(task.num_nodes, (1,)), torch.randn(1, task.num_features)
        predictor.set_features(node, features)
        request()

    def add_node() -> None:
        new = predictor.add_nodes(torch.randn(1, task.num_features)).expand(5)
        edges = torch.stack([new, torch.randint(task.num_nodes, (5,))])
        predictor.add_edges(torch.cat([edges, edges.flip(0)], dim=1))
        request()

    contenders = {
        "ours": request,
        "after new features of a node": change_features,
        "after a new node and ten edges": add_node,
    }
    size = describe_graph(task.data.edge_index, task.num_nodes)
    return compare(f"10 nodes after a change, {size}", contenders, repeats)


def table(out: Path = RESULTS) -> None:
    r"""Prints medians and how many times longer than ours each contender took.

    Args:
        out: file to read.
    """
    content = json.loads(out.read_text())
    print("| case | contender | median | times ours |\n" + "|---" * 4 + "|")
    for row in content["rows"]:
        for name, median in row["median_ms"].items():
            times = row["times_ours"].get(name, 1)
            print(f"| {row['case']} | {name} | {median:.2f} ms | {times:.2f} |")
    print_machine(content)


if __name__ == "__main__":
    auto_cli([run, table])
