r"""Plots of deferral, drawn with matplotlib (the extra :obj:`plots`)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BOUNDS = {"random": ":", "oracle": "--"}


def plot_deferral(curves: "pd.DataFrame", cost: "pd.DataFrame") -> "Figure":
    r"""Plots the score by the share of deferred nodes, one line for each signal, and the score by
    the time of a prediction for the whole graph, one point for each share that the gate defers. A
    horizontal line is the mixture.

    Args:
        curves (pandas.DataFrame): The result of :func:`~mowst.serve.deferral.deferral_curves`.
        cost (pandas.DataFrame): The result of :func:`~mowst.serve.deferral.deferral_cost`.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install mowst[plots]") from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    by_share, by_cost = figure.subplots(1, 2, sharey=True)
    for name, curve in curves.drop(columns="mixture").items():
        style = {}
        if name in BOUNDS:
            style = {"color": "grey", "linestyle": BOUNDS[name]}
        by_share.plot(100 * curves.index, curve, label=name, **style)
    by_cost.plot(100 * cost["cost"], cost["score"], color="lightgrey", zorder=0)
    points = by_cost.scatter(100 * cost["cost"], cost["score"], c=100 * cost.index, s=60)
    for panel in (by_share, by_cost):
        panel.axhline(curves["mixture"].iloc[0], color="black", linewidth=1, label="mixture")
    by_share.set(xlabel="deferred nodes, %", ylabel=f"{curves.columns.name}, %")
    by_cost.set(xlabel="time, % of both experts on all nodes")
    by_cost.set_xlim(left=0)
    figure.colorbar(points, label="deferred nodes, %")
    by_share.legend()
    return figure
