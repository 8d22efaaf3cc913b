r"""Plots of runs: confidence, and which expert predicts which nodes well. They are drawn with
matplotlib, the extra :obj:`plots`.

:obj:`details` are the tensors of a run, see :func:`~mowst.study.details.node_details`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mowst.metrics import METRICS
from mowst.serve.deferral import GRID, deferral_curve, make_bounds
from mowst.study.statistics import LEVEL
from mowst.train.plots import COLORS, make_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Details = Mapping[str, Tensor]
Nodes = Mapping[str, np.ndarray]
CURVES: dict[str, dict[str, Any]] = {
    "gate": {"color": "tab:green"},
    "random": {"color": "grey", "linestyle": ":"},
    "oracle": {"color": "grey", "linestyle": "--"},
}
MARKERS = "osD^v<>Pp*"
BINS = 10
FEWEST = 10  # nodes whose accuracy is drawn
DARKEST = 40  # percent


def plot_differences(differences: "pd.DataFrame") -> "Figure":
    r"""Plots the paired differences of each data set and strong expert, with their intervals, in a
    color and with a marker for each method. A filled marker has p < 0.05 after Holm's correction.

    Args:
        differences (DataFrame): Rows of :func:`~mowst.study.tables.difference_table` with one
            reference.

    Raises:
        ImportError: If matplotlib is missing.
    """
    methods = list(differences["method"].unique())
    places = list(dict.fromkeys(zip(differences["data"], differences["strong"], strict=True)))
    figure = make_figure(5.5, 1.1 + len(places) * (0.14 + 0.16 * len(methods)))
    panel = figure.subplots()
    panel.axvline(0, color="black", linewidth=1)
    for number, method in enumerate(methods):
        rows = differences[differences["method"] == method]
        color, marker = f"C{number % 10}", MARKERS[number % len(MARKERS)]
        panel.plot([], [], color=color, marker=marker, label=method)  # the legend
        shift = (number - (len(methods) - 1) / 2) * 0.7 / len(methods)
        for row in rows.itertuples():
            height = places.index((row.data, row.strong)) + shift
            panel.plot([row.low, row.high], [height, height], color=color)
            fill = color if row.p_holm < LEVEL else "white"
            panel.plot(row.mean, height, color=color, marker=marker, markerfacecolor=fill)
    panel.set_yticks(range(len(places)), [", ".join(place) for place in places])
    panel.set_ylim(len(places) - 0.4, -0.6)
    panel.grid(axis="x", alpha=0.3)
    panel.set_xlabel("difference, points")
    figure.legend(ncols=3, loc="outside upper left")
    return figure


def plot_confidence(histogram: Tensor) -> "Figure":
    r"""Plots the share of all nodes in each bin of the confidence, after pretraining and after each
    round.

    Args:
        histogram (Tensor): The counts.

    Shapes:
        - **histogram:** :math:`(\mathrm{rounds} + 1, \mathrm{bins})`

    Raises:
        ImportError: If matplotlib is missing.
    """
    rounds, bins = histogram.shape
    share = (100 * histogram / histogram.sum(dim=1, keepdim=True)).numpy()
    figure = make_figure(10, 1.6 + 0.35 * rounds)
    panel = figure.subplots()
    edges = np.linspace(0, 1, bins + 1)
    rows = np.arange(rounds + 1)
    mesh = panel.pcolormesh(edges, rows, share, cmap="Blues", vmin=0, vmax=DARKEST)
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:
            color = "white" if value > DARKEST / 2 else "black"
            place = (edges[column : column + 2].mean(), row + 0.5)
            panel.annotate(f"{value:.0f}", place, ha="center", va="center", color=color, size=8)
    panel.set_yticks(rows[:-1] + 0.5, ["pretraining", *map(str, range(1, rounds))])
    panel.set(xlabel="confidence", ylabel="after round")
    panel.invert_yaxis()
    figure.colorbar(mesh, label="nodes, %", extend="max")
    return figure


def plot_predictions(details: Sequence[Details]) -> "Figure":
    r"""Plots the accuracy of experts and mixture on the test nodes by confidence, degree and local
    homophily, and the number of nodes, divided by the expert that predicts them. Runs are pooled.
    The accuracy of fewer than ten nodes is not drawn.

    Args:
        details (list): The tensors of each run.

    Raises:
        ImportError: If matplotlib is missing.
    """
    figure = make_figure(13, 6)
    rows = figure.subplots(2, 3, sharex="col", sharey="row", height_ratios=(3, 2))
    nodes = {}
    for name in ("y", *COLORS, "confidence", "degree", "homophily"):
        nodes[name] = torch.cat([run[name] for run in details]).numpy()
    for column, (title, edges, values) in enumerate(_choose_bins(nodes)):
        bins = np.digitize(values, edges[1:-1])
        bins[np.isnan(values)] = -1
        if (bins < 0).any():
            title += f" ({np.mean(bins < 0):.0%} have none)"
        accuracy, count = rows[:, column]
        members = [bins == k for k in range(len(edges) - 1)]
        _plot_accuracy(accuracy, nodes, members)
        _plot_counts(count, nodes, members)
        count.set_xticks(range(len(members)), _label_bins(edges), rotation=60)
        count.set_xlabel(title)
    rows[0, 0].set(ylabel="accuracy, %", ylim=(0, 103))
    rows[1, 0].set(ylabel="test nodes")
    left, right = (panel.get_legend_handles_labels() for panel in rows[:, 0])
    figure.legend(*left, ncols=3, loc="outside upper left")
    figure.legend(*right, ncols=2, loc="outside upper right")
    return figure


def plot_deferral_runs(details: Sequence[Details], metric: str) -> "Figure":
    r"""Plots the score by the share of deferred test nodes, the least confident first, as the mean
    and each run in pale. Random and oracle deferral are bounds. The mixture is a horizontal line.

    Args:
        details (list): The tensors of each run.
        metric (str): The metric.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the metric has no expected score.
    """
    figure = make_figure(6.5, 4)
    panel = figure.subplots()
    curves = [_compute_curves(run, metric) for run in details]
    share = 100 * np.array(GRID)
    for name, style in CURVES.items():
        panel.plot(share, np.mean([run[name] for run in curves], axis=0), label=name, **style)
    if len(curves) > 1:
        for run in curves:
            panel.plot(share, run["gate"], alpha=0.25, linewidth=1, **CURVES["gate"])
    mixtures = [float(METRICS[metric](run["mixture_prob"], run["y"])) for run in details]
    level = 100 * float(np.mean(mixtures))
    panel.axhline(level, color=COLORS["mixture"], linewidth=1, label="mixture")
    panel.set(xlabel="deferred nodes, %", ylabel=f"{metric}, %")
    panel.legend()
    return figure


def _choose_bins(nodes: Nodes) -> list[tuple[str, np.ndarray, np.ndarray]]:
    # Title, edges and values of each panel. The bins of the degrees are 0, 1, 2-3, 4-7, ...
    tenths = np.linspace(0, 1, BINS + 1)
    least, most = int(nodes["degree"].min()), int(nodes["degree"].max())
    doubling = np.array([0, *2 ** np.arange(most.bit_length() + 1)])[least.bit_length() :]
    return [
        ("confidence", tenths, nodes["confidence"]),
        ("degree", doubling, nodes["degree"].astype(float)),
        ("share of neighbors with the same label", tenths, nodes["homophily"]),
    ]


def _label_bins(edges: np.ndarray) -> list[str]:
    labels = []
    for low, high in zip(edges, edges[1:], strict=False):
        if edges.dtype.kind == "f":
            labels.append(f"{low:.1f}-{high:.1f}")
        else:
            labels.append(f"{low}" if high - low == 1 else f"{low}-{high - 1}")
    return labels


def _plot_accuracy(panel: "Axes", nodes: Nodes, members: Sequence[np.ndarray]) -> None:
    for name, color in COLORS.items():
        right = nodes[name] == nodes["y"]
        scores = []
        for chosen in members:
            scores.append(100 * right[chosen].mean() if chosen.sum() >= FEWEST else np.nan)
        panel.plot(range(len(members)), scores, color=color, marker="o", markersize=4, label=name)


def _plot_counts(panel: "Axes", nodes: Nodes, members: Sequence[np.ndarray]) -> None:
    weak = np.array([nodes["confidence"][chosen].sum() for chosen in members])
    total = np.array([chosen.sum() for chosen in members])
    places = range(len(members))
    panel.bar(places, weak, color=COLORS["weak"], label="weak expert")
    bars = panel.bar(places, total - weak, bottom=weak, color=COLORS["strong"], label="deferred")
    panel.bar_label(bars, [str(n) if n else "" for n in total], fontsize=8, padding=1)
    panel.margins(y=0.12)


def _compute_curves(run: Details, metric: str) -> dict[str, np.ndarray]:
    probs, y = (run["weak_prob"], run["strong_prob"]), run["y"]
    signals = {"gate": run["confidence"], **make_bounds(metric, probs, y)}
    return {key: 100 * deferral_curve(metric, probs, c, y) for key, c in signals.items()}
