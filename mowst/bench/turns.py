r"""Epochs inside of turns, with an evaluation after each."""

import time
from typing import Any

from mowst.bench.propagate import describe
from mowst.bench.timing import compare
from mowst.loss import mowst_loss
from mowst.nn import GCN, MLP, LearnedConfidence, Mowst
from mowst.task import GraphTask
from mowst.train import TrainConfig
from mowst.train.turn import Turn


def make_model(task: GraphTask, hidden_channels: int, num_layers: int) -> Mowst:
    r"""An MLP, a GCN and a learned confidence of these sizes, dropout 0.5."""
    sizes: dict[str, Any] = {"hidden_channels": hidden_channels, "num_layers": num_layers, "dropout": 0.5}
    ends = {"in_channels": task.num_features, "out_channels": task.num_classes}
    return Mowst(MLP(**ends, **sizes), GCN(**ends, **sizes), LearnedConfidence(**sizes))


def bench_weak_turn(task: GraphTask, hidden_channels: int, num_layers: int, repeats: int = 5) -> dict[str, Any]:
    r"""Epochs of a weak turn (frozen strong logits, the gate learns too) beside epochs of the weak expert alone."""
    model, config = make_model(task, hidden_channels, num_layers), TrainConfig(epochs=5, patience=None)

    def run(route: str, trained: tuple[str, ...]) -> None:
        model.route = route
        for _ in Turn("bench", model, trained, mowst_loss, config).run(task):
            pass

    contenders = {
        "ours": lambda: run("mixture", ("weak", "confidence")),
        "our MLP alone": lambda: run("weak", ("weak",)),
    }
    name = f"weak turn of {config.epochs} epochs {task.num_features}-{hidden_channels}x{num_layers}"
    return compare(f"{name}, {describe(task.data.edge_index, task.num_nodes)}", contenders, repeats)


def bench_round(task: GraphTask, hidden_channels: int = 64, num_layers: int = 2, epochs: int = 30) -> dict[str, Any]:
    r"""A weak and a strong turn from a fresh start, operators and caches still to be built."""
    model, config = make_model(task, hidden_channels, num_layers), TrainConfig(epochs=epochs, patience=None)
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
