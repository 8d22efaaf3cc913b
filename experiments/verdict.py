r"""What the lines of `controls.py` prove: paired differences to the GNN, with intervals and tests.

    python experiments/verdict.py table experiments/results/controls_fresh.jsonl
    python experiments/verdict.py short experiments/results/controls_fresh.jsonl   # the differences alone
    python experiments/verdict.py turns experiments/results/controls_fresh.jsonl   # against the start
    python experiments/verdict.py between FILE OTHER                               # against the same runs in another
    python experiments/verdict.py plot experiments/results/controls_fresh.jsonl docs/accuracy.svg

For each data set and GNN the mean difference of a column to the GNN alone, in points; its 95 % interval and two-sided
p-value by the t-test of Nadeau and Bengio where the splits are random and overlap, by the ordinary one where only the
seed changes; p-values adjusted by Holm within one GNN. "worse" marks a cell whose interval lies wholly below -0.3.
Last, for each GNN, the mean difference to the better of the two experts, chosen by its validation loss, and
one Wilcoxon signed-rank test over data sets.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from jsonargparse import auto_cli
from matplotlib import rc_context
from matplotlib.figure import Figure
from methods import CELL, markdown, read_cells, show
from scipy import stats

from mowst.study.paired import corrected_t_test, holm

WORSE = -0.3
TICKS = (-10, -1, 0, 1, 10)


def table(lines: Path, column: str = "mowst", into: Path | None = None) -> None:
    r"""Prints all cells, then a row for each GNN.

    Args:
        lines: file of the lines.
        column: what is compared with the GNN.
        into: a Markdown file that gets the tables between its markers "verdict" and "end".
    """
    cells = verdict(read_cells(lines), column)
    shown = pd.DataFrame(
        {
            "data (runs)": cells["data (runs)"],
            "GNN": cells["strong"],
            f"{column} - GNN": cells["mean"].map("{:+.2f}".format),
            "95 % interval": _interval(cells, "{:+.2f}"),
            "p": cells["p"].map(_p),
            "p, Holm": cells["Holm"].map(_p),
            f"{column} - better expert": cells["better"].map("{:+.2f}".format),
            "worse": np.where(cells["high"] < WORSE, "worse", ""),
        }
    )
    summary = [
        {
            "GNN": strong,
            "data sets": len(group),
            f"{column} - GNN": f"{group['mean'].mean():+.2f}",
            f"{column} - better expert": f"{group['better'].mean():+.2f}",
            "Wilcoxon p of the last": _p(_wilcoxon(group["better"])),
        }
        for strong, group in cells.groupby("strong", sort=False)
    ]
    show(markdown(shown) + "\n\n" + markdown(pd.DataFrame(summary)), into, "verdict")


def short(lines: Path, column: str = "mowst", into: Path | None = None) -> None:
    r"""Prints a row for each data set: the score of each GNN and the difference to it with its 95 % interval.

    Args:
        lines: file of the lines.
        column: what is compared with the GNN.
        into: a Markdown file that gets the table between its markers "short" and "end".
    """
    cells = verdict(read_cells(lines), column)
    cells["interval"] = _interval(cells, "{:+.1f}")
    rows = {data: {"data": data} for data in cells["data"]}
    for cell in cells.itertuples():
        rows[cell.data] |= {
            cell.strong: f"{cell.score:.1f}",
            f"{column} - {cell.strong}": f"{cell.mean:+.1f}" + f" ({cell.interval})" * bool(cell.interval),
        }
    show(markdown(pd.DataFrame(rows.values())), into, "short")


def turns(lines: Path, column: str = "mowst", into: Path | None = None, mark: str = "turns") -> None:
    r"""Prints, for each data set and GNN, the mean difference to the start state and, where the lines have it, to the
    start over the GNN that was trained on alone, each with its 95 % interval.

    Args:
        lines: file of the lines.
        column: what is compared.
        into: a Markdown file that gets the table between its markers, of that name and "end".
        mark: the name of the first marker.
    """
    frame = read_cells(lines)
    shown = pd.DataFrame()
    for base in (name for name in ("start", "longer+") if name in frame["scores"].iloc[0]):
        cells = verdict(frame, column, base)
        shown["data (runs)"], shown["GNN"] = cells["data (runs)"], cells["strong"]
        shown[f"{column} - {base}"] = cells["mean"].map("{:+.2f}".format)
        shown[f"95 % interval of {column} - {base}"] = _interval(cells, "{:+.2f}")
    show(markdown(shown), into, mark)


def between(lines: Path, others: Path, column: str = "mowst", into: Path | None = None, mark: str = "between") -> None:
    r"""Prints, for each data set and GNN, the mean difference of a column to that of the same runs in another file,
    with its 95 % interval, its least and its largest.

    Args:
        lines: file of the lines.
        others: file of the others.
        column: what is compared.
        into: a Markdown file that gets the table between its markers, of that name and "end".
        mark: the name of the first marker.
    """
    frame, theirs = read_cells(lines), read_cells(others)
    frame = frame.merge(theirs[[*CELL, "scores"]], on=CELL, suffixes=("", " there"))
    frame["scores"] = [a | {"there": b[column]} for a, b in zip(frame["scores"], frame["scores there"], strict=True)]
    cells = verdict(frame, column, "there")
    shown = pd.DataFrame({"data (runs)": cells["data (runs)"], "GNN": cells["strong"]})
    for name, title in (("mean", f"{column} - {column} there"), ("least", "least"), ("largest", "largest")):
        shown[title] = cells[name].map("{:+.2f}".format)
    shown.insert(3, "95 % interval", _interval(cells, "{:+.2f}"))
    show(markdown(shown), into, mark)


def plot(lines: Path, out: Path, column: str = "mowst") -> None:
    r"""Draws the differences and their intervals, a panel for each GNN.

    Args:
        lines: file of the lines.
        out: an SVG file.
        column: what is compared with the GNN.
    """
    cells = verdict(read_cells(lines), column)
    names, strong = list(cells["data"].unique()), list(cells["strong"].unique())
    figure = Figure(figsize=(1 + 2.6 * len(strong), 0.6 + 0.3 * len(names)), layout="constrained")
    for axes, gnn in zip(figure.subplots(1, len(strong), sharey=True, squeeze=False)[0], strong, strict=True):
        part = cells[cells["strong"] == gnn]
        rows = part["data"].map(names.index)
        axes.axvline(0, color="0.7", linewidth=0.8)
        axes.errorbar(part["mean"], rows, xerr=part["high"] - part["mean"], fmt="o", markersize=4, capsize=2)
        axes.set(title=f"{column} - {gnn}, points", yticks=range(len(names)), yticklabels=names, xscale="symlog")
        axes.set_xticks(TICKS, [f"{tick:+d}" if tick else "0" for tick in TICKS])
    axes.invert_yaxis()
    with rc_context({"svg.hashsalt": "mowst"}):  # the same lines, the same file
        figure.savefig(out, format="svg", metadata={"Date": None})


def verdict(lines: pd.DataFrame, column: str, base: str = "strong") -> pd.DataFrame:
    r"""A row for each data set and GNN: runs, score of the base, mean difference, interval, p-values, in points."""
    cells = pd.DataFrame([_cell(runs, column, base) for _, runs in lines.groupby(["data", "strong"], sort=False)])
    cells["Holm"] = cells.groupby("strong")["p"].transform(holm)
    return cells


def _interval(cells: pd.DataFrame, form: str) -> pd.Series:
    # One run has none.
    return (cells["low"].map((form + " to ").format) + cells["high"].map(form.format)).where(cells["runs"] > 1, "")


def _cell(runs: pd.DataFrame, column: str, base: str) -> dict[str, object]:
    scores = 100 * pd.DataFrame(runs["scores"].tolist())
    scores = scores.round(4)  # float32: what lies below is no difference
    difference = (scores[column] - scores[base]).to_numpy()
    first = runs.iloc[0]
    ratio = first["sizes"]["test"] / first["sizes"]["train"] if runs["split"].nunique() > 1 else 0.0
    n, mean = len(difference), difference.mean()
    half = stats.t.ppf(0.975, n - 1) * math.sqrt((1 / n + ratio) * difference.var(ddof=1)) if n > 1 else math.nan
    losses = pd.DataFrame([details["losses"] for details in runs["constant"]])
    better = np.where(losses["weak"] < losses["strong"], scores["weak"], scores["strong"])
    return {
        "data": first["data"],
        "data (runs)": f"{first['data']} ({n})",
        "strong": first["strong"],
        "runs": n,
        "score": scores[base].mean(),
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "least": difference.min(),
        "largest": difference.max(),
        "p": corrected_t_test(difference, ratio) if n > 2 else math.nan,
        "better": (scores[column] - better).mean(),
    }


def _p(value: float) -> str:
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _wilcoxon(differences: pd.Series) -> float:
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else math.nan


if __name__ == "__main__":
    auto_cli([table, short, turns, between, plot])
