r"""Plots of runs: how they learned, and which expert answers what. Drawn by matplotlib, the extra :obj:`plots`.

:obj:`details` are the arrays of a run on its test nodes, see :func:`~mowst.study.details.node_details`.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mowst.inference.deferral import GRID, deferral_curve
from mowst.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Details = Mapping[str, Tensor]
COLORS = {"weak": "tab:blue", "strong": "tab:orange", "mixture": "black"}
TURNS = COLORS | {"joint": "tab:green", "gate": "tab:purple"}
PANELS = {"val": "validation score, %", "val_loss": "validation loss", "confidence": "mean confidence"}
BINS = 10
FEWEST = 10  # nodes whose accuracy is drawn
DARKEST = 40  # percent


def plot_history(history: Sequence[Mapping[str, Any]]) -> "Figure":
    r"""Learning curves: validation score, validation loss and mean confidence at each evaluation, in the colour of the
    part that learned. A dot is the best state of a turn, where it is the best so far. The first steps of pretraining
    may lie outside of the picture.

    Args:
        history (list): the records of :attr:`~mowst.train.FitResult.history`.

    Raises:
        ImportError: if matplotlib is missing.
    """
    alone = all(record["turn"].endswith(" alone") for record in history)
    titles = dict(list(PANELS.items())[: 2 if alone else 3])
    figure = _figure(10, 2 * len(titles))
    panels = figure.subplots(len(titles), 1, sharex=True)
    for panel, (key, title) in zip(panels, titles.items(), strict=True):
        panel.set_ylabel(title)
        panel.margins(x=0.01)
        _plot_turns(panel, history, key)
    panels[0].set_ylim(bottom=np.quantile([100 * record["val"] for record in history], 0.1) - 1)
    panels[1].set_ylim(top=1.05 * np.quantile([record["val_loss"] for record in history], 0.9))
    panels[-1].set_xlabel("evaluation")
    lines, labels = panels[0].get_legend_handles_labels()
    unique = dict(zip(labels, lines, strict=True))
    figure.legend(unique.values(), unique, ncols=len(unique), loc="outside upper center", frameon=False)
    return figure


def plot_confidence(histogram: Tensor) -> "Figure":
    r"""How confidence moves: the share of all nodes in each bin of it, after pretraining and after each round.

    Args:
        histogram (Tensor): the counts.

    Shapes:
        - **histogram:** :math:`(\mathrm{rounds} + 1, \mathrm{bins})`

    Raises:
        ImportError: if matplotlib is missing.
    """
    rounds, bins = histogram.shape
    share = (100 * histogram / histogram.sum(dim=1, keepdim=True)).numpy()
    figure = _figure(10, 1.6 + 0.35 * rounds)
    panel = figure.subplots()
    edges = np.linspace(0, 1, bins + 1)
    mesh = panel.pcolormesh(edges, np.arange(rounds + 1), share, cmap="Blues", vmin=0, vmax=DARKEST)
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:
            color = "white" if value > DARKEST / 2 else "black"
            place = (edges[column : column + 2].mean(), row + 0.5)
            panel.annotate(f"{value:.0f}", place, ha="center", va="center", color=color, fontsize=8)
    panel.set_yticks(np.arange(rounds) + 0.5, ["pretraining", *map(str, range(1, rounds))])
    panel.set(xlabel="confidence", ylabel="after round")
    panel.invert_yaxis()
    figure.colorbar(mesh, label="nodes, %", extend="max")
    return figure


def plot_answers(details: Sequence[Details]) -> "Figure":
    r"""Who answers what: the accuracy of weak expert, strong expert and mixture on the test nodes, by confidence, by
    degree and by local homophily; below, the number of nodes, split by who answers them. Runs are pooled, and of fewer
    than ten nodes there is no accuracy.

    Args:
        details (list): the arrays of each run.

    Raises:
        ImportError: if matplotlib is missing.
    """
    figure = _figure(13, 6)
    rows = figure.subplots(2, 3, sharex="col", sharey="row", height_ratios=(3, 2))
    names = ("y", *COLORS, "confidence", "degree", "homophily")
    pooled = {name: torch.cat([run[name] for run in details]).numpy() for name in names}
    for column, (title, edges, values) in enumerate(_binnings(pooled)):
        bins = np.digitize(values, edges[1:-1])
        bins[np.isnan(values)] = -1
        _plot_bins(rows[0, column], rows[1, column], pooled, bins, len(edges) - 1)
        rows[1, column].set_xticks(range(len(edges) - 1), _tick_labels(edges), rotation=60)
        rows[1, column].set_xlabel(title + (f" ({np.mean(bins < 0):.0%} have none)" if (bins < 0).any() else ""))
    rows[0, 0].set(ylabel="accuracy, %", ylim=(0, 103))
    rows[1, 0].set(ylabel="test nodes")
    figure.legend(*rows[0, 0].get_legend_handles_labels(), ncols=3, loc="outside upper left", frameon=False)
    figure.legend(*rows[1, 0].get_legend_handles_labels(), ncols=2, loc="outside upper right", frameon=False)
    return figure


def plot_deferral_runs(details: Sequence[Details], metric: str) -> "Figure":
    r"""The score by the share of test nodes that are passed on to the strong expert, the least confident first: the
    mean over the runs, and each run in pale. Random and oracle deferral are the rails, the level line is the mixture.

    Args:
        details (list): the arrays of each run.
        metric (str): the metric.

    Raises:
        ImportError: if matplotlib is missing.
        ValueError: if the metric has no expected score.
    """
    figure = _figure(6.5, 4)
    panel = figure.subplots()
    styles: dict[str, dict[str, Any]] = {
        "gate": {"color": "tab:green"},
        "random": {"color": "grey", "linestyle": ":"},
        "oracle": {"color": "grey", "linestyle": "--"},
    }
    curves = [_curves(run, metric) for run in details]
    for name, style in styles.items():
        panel.plot(100 * np.array(GRID), np.mean([run[name] for run in curves], axis=0), label=name, **style)
    for run in curves if len(curves) > 1 else []:
        panel.plot(100 * np.array(GRID), run["gate"], alpha=0.25, linewidth=1, **styles["gate"])
    mixture = np.mean([100 * float(METRICS[metric](run["mixture_prob"], run["y"])) for run in details])
    panel.axhline(float(mixture), color=COLORS["mixture"], linewidth=1, label="mixture")
    panel.set(xlabel="nodes passed on, %", ylabel=f"{metric}, %")
    panel.legend()
    return figure


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots are drawn by matplotlib: pip install mowst[plots]") from error
    return Figure(figsize=(width, height), layout="constrained")


def _plot_turns(panel: "Axes", history: Sequence[Mapping[str, Any]], key: str) -> None:
    numbered = enumerate(history, start=1)
    turns = [list(turn) for _, turn in groupby(numbered, lambda item: (item[1]["round"], item[1]["turn"]))]
    for number, steps in enumerate(turns):
        name = steps[0][1]["turn"]
        part = name.removesuffix(" alone")
        best = [k for k, (_, record) in enumerate(steps) if record["best"]][-1:]
        panel.plot(
            [k for k, _ in steps],
            [(100 if key == "val" else 1) * record[key] for _, record in steps],
            color=TURNS.get(part, "tab:red"),
            linestyle="-" if part == name else ":",
            label=f"{name} turn" if name in COLORS else name,
            marker="o",
            markevery=best,
            markersize=4,
        )
        if number % 2:
            panel.axvspan(steps[0][0] - 0.5, steps[-1][0] + 0.5, color="black", alpha=0.05, linewidth=0)


def _binnings(nodes: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    # Title, edges and values of each panel; the degrees in bins 0, 1, 2-3, 4-7, ...
    tenths = np.linspace(0, 1, BINS + 1)
    least, most = int(nodes["degree"].min()), int(nodes["degree"].max())
    doubling = np.array([0, *2 ** np.arange(most.bit_length() + 1)])[least.bit_length() :]
    return [
        ("confidence", tenths, nodes["confidence"]),
        ("degree", doubling, nodes["degree"].astype(float)),
        ("share of neighbours with the same label", tenths, nodes["homophily"]),
    ]


def _tick_labels(edges: np.ndarray) -> list[str]:
    if edges.dtype.kind == "f":
        return [f"{low:.1f}-{high:.1f}" for low, high in zip(edges, edges[1:], strict=False)]
    return [f"{low}" if high - low == 1 else f"{low}-{high - 1}" for low, high in zip(edges, edges[1:], strict=False)]


def _plot_bins(accuracy: "Axes", count: "Axes", nodes: Mapping[str, np.ndarray], bins: np.ndarray, size: int) -> None:
    members = [bins == k for k in range(size)]
    for name, color in COLORS.items():
        right = nodes[name] == nodes["y"]
        scores = [100 * right[chosen].mean() if chosen.sum() >= FEWEST else np.nan for chosen in members]
        accuracy.plot(range(size), scores, color=color, marker="o", markersize=4, label=name)
    weak = np.array([nodes["confidence"][chosen].sum() for chosen in members])
    total = np.array([chosen.sum() for chosen in members])
    count.bar(range(size), weak, color=COLORS["weak"], label="answered by the weak expert")
    bars = count.bar(range(size), total - weak, bottom=weak, color=COLORS["strong"], label="passed on")
    count.bar_label(bars, [str(n) if n else "" for n in total], fontsize=8, padding=1)
    count.margins(y=0.12)


def _curves(run: Details, metric: str) -> dict[str, np.ndarray]:
    probs, y = (run["weak_prob"], run["strong_prob"]), run["y"]
    good = [p.argmax(dim=-1) == y if metric == "accuracy" else p[torch.arange(len(y)), y] for p in probs]
    signals = {
        "gate": run["confidence"],
        "random": torch.zeros(len(y)),
        "oracle": good[0].float() - good[1].float(),
    }
    return {name: 100 * deferral_curve(metric, probs, signal, y) for name, signal in signals.items()}
