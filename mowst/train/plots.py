r"""The learning curves of a run, drawn with matplotlib, the extra :obj:`plots`."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"weak": "tab:blue", "strong": "tab:orange", "mixture": "black"}
PARTS = {**COLORS, "joint": "tab:green"}
PANELS = {
    "val": "validation score, %",
    "val_loss": "validation loss",
    "confidence": "mean confidence",
}


def plot_history(history: Sequence[Mapping[str, Any]]) -> "Figure":
    r"""Plots validation score, validation loss and, if there are rounds, mean confidence of each
    evaluation, in the color of the part that is trained. A dot is the best epoch of a stage. The
    first steps of pretraining may lie outside of the picture.

    Args:
        history (list): See :attr:`~mowst.train.FitResult.history`.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If the history is empty.
    """
    if not history:
        raise ValueError("there is nothing to plot: no epoch was evaluated")
    has_rounds = any(record["round"] > 0 for record in history)
    keys = [key for key in PANELS if has_rounds or key != "confidence"]
    figure = make_figure(10, 2 * len(keys))
    panels = figure.subplots(len(keys), 1, sharex=True)
    for panel, key in zip(panels, keys, strict=True):
        panel.set_ylabel(PANELS[key])
        panel.margins(x=0.01)
        _plot_stages(panel, history, key)
    lowest = np.quantile([100 * record["val"] for record in history], 0.1)
    dots = {(record["round"], record["stage"]): record for record in history if record["best"]}
    panels[0].set_ylim(bottom=min([lowest, *(100 * dot["val"] for dot in dots.values())]) - 1)
    panels[1].set_ylim(top=1.05 * np.quantile([record["val_loss"] for record in history], 0.9))
    panels[-1].set_xlabel("evaluation")
    lines, labels = panels[0].get_legend_handles_labels()
    unique = dict(zip(labels, lines, strict=True))
    figure.legend(unique.values(), unique, ncols=len(unique), loc="outside upper center")
    return figure


def make_figure(width: float, height: float) -> "Figure":
    r"""Returns an empty figure, which notebooks show as an image.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install mowst[plots]") from error

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:  # without it, notebooks show figures of pyplot only
            image = BytesIO()
            self.savefig(image)
            return image.getvalue()

    return ShownFigure(figsize=(width, height), layout="constrained")


def _plot_stages(panel: "Axes", history: Sequence[Mapping[str, Any]], key: str) -> None:
    scale = 100 if key == "val" else 1
    first = 1
    stages = groupby(history, lambda record: (record["round"], record["stage"]))
    for number, (_, records) in enumerate(stages):
        steps = list(records)
        last = first + len(steps) - 1
        best = [k for k, record in enumerate(steps) if record["best"]]
        round, part = steps[0]["round"], steps[0]["part"]
        panel.plot(
            range(first, last + 1),
            [scale * record[key] for record in steps],
            color=PARTS.get(part, "tab:red"),
            linestyle="-" if round > 0 else ":",
            label=f"rounds: {part}" if round > 0 else steps[0]["stage"],
            marker="o",
            markevery=best[-1:],
            markersize=4,
        )
        if number % 2 == 1:
            panel.axvspan(first - 0.5, last + 0.5, color="black", alpha=0.05, linewidth=0)
        first = last + 1
