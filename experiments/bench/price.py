r"""What the mixture costs beside its GNN alone.

    python experiments/bench/price.py predict --root DATA    # about a minute
    python experiments/bench/price.py fit --root DATA        # about 20 minutes

Settings are those of `mowst train`. All times are processor time of one thread, which other
processes on the machine disturb less than the time on the clock.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from suite.timing import prepare, write_rows

import mowst
from mowst import Features, Graph, Mowst, seed_everything

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import build_for, load_task_of, make_spec  # noqa: E402

RESULTS = Path(__file__).parent / "results"
DATA = ("digits", "cora", "amherst41", "cs")
TRAINED = ("digits", "cora", "amherst41", "cs", "computers")
METHODS = ("strong", "mowst", "mowst-star")


def predict(
    root: str | None = None,
    data_sets: Sequence[str] = DATA,
    strong: str = "gcn",
    seconds: float = 5.0,
    out: Path = RESULTS / "price_predict.json",
) -> None:
    r"""Measures whole-graph predictions of the mixture and of its GNN alone, called with a PyG
    graph, with plain tensors, and with the objects that keep what is derived from these.

    Args:
        root: folder of the data sets.
        data_sets: names of the data sets.
        strong: name of the GNN.
        seconds: length of each measurement.
        out: file to write.
    """
    prepare(threads=1)
    write_rows(predict_rows(root, data_sets, strong, seconds), out)


def predict_rows(
    root: str | None, data_sets: Sequence[str], strong: str, seconds: float
) -> Iterator[dict[str, Any]]:
    r"""Yields a row for each data set and form of the call."""
    for data in data_sets:
        spec = make_spec(data, strong, "mowst", seed=0)
        task = load_task_of(spec, root)
        seed_everything(0)
        model = build_for(task, spec.model_config)
        x, edge_index = task.data.x, task.data.edge_index
        forms: dict[str, tuple] = {
            "predict(data)": (task.data,),
            "predict(x, edge_index)": (x, edge_index),
            "predict(Features, Graph)": (Features(x), Graph(edge_index, num_nodes=x.size(0))),
        }
        for form, arguments in forms.items():
            contenders = {
                name: partial(predict_by, model, route, arguments)
                for name, route in (("mixture", "mixture"), ("gnn", "strong"), ("mlp", "weak"))
            }
            yield {"data": data, "strong": strong, "case": form} | measure(contenders, seconds)


def predict_by(model: Mowst, route: str, arguments: tuple) -> torch.Tensor:
    r"""Returns the classes that a model predicts under a route."""
    model.route = route
    return model.predict(*arguments)


def measure(contenders: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Any]:
    r"""Runs the contenders in turn, after one run of each to warm up. Returns the medians in
    milliseconds, and the median over turns of the ratio of the mixture to the GNN.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken["gnn"]) < 5:
        for name, run in contenders.items():
            start = time.thread_time()
            run()
            taken[name].append(time.thread_time() - start)
    ratios = [a / b for a, b in zip(taken["mixture"], taken["gnn"], strict=True)]
    medians = {name: 1000 * statistics.median(values) for name, values in taken.items()}
    return {"turns": len(ratios), "median_ms": medians, "ratio": statistics.median(ratios)}


def fit(
    root: str | None = None,
    data_sets: Sequence[str] = TRAINED,
    strong: str = "gcn",
    seeds: int = 3,
    settings: dict[str, Any] | None = None,
    out: Path = RESULTS / "price_fit.json",
) -> None:
    r"""Measures training with each method, one after the other for each seed.

    Args:
        root: folder of the data sets.
        data_sets: names of the data sets.
        strong: name of the GNN.
        seeds: number of seeds.
        settings: settings that replace those of the preset.
        out: file to write.
    """
    prepare(threads=1)
    write_rows(fit_rows(root, data_sets, strong, seeds, settings), out)


def fit_rows(
    root: str | None,
    data_sets: Sequence[str],
    strong: str,
    seeds: int,
    settings: dict[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    r"""Yields a row for each data set: the seconds, evaluated epochs and test scores of each seed,
    and the median over seeds of the ratio of each method to the GNN alone.
    """
    for data in data_sets:
        row: dict[str, Any] = {"data": data, "strong": strong}
        for measured in ("seconds", "epochs", "test"):
            row[measured] = {method: [] for method in METHODS}
        for seed in range(seeds):
            for method in METHODS:
                spec = make_spec(data, strong, method, seed, settings)
                task = load_task_of(spec, root)
                seed_everything(seed)
                model = build_for(task, spec.model_config)
                start = time.thread_time()
                result = mowst.fit(model, task, method, spec.train_config)
                row["seconds"][method].append(time.thread_time() - start)
                row["epochs"][method].append(len(result.history))
                row["test"][method].append(result.test)
        seconds = row["seconds"]
        row["ratio"] = {
            method: statistics.median(map(truediv, seconds[method], seconds["strong"]))
            for method in METHODS[1:]
        }
        yield row


if __name__ == "__main__":
    auto_cli({"predict": predict, "fit": fit})
