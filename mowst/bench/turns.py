r"""Epochs inside of turns, with an evaluation after each."""

import time
from typing import Any

from mowst.bench.epoch import expert_sizes
from mowst.bench.propagate import describe
from mowst.bench.timing import compare
from mowst.loss import mowst_loss
from mowst.nn import GCN, MLP, LearnedConfidence, Mowst
from mowst.task import GraphTask
from mowst.train import TrainConfig
from mowst.train.turn import Turn


def make_model(task: GraphTask, hidden_channels: int, num_layers: int, gate: LearnedConfidence) -> Mowst:
    r"""An MLP and a GCN of these sizes, dropout 0.5, under a gate."""
    sizes = expert_sizes(task, hidden_channels, num_layers)
    return Mowst(MLP(**sizes), GCN(**sizes), gate)


def bench_weak_turn(task: GraphTask, hidden_channels: int, num_layers: int, repeats: int = 5) -> dict[str, Any]:
    r"""An epoch of a weak turn (frozen strong logits, the gate learns too) under the default gate and under one of the
    experts' sizes, and an epoch of the weak expert alone; an evaluation after each.
    """
    config = TrainConfig(epochs=6, patience=None)
    narrow = make_model(task, hidden_channels, num_layers, LearnedConfidence())
    wide = make_model(task, hidden_channels, num_layers, LearnedConfidence(hidden_channels, num_layers))

    def run(model: Mowst, route: str, trained: tuple[str, ...]) -> float:
        model.route = route
        ends = [record["seconds"] for record in Turn("bench", model, trained, mowst_loss, config).run(task)]
        return (ends[-1] - ends[0]) / (len(ends) - 1)

    contenders = {
        "ours": lambda: run(narrow, "mixture", ("weak", "confidence")),
        "ours with a gate of the MLP's sizes": lambda: run(wide, "mixture", ("weak", "confidence")),
        "our MLP alone": lambda: run(narrow, "weak", ("weak",)),
    }
    name = f"weak-turn epoch {task.num_features}-{hidden_channels}x{num_layers}"
    return compare(f"{name}, {describe(task.data.edge_index, task.num_nodes)}", contenders, repeats)


def bench_round(task: GraphTask, hidden_channels: int = 64, num_layers: int = 2, epochs: int = 30) -> dict[str, Any]:
    r"""A weak and a strong turn from a fresh start, operators and caches still to be built."""
    config = TrainConfig(epochs=epochs, patience=None)
    model = make_model(task, hidden_channels, num_layers, LearnedConfidence(hidden_channels, num_layers))
    start = time.perf_counter()
    for trained in (("weak", "confidence"), ("strong",)):
        for _ in Turn("bench", model, trained, mowst_loss, config).run(task):
            pass
    case = f"{epochs} weak + {epochs} strong epochs {task.num_features}-{hidden_channels}x{num_layers}"
    return {
        "case": f"{case}, {describe(task.data.edge_index, task.num_nodes)}",
        "repeats": 1,
        "median_ms": {"ours": 1000 * (time.perf_counter() - start)},
        "times_ours": {},
    }
