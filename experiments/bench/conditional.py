r"""What the strong expert costs on a whole graph when it answers some nodes only.

    python experiments/bench/conditional.py run      # about 2 minutes on 2 quiet cores; writes results/conditional.json
    python experiments/bench/conditional.py table    # prints the table of that file as Markdown

Both sides have the same first hop of the features at hand; the plan of the layers is made anew each time. End to end,
the weak expert, its gate and the choice of the nodes come on top, against both experts on all nodes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor

from mowst.allocator import keep_freed_memory
from mowst.bench.graphs import random_task
from mowst.bench.propagate import describe
from mowst.bench.timing import compare
from mowst.bench.turns import make_model
from mowst.io import write_json
from mowst.nn import LearnedConfidence
from mowst.nn.contract import call_expert
from mowst.task import GraphTask
from mowst.train import environment

RESULTS = Path(__file__).parent / "results" / "conditional.json"
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
BLOCK = 1000


def run(threads: int = 2, repeats: int = 5, out: Path = RESULTS) -> None:
    r"""Measures every share on every graph; the file is whole after every row.

    Args:
        threads: number of CPU threads.
        repeats: measured runs of each share.
        out: file to write.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    keep_freed_memory()
    made_by, rows = environment(), []
    for row in cases(repeats):
        rows.append(row)
        print(json.dumps(row), flush=True)
        write_json(out, {"environment": made_by, "rows": rows})


def cases(repeats: int) -> Iterator[dict[str, Any]]:
    r"""A power-law graph of ogbn-arxiv's size, a dense one of Penn94's, and one of separate blocks."""
    arxiv = random_task(169_343, 2_330_000, 40, x=torch.randn(169_343, 128))
    yield strong_part(arxiv, "random nodes", random_nodes(arxiv), 256, 3, repeats)
    yield strong_part(arxiv, "random nodes", random_nodes(arxiv), 256, 2, repeats)
    yield end_to_end(arxiv, 256, 3, repeats)
    del arxiv
    dense = random_task(41_554, 2_724_458, 2, x=torch.randn(41_554, 128))
    yield strong_part(dense, "random nodes", random_nodes(dense), 64, 2, repeats)
    del dense
    blocks = clustered_task(169_000, 2_330_000)
    yield strong_part(blocks, "whole blocks", {s: torch.arange(int(s * 169_000)) for s in SHARES}, 256, 2, repeats)
    yield strong_part(blocks, "random nodes", random_nodes(blocks), 256, 2, repeats)


def random_nodes(task: GraphTask) -> dict[float, Tensor]:
    r"""Random nodes by share."""
    order = torch.randperm(task.num_nodes)
    return {share: order[: int(share * task.num_nodes)].sort().values for share in SHARES}


def clustered_task(num_nodes: int, num_edges: int) -> GraphTask:
    r"""Blocks of nodes with edges inside only."""
    task = random_task(num_nodes, 0, 40, x=torch.randn(num_nodes, 128))
    source, target = torch.randint(num_nodes, (num_edges // 2,)), torch.randint(BLOCK, (num_edges // 2,))
    edges = torch.stack([source, source - source % BLOCK + target])
    task.data.edge_index = torch.cat([edges, edges.flip(0)], dim=1)
    return task


@torch.no_grad()
def strong_part(
    task: GraphTask, chosen: str, nodes: dict[float, Tensor], hidden: int, layers: int, repeats: int
) -> dict[str, Any]:
    r"""The strong expert for a share of the nodes, as a part of the time for all."""
    data, strong = task.data, make_model(task, hidden, layers, LearnedConfidence()).eval().strong
    contenders = {"ours": lambda: call_expert(strong, data.x, data.edge_index)}
    for share, ids in nodes.items():
        contenders[f"{share:.0%}"] = lambda ids=ids: call_expert(strong, data.x, data.edge_index, nodes=ids.clone())
    graph = f"{'blocks of 1000, ' if 'blocks' in chosen else ''}{describe(data.edge_index, task.num_nodes)}"
    return compare(f"GCN {hidden}x{layers}, {chosen}, {graph}", contenders, repeats)


def end_to_end(task: GraphTask, hidden: int, layers: int, repeats: int) -> dict[str, Any]:
    r"""A prediction with a budget, as a part of the time of both experts on all nodes."""
    data, model = task.data, make_model(task, hidden, layers, LearnedConfidence()).eval()
    contenders = {"ours": lambda: model.predict(data.x, data.edge_index)}
    for share in SHARES:
        contenders[f"{share:.0%}"] = lambda share=share: model.predict(data.x, data.edge_index, budget=share)
    name = f"MLP and GCN {hidden}x{layers}, end to end, {describe(data.edge_index, task.num_nodes)}"
    return compare(name, contenders, repeats)


def table(out: Path = RESULTS) -> None:
    r"""Prints the time for each share as a part of the time for all.

    Args:
        out: file to read.
    """
    content = json.loads(out.read_text())
    shares = [f"{share:.0%}" for share in SHARES]
    print("| case | all nodes | " + " | ".join(shares) + " |\n" + "|---" * (2 + len(shares)) + "|")
    for row in content["rows"]:
        parts = " | ".join(f"{row['times_ours'][share]:.2f}" for share in shares)
        print(f"| {row['case']} | {row['median_ms']['ours']:.0f} ms | {parts} |")
    machine = content["environment"]["machine"]
    print(f"\n{machine['processor']}, {machine['threads']} threads, {content['environment']['versions']}")


if __name__ == "__main__":
    auto_cli([run, table])
