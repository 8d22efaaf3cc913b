r"""Whether segment reductions over edges sorted by target would make attention and max aggregation
faster than PyG's scatter, which our GAT and `GraphSAGE(aggr="max")` run on.

    python experiments/bench/segments.py run      # about 6 minutes; writes the results
    python experiments/bench/segments.py table    # prints the table of that file as Markdown

Segments are reduced by torch, and by torch-scatter where it is installed. Sorting is not counted.
Times are CPU time of one thread, so that other work on the machine counts little. "ours" is what
runs today.
"""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jsonargparse import auto_cli
from suite.epoch import get_sizes, make_epoch
from suite.graphs import draw_task
from suite.propagate import describe_graph, repeat_backward
from suite.timing import compare, prepare, print_machine, write_rows
from torch import Tensor
from torch_geometric.utils import add_remaining_self_loops, scatter, softmax

from mowst import GAT, Graph, GraphSAGE, GraphTask, load_task

RESULTS = Path(__file__).parent / "results" / "segments.json"
FEATURES, HIDDEN, HEADS = 128, 64, 8
MAX_EDGES = 2_000_000  # for an epoch: those of GAT take 17 GiB on the last graph

Segment = Callable[[Tensor, Tensor, str], Tensor]


class Edges(NamedTuple):
    r"""Edges sorted by target; those into node i are [first[i], first[i + 1])."""

    source: Tensor
    target: Tensor
    first: Tensor


class OnEdges:
    r"""Mixin in front of an expert that runs on :class:`Edges`, with the same parameters.

    Args:
        run_conv (callable): Computes a layer, given the layer, its input and the edges.
        **kwargs: The arguments of the expert.
    """

    def __init__(self, run_conv: Callable, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for conv in self.convs:
            conv.forward = partial(run_conv, conv)

    def _read_graph(self, x: Any, edge_index: Any, edge_weight: Any) -> tuple[Any, None]:
        return edge_index, None


class EdgesGAT(OnEdges, GAT):
    r"""GAT on :class:`Edges`."""


class EdgesSAGE(OnEdges, GraphSAGE):
    r"""GraphSAGE on :class:`Edges`."""


def attend(conv: Any, x: Tensor, edges: Edges, segment: Segment) -> Tensor:
    r"""Returns what a layer of GAT computes on edges that have self-loops."""
    hidden = conv.lin(x).view(-1, conv.heads, conv.out_channels)
    at_source, at_target = (hidden * conv.att_src).sum(-1), (hidden * conv.att_dst).sum(-1)
    scores = at_source[edges.source] + at_target[edges.target]
    alpha = softmax_segments(F.leaky_relu(scores, conv.negative_slope), edges, segment)
    alpha = F.dropout(alpha, conv.dropout, conv.training)
    out = segment(alpha.unsqueeze(-1) * hidden[edges.source], edges.first, "sum")
    return (out.flatten(start_dim=1) if conv.concat else out.mean(dim=1)) + conv.bias


def take_max(conv: Any, x: Tensor, edges: Edges, segment: Segment, **options: Any) -> Tensor:
    r"""Returns what a layer of GraphSAGE computes with max aggregation."""
    return conv.lin_l(segment(x[edges.source], edges.first, "max")) + conv.lin_r(x)


def softmax_segments(scores: Tensor, edges: Edges, segment: Segment) -> Tensor:
    r"""Returns the softmax over the edges into each node."""
    top = segment(scores.detach(), edges.first, "max")
    weights = (scores - top[edges.target]).exp()
    return weights / (segment(weights, edges.first, "sum") + 1e-16)[edges.target]


def reduce_in_torch(rows: Tensor, first: Tensor, reduce: str) -> Tensor:
    r"""Reduces segments by torch."""
    out = torch.segment_reduce(rows, reduce, offsets=first)
    return torch.where(out.isinf(), 0, out) if reduce == "max" else out  # of no edges


def reduce_in_torch_scatter(rows: Tensor, first: Tensor, reduce: str) -> Tensor:
    r"""Reduces segments by torch-scatter."""
    import torch_scatter

    return torch_scatter.segment_csr(rows, first, reduce=reduce)


def find_reductions() -> dict[str, Segment]:
    r"""Returns the reductions that can be measured."""
    found: dict[str, Segment] = {"torch segments": reduce_in_torch}
    try:
        import torch_scatter
    except ImportError:
        return found
    return found | {f"torch-scatter {torch_scatter.__version__}": reduce_in_torch_scatter}


def run(root: str | None = None, repeats: int = 3, out: Path = RESULTS) -> None:
    r"""Measures every case; the file is complete after every row.

    Args:
        root: folder of the data sets, for the case on Cornell5.
        repeats: measured runs of each contender.
        out: file to write.
    """
    prepare(threads=1)
    write_rows(run_cases(root, repeats), out)


def run_cases(root: str | None, repeats: int) -> Iterator[dict[str, Any]]:
    r"""Yields the rows of the graph of Cornell5, and of random graphs with the nodes of Penn94 and
    ogbn-arxiv. Features are standard normal: those of Cornell5 are too wide for a copy per edge.
    """
    cornell5 = load_task("cornell5", root=root)
    cornell5.data.x = torch.randn(cornell5.num_nodes, FEATURES)
    yield from bench_graph("Cornell5, ", cornell5, repeats)
    for size in ((41_554, 1_400_000, 2), (169_343, 2_500_000, 8)):
        yield from bench_graph("", draw_task(*size, x=torch.randn(size[0], FEATURES)), repeats)


def bench_graph(name: str, task: GraphTask, repeats: int) -> Iterator[dict[str, Any]]:
    r"""Yields the rows of one graph: softmax, maximum, and an epoch of each expert."""
    edge_index, num_nodes = task.data.edge_index, task.num_nodes
    looped, _ = add_remaining_self_loops(edge_index, num_nodes=num_nodes)
    case = f"{name}{describe_graph(edge_index, num_nodes)}"
    with torch.no_grad():
        yield compare(f"softmax, forward, {case}", list_softmax(looped, num_nodes), repeats)
    steps = list_softmax(looped, num_nodes, backward=True)
    yield compare(f"softmax, forward and backward, {case}", steps, repeats)
    with torch.no_grad():
        yield compare(f"max, forward, {case}", list_max(edge_index, num_nodes), repeats)
    steps = list_max(edge_index, num_nodes, backward=True)
    yield compare(f"max, forward and backward, {case}", steps, repeats)
    for expert in ("gat", "sage max") if edge_index.size(1) < MAX_EDGES else ():
        epochs = list_epochs(task, looped, expert)
        yield compare(f"{expert} epoch, {case}", epochs, repeats)


def list_softmax(
    edge_index: Tensor, num_nodes: int, backward: bool = False
) -> dict[str, Callable[[], float]]:
    r"""Returns the contenders for the softmax of a score per edge and head."""
    scores = torch.randn(edge_index.size(1), HEADS, requires_grad=backward)
    edges = sort_edges(edge_index, num_nodes)
    steps: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: softmax(scores, edge_index[1], num_nodes=num_nodes),
        "scatter, sorted": lambda: softmax(scores, edges.target, num_nodes=num_nodes),
    }
    for name, segment in find_reductions().items():
        steps[name] = lambda segment=segment: softmax_segments(scores, edges, segment)
    return make_contenders(steps, scores, backward)


def list_max(
    edge_index: Tensor, num_nodes: int, backward: bool = False
) -> dict[str, Callable[[], float]]:
    r"""Returns the contenders for the maximum over the neighbors."""
    x = torch.randn(num_nodes, HIDDEN, requires_grad=backward)
    edges = sort_edges(edge_index, num_nodes)
    options: dict[str, Any] = {"dim_size": num_nodes, "reduce": "max"}
    steps: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: scatter(x[edge_index[0]], edge_index[1], **options),
        "scatter, sorted": lambda: scatter(x[edges.source], edges.target, **options),
    }
    for name, segment in find_reductions().items():
        steps[name] = lambda segment=segment: segment(x[edges.source], edges.first, "max")
    return make_contenders(steps, x, backward)


def list_epochs(task: GraphTask, looped: Tensor, expert: str) -> dict[str, Callable[[], float]]:
    r"""Returns the contenders for an epoch of a GAT, or of a GraphSAGE with max aggregation, of
    two layers.
    """
    sizes, x = get_sizes(task, HIDDEN, 2), task.data.x
    if expert == "gat":
        ours, on_edges, run_conv, edge_index = GAT, EdgesGAT, attend, looped
        sizes["heads"] = HEADS
    else:
        ours, on_edges, run_conv, edge_index = GraphSAGE, EdgesSAGE, take_max, task.data.edge_index
        sizes["aggr"] = "max"
    edges = sort_edges(edge_index, task.num_nodes)
    by_target = torch.stack([edges.source, edges.target])
    epochs = {}
    for name, listed in (("ours", task.data.edge_index), ("scatter, sorted", by_target)):
        graph = Graph(listed, num_nodes=task.num_nodes)
        epochs[name] = make_epoch(ours(**sizes), task, x, graph)
    for name, segment in find_reductions().items():
        model = on_edges(partial(run_conv, segment=segment), **sizes)
        epochs[name] = make_epoch(model, task, x, edges)
    return {name: count_cpu(epoch) for name, epoch in epochs.items()}


def sort_edges(edge_index: Tensor, num_nodes: int) -> Edges:
    r"""Returns the edges sorted by target."""
    target, order = edge_index[1].sort(stable=True)
    first = torch.zeros(num_nodes + 1, dtype=torch.long)
    first[1:] = target.bincount(minlength=num_nodes).cumsum(0)
    return Edges(edge_index[0][order], target, first)


def make_contenders(
    steps: dict[str, Callable[[], Tensor]], inputs: Tensor, backward: bool
) -> dict[str, Callable[[], float]]:
    r"""Returns the steps, with their backward pass if asked, as contenders in CPU time."""
    contenders = {}
    for name, step in steps.items():
        contenders[name] = count_cpu(repeat_backward(step, inputs) if backward else step)
    return contenders


def count_cpu(run: Callable[[], object]) -> Callable[[], float]:
    r"""Returns a function that runs another one and returns the CPU time of this process."""

    def count() -> float:
        start = time.process_time()
        run()
        return time.process_time() - start

    return count


def table(out: Path = RESULTS) -> None:
    r"""Prints how many times longer than ours each contender took.

    Args:
        out: file to read.
    """
    content = json.loads(out.read_text())
    names = list(content["rows"][0]["times_ours"])
    print("| " + " | ".join(["case", "ours", *names]) + " |\n" + "|---" * (2 + len(names)) + "|")
    for row in content["rows"]:
        times = " | ".join(f"{row['times_ours'][name]:.2f}" for name in names)
        print(f"| {row['case']} | {row['median_ms']['ours']:.0f} ms | {times} |")
    print_machine(content)


if __name__ == "__main__":
    auto_cli([run, table])
