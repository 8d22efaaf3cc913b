r"""Drawing what deferral gains and costs, with matplotlib: the extra :obj:`plots`."""

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RAILS = {"random": ":", "oracle": "--"}


def plot_deferral(curves: pd.DataFrame, cost: pd.DataFrame) -> "Figure":
    r"""Two panels: the score by share of the nodes that are passed on, a line for each signal, grey ones for the rails;
    and the score by what it costs to answer for the whole graph, a point for each share that the gate passes on. The
    level line is the mixture.

    Args:
        curves (DataFrame): see :func:`~mowst.inference.deferral.deferral_curves`.
        cost (DataFrame): see :func:`~mowst.inference.deferral.deferral_cost`.

    Raises:
        ImportError: if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots are drawn by matplotlib: pip install mowst[plots]") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    by_share, by_cost = figure.subplots(1, 2, sharey=True)
    for name, curve in curves.drop(columns="mixture").items():
        style = {"color": "grey", "linestyle": RAILS[name]} if name in RAILS else {}
        by_share.plot(100 * curves.index, curve, label=name, **style)
    by_cost.plot(100 * cost["cost"], cost["score"], color="lightgrey", zorder=0)
    points = by_cost.scatter(100 * cost["cost"], cost["score"], c=100 * cost.index, s=60)
    for panel in (by_share, by_cost):
        panel.axhline(curves["mixture"].iloc[0], color="black", linewidth=1, label="mixture")
    by_share.set(xlabel="nodes passed on, %", ylabel=f"{curves.columns.name}, %")
    by_cost.set(xlabel="time, % of both experts on all nodes")
    by_cost.set_xlim(left=0)
    figure.colorbar(points, label="nodes passed on by the gate, %")
    by_share.legend()
    return figure
