r"""Epochs of a round, with an evaluation after each."""

import time
from typing import Any

from mowst import GCN, MLP, GraphTask, LearnedGate, Mowst, TrainConfig, fit
from suite.epoch import get_sizes
from suite.propagate import describe_graph
from suite.timing import compare


def make_model(
    task: GraphTask, hidden_channels: int, num_layers: int, gate: LearnedGate | None = None
) -> Mowst:
    r"""Builds an MLP and a GCN of these sizes, dropout 0.5, under a gate."""
    sizes = get_sizes(task, hidden_channels, num_layers)
    return Mowst(MLP(**sizes), GCN(**sizes), gate or LearnedGate())


def make_round(epochs: int) -> TrainConfig:
    r"""Returns the settings of one round without pretraining, in which the gate learns in the weak
    stage.
    """
    return TrainConfig(epochs=epochs, patience=None, rounds=1, pretrain="none", gate_fit="train")


def bench_weak_stage(
    task: GraphTask, hidden_channels: int, num_layers: int, repeats: int = 5
) -> dict[str, Any]:
    r"""Compares an epoch of a weak stage (frozen strong expert, the gate learns too) under the
    default gate and under one of the experts' sizes, and an epoch of the weak expert alone; an
    evaluation after each.
    """
    narrow = make_model(task, hidden_channels, num_layers)
    wide = make_model(task, hidden_channels, num_layers, LearnedGate(hidden_channels, num_layers))
    for model in (narrow, wide):
        model.strong.requires_grad_(False)  # leaves out the strong stage

    def run(model: Mowst, method: str) -> float:
        history = fit(model, task, method=method, config=make_round(epochs=6)).history
        ends = [record["seconds"] for record in history if record["part"] == "weak"]
        return (ends[-1] - ends[0]) / (len(ends) - 1)

    contenders = {
        "ours": lambda: run(narrow, "mowst"),
        "ours with a gate of the MLP's sizes": lambda: run(wide, "mowst"),
        "our MLP alone": lambda: run(narrow, "weak"),
    }
    name = f"weak-stage epoch {task.num_features}-{hidden_channels}x{num_layers}"
    graph = describe_graph(task.data.edge_index, task.num_nodes)
    return compare(f"{name}, {graph}", contenders, repeats)


def bench_round(
    task: GraphTask, hidden_channels: int = 64, num_layers: int = 2, epochs: int = 30
) -> dict[str, Any]:
    r"""Times a weak and a strong stage with operators and caches still to be built."""
    gate = LearnedGate(hidden_channels, num_layers)
    model = make_model(task, hidden_channels, num_layers, gate)
    start = time.perf_counter()
    fit(model, task, method="mowst", config=make_round(epochs))
    seconds = time.perf_counter() - start
    sizes = f"{task.num_features}-{hidden_channels}x{num_layers}"
    graph = describe_graph(task.data.edge_index, task.num_nodes)
    return {
        "case": f"{epochs} weak + {epochs} strong epochs {sizes}, {graph}",
        "repeats": 1,
        "median_ms": {"ours": 1000 * seconds},
        "times_ours": {},
    }
