r"""What an answer for a few nodes costs: a trained pair of MLP and GCN behind a predictor, and the GNN by itself.

    python experiments/bench/serving.py run        # about 3 minutes on 2 quiet cores; writes results/serving.json
    python experiments/bench/serving.py table      # prints the table of that file as Markdown

Random nodes of a power-law graph of ogbn-arxiv's size are asked for, a few at a time, and the gate passes 10 % of them
on. Weights are random: the cost depends on the shapes only. All contenders answer the same questions in one process.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch_geometric.nn import GCN as PyGGCN
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import k_hop_subgraph

from mowst.allocator import keep_freed_memory
from mowst.bench.epoch import expert_sizes
from mowst.bench.graphs import random_task
from mowst.bench.propagate import describe
from mowst.bench.timing import compare
from mowst.bench.turns import make_model
from mowst.inference import Predictor
from mowst.io import write_json
from mowst.nn import LearnedConfidence
from mowst.nn.contract import call_expert
from mowst.task import GraphTask
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "serving.json"
HIDDEN, LAYERS, BUDGET = 256, 3, 0.1


def run(threads: int = 2, num_nodes: int = 169_343, repeats: int = 20, out: Path = RESULTS) -> None:
    r"""Asks for 1 to 10,000 nodes, then changes the graph and asks again; the file is whole after every row.

    Args:
        threads: number of CPU threads.
        num_nodes: size of the graph.
        repeats: measured questions of each contender.
        out: file to write.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    keep_freed_memory()
    made_by, rows = environment(), []
    task = random_task(num_nodes, 14 * num_nodes, 40, x=torch.randn(num_nodes, 128))
    for row in [questions(task, size, repeats) for size in (10, 100, 1000, 10_000)] + [changes(task, repeats)]:
        rows.append(row)
        print(json.dumps(row), flush=True)
        write_json(out, {"environment": made_by, "rows": rows})


@torch.no_grad()
def questions(task: GraphTask, size: int, repeats: int) -> dict[str, Any]:
    r"""The same random nodes for every contender, other ones in every repeat."""
    data, model = task.data, make_model(task, HIDDEN, LAYERS, LearnedConfidence()).eval()
    strong = model.strong
    drawn = [torch.randperm(task.num_nodes)[:size] for _ in range(repeats + 1)]
    plain, kept, full = (Predictor(model, data, budget=BUDGET, cache=cache) for cache in (False, True, True))
    full.predict(torch.arange(task.num_nodes))
    everywhere = Predictor(model, data, budget=1.0, cache=True)
    everywhere.predict(torch.arange(task.num_nodes))
    contenders = {
        "ours": plain.predict,
        "ours, hidden layers kept from one question to the next": kept.predict,
        "ours, all hidden layers kept": everywhere.predict,
        "GNN on what its layers must compute, all nodes": lambda ids: call_expert(
            strong, data.x, data.edge_index, nodes=ids
        ),
        "full GNN pass": lambda _: strong(data.x, data.edge_index),
    }
    if size <= 100:
        contenders["PyG, exact L-hop subgraph, all nodes"] = subgraph_of(task)
    sizes = "-".join(map(str, [task.num_features, *[HIDDEN] * (LAYERS - 1), task.num_classes]))
    case = f"{size} nodes, {BUDGET:.0%} passed on, GCN {sizes}, {describe(data.edge_index, task.num_nodes)}"
    row = compare(case, {name: asked(ask, drawn) for name, ask in contenders.items()}, repeats)
    statistics = [plain.predict(ids).statistics for ids in drawn]
    means = {
        name: sum(getattr(s, name) for s in statistics) / len(statistics)
        for name in ("activated", "touched_nodes", "touched_edges")
    }
    return row | {"mean_per_question": means}


def asked(ask: Callable[[Tensor], object], drawn: list[Tensor]) -> Callable[[], None]:
    r"""A contender that takes the next question at each call."""
    left = iter(drawn)

    def run() -> None:
        ask(next(left))

    return run


def subgraph_of(task: GraphTask) -> Callable[[Tensor], Tensor]:
    r"""PyG's GCN on the nodes within L hops, with the degrees of the whole graph, which are known beforehand."""
    gnn = PyGGCN(**expert_sizes(task, HIDDEN, LAYERS), normalize=False).eval()
    edges, weight = gcn_norm(task.data.edge_index, None, task.num_nodes)

    def ask(ids: Tensor) -> Tensor:
        subset, inside, at, kept = k_hop_subgraph(ids, LAYERS, edges, relabel_nodes=True, num_nodes=task.num_nodes)
        return gnn(task.data.x[subset], inside, weight[kept])[at]

    return ask


def changes(task: GraphTask, repeats: int) -> dict[str, Any]:
    r"""A question of 10 nodes right after new features of one node, and after a new node with five edges."""
    model = make_model(task, HIDDEN, LAYERS, LearnedConfidence()).eval()
    predictor = Predictor(model, task.data, budget=BUDGET, cache=True)
    predictor.predict(torch.arange(task.num_nodes))

    def question() -> None:
        predictor.predict(torch.randperm(task.num_nodes)[:10])

    def features() -> None:
        predictor.set_features(torch.randint(task.num_nodes, (1,)), torch.randn(1, task.num_features))
        question()

    def node() -> None:
        new = predictor.add_nodes(torch.randn(1, task.num_features)).expand(5)
        edges = torch.stack([new, torch.randint(task.num_nodes, (5,))])
        predictor.add_edges(torch.cat([edges, edges.flip(0)], dim=1))
        question()

    contenders = {"ours": question, "after new features of a node": features, "after a new node and ten edges": node}
    return compare(f"10 nodes after a change, {describe(task.data.edge_index, task.num_nodes)}", contenders, repeats)


def table(out: Path = RESULTS) -> None:
    r"""Prints medians and how many times longer than ours each contender took.

    Args:
        out: file to read.
    """
    content = json.loads(out.read_text())
    print("| case | contender | median | times ours |\n" + "|---" * 4 + "|")
    for row in content["rows"]:
        for name, median in row["median_ms"].items():
            print(f"| {row['case']} | {name} | {median:.2f} ms | {row['times_ours'].get(name, 1):.2f} |")
    machine = content["environment"]["machine"]
    print(f"\n{machine['processor']}, {machine['threads']} threads, {content['environment']['versions']}")


if __name__ == "__main__":
    auto_cli([run, table])
