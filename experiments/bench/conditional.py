r"""What the strong expert costs on a whole graph when it predicts some nodes only.

    python experiments/bench/conditional.py run      # about 2 minutes; writes the results
    python experiments/bench/conditional.py table    # prints the table of that file as Markdown

Both sides have the first hop of the features in memory; the layers are planned again each time. End
to end, the weak expert, its gate and the choice of the nodes are added, and compared with both
experts on all nodes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from suite.graphs import draw_task
from suite.propagate import describe_graph
from suite.rounds import make_model
from suite.timing import compare, prepare, print_machine, write_rows
from torch import Tensor

from mowst import Features, Graph, GraphTask
from mowst.nn.call import call_expert

RESULTS = Path(__file__).parent / "results" / "conditional.json"
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
BLOCK = 1000


def run(threads: int = 2, repeats: int = 5, out: Path = RESULTS) -> None:
    r"""Measures every share on every graph; the file is complete after every row.

    Args:
        threads: number of CPU threads.
        repeats: measured runs of each share.
        out: file to write.
    """
    prepare(threads)
    write_rows(run_cases(repeats), out)


def run_cases(repeats: int) -> Iterator[dict[str, Any]]:
    r"""Yields a row for each case: a power-law graph of ogbn-arxiv's size, a dense one of Penn94's,
    and one of separate blocks.
    """
    arxiv = draw_task(169_343, 2_330_000, 40, x=torch.randn(169_343, 128))
    yield bench_strong(arxiv, "random nodes", draw_nodes(arxiv), 256, 3, repeats)
    yield bench_strong(arxiv, "random nodes", draw_nodes(arxiv), 256, 2, repeats)
    yield bench_budgets(arxiv, 256, 3, repeats)
    del arxiv
    dense = draw_task(41_554, 2_724_458, 2, x=torch.randn(41_554, 128))
    yield bench_strong(dense, "random nodes", draw_nodes(dense), 64, 2, repeats)
    del dense
    blocks = draw_blocks(169_000, 2_330_000)
    whole = {share: torch.arange(int(share * 169_000)) for share in SHARES}
    yield bench_strong(blocks, "whole blocks", whole, 256, 2, repeats)
    yield bench_strong(blocks, "random nodes", draw_nodes(blocks), 256, 2, repeats)


def draw_nodes(task: GraphTask) -> dict[float, Tensor]:
    r"""Draws random nodes by share."""
    order = torch.randperm(task.num_nodes)
    return {share: order[: int(share * task.num_nodes)].sort().values for share in SHARES}


def draw_blocks(num_nodes: int, num_edges: int) -> GraphTask:
    r"""Draws blocks of nodes with edges inside only."""
    task = draw_task(num_nodes, 0, 40, x=torch.randn(num_nodes, 128))
    source = torch.randint(num_nodes, (num_edges // 2,))
    target = torch.randint(BLOCK, (num_edges // 2,))
    edges = torch.stack([source, source - source % BLOCK + target])
    task.data.edge_index = torch.cat([edges, edges.flip(0)], dim=1)
    return task


@torch.no_grad()
def bench_strong(
    task: GraphTask,
    chosen: str,
    nodes: dict[float, Tensor],
    hidden: int,
    layers: int,
    repeats: int,
) -> dict[str, Any]:
    r"""Times the strong expert for a share of the nodes, as a part of the time for all."""
    strong = make_model(task, hidden, layers).eval().strong
    features, graph = wrap_inputs(task)
    contenders = {"ours": lambda: call_expert(strong, features, graph)}
    for share, ids in nodes.items():

        def predict_share(ids: Tensor = ids) -> Tensor:
            return call_expert(strong, features, graph, nodes=ids.clone())

        contenders[f"{share:.0%}"] = predict_share
    size = describe_graph(task.data.edge_index, task.num_nodes)
    if "blocks" in chosen:
        size = f"blocks of {BLOCK}, {size}"
    return compare(f"GCN {hidden}x{layers}, {chosen}, {size}", contenders, repeats)


def bench_budgets(task: GraphTask, hidden: int, layers: int, repeats: int) -> dict[str, Any]:
    r"""Times a prediction with a budget, as a part of the time of both experts on all nodes."""
    model = make_model(task, hidden, layers).eval()
    features, graph = wrap_inputs(task)
    contenders = {"ours": lambda: model.predict(features, graph)}
    for share in SHARES:

        def predict_share(share: float = share) -> Tensor:
            return model.predict(features, graph, budget=share)

        contenders[f"{share:.0%}"] = predict_share
    size = describe_graph(task.data.edge_index, task.num_nodes)
    return compare(f"MLP and GCN {hidden}x{layers}, end to end, {size}", contenders, repeats)


def wrap_inputs(task: GraphTask) -> tuple[Features, Graph]:
    r"""Returns features and graph of a task in the form that remembers what it has computed."""
    return Features(task.data.x), Graph(task.data.edge_index, num_nodes=task.num_nodes)


def table(out: Path = RESULTS) -> None:
    r"""Prints the time for each share as a part of the time for all.

    Args:
        out: file to read.
    """
    content = json.loads(out.read_text())
    shares = [f"{share:.0%}" for share in SHARES]
    head = " | ".join(["case", "all nodes", *shares])
    print(f"| {head} |\n" + "|---" * (2 + len(shares)) + "|")
    for row in content["rows"]:
        parts = " | ".join(f"{row['times_ours'][share]:.2f}" for share in shares)
        print(f"| {row['case']} | {row['median_ms']['ours']:.0f} ms | {parts} |")
    print_machine(content)


if __name__ == "__main__":
    auto_cli([run, table])
