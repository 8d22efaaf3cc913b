r"""What the lines of `controls.py` show: paired differences to the GNN, with intervals and tests.

    python experiments/verdict.py table experiments/results/controls_fresh.jsonl
    python experiments/verdict.py short experiments/results/controls_fresh.jsonl    # in short
    python experiments/verdict.py rounds experiments/results/controls_fresh.jsonl   # against start
    python experiments/verdict.py between FILE OTHER                    # the same runs in two files
    python experiments/verdict.py plot experiments/results/controls_fresh.jsonl docs/accuracy.svg

For each data set and GNN: the mean difference of a column to the GNN alone, in points; its 95 %
interval and two-sided p-value by the t-test of Nadeau and Bengio where the splits are random and
overlap, by the ordinary one where only the seed changes; p-values adjusted by Holm within one GNN.
"worse" marks a pair whose interval lies wholly below -0.3. Last, for each GNN, the mean difference
to the better of the two experts, chosen by its validation loss, and one Wilcoxon signed-rank test
over data sets.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import KEYS, markdown, read_sorted, show
from jsonargparse import auto_cli
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy import stats

from mowst.study.statistics import corrected_t_test, holm

WORSE = -0.3
TICKS = {-10: "-10", -1: "-1", 0: "0", 1: "+1", 10: "+10"}


def table(lines: Path, column: str = "mowst", into: Path | None = None) -> None:
    r"""Prints all pairs of data set and GNN, then a row for each GNN.

    Args:
        lines: file of the lines.
        column: what is compared with the GNN.
        into: a Markdown file that gets the tables between its markers "verdict" and "end".
    """
    found = compare(read_sorted(lines), column)
    shown = pd.DataFrame(
        {
            "data (runs)": found["data (runs)"],
            "GNN": found["strong"],
            f"{column} - GNN": found["mean"].map("{:+.2f}".format),
            "95 % interval": format_intervals(found, "{:+.2f}"),
            "p": found["p"].map(format_p),
            "p, Holm": found["Holm"].map(format_p),
            f"{column} - better expert": found["better"].map("{:+.2f}".format),
            "worse": np.where(found["high"] < WORSE, "worse", ""),
        }
    )
    summary = []
    for strong, group in found.groupby("strong", sort=False):
        wilcoxon = math.nan
        if group["better"].any():
            wilcoxon = float(stats.wilcoxon(group["better"]).pvalue)
        summary.append(
            {
                "GNN": strong,
                "data sets": len(group),
                f"{column} - GNN": f"{group['mean'].mean():+.2f}",
                f"{column} - better expert": f"{group['better'].mean():+.2f}",
                "Wilcoxon p of the last": format_p(wilcoxon),
            }
        )
    show(markdown(shown) + "\n\n" + markdown(summary), into, "verdict")


def short(lines: Path, column: str = "mowst", into: Path | None = None) -> None:
    r"""Prints a row for each data set: the score of each GNN and the difference to it with its 95 %
    interval.

    Args:
        lines: file of the lines.
        column: what is compared with the GNN.
        into: a Markdown file that gets the table between its markers "short" and "end".
    """
    found = compare(read_sorted(lines), column)
    found["interval"] = format_intervals(found, "{:+.1f}")
    rows: dict[str, dict[str, str]] = {}
    for pair in found.itertuples():
        row = rows.setdefault(pair.data, {"data": pair.data})
        row[pair.strong] = f"{pair.score:.1f}"
        row[f"{column} - {pair.strong}"] = f"{pair.mean:+.1f}"
        if pair.interval:
            row[f"{column} - {pair.strong}"] += f" ({pair.interval})"
    show(markdown(list(rows.values())), into, "short")


def rounds(
    lines: Path, column: str = "mowst", into: Path | None = None, mark: str = "rounds"
) -> None:
    r"""Prints, for each data set and GNN, the mean difference to the start and, where the lines
    have it, to the start over the GNN that was trained on alone, each with its 95 % interval.

    Args:
        lines: file of the lines.
        column: what is compared.
        into: a Markdown file that gets the table between its markers, of that name and "end".
        mark: the name of the first marker.
    """
    frame = read_sorted(lines)
    shown = pd.DataFrame()
    for base in ("start", "longer+"):
        if base not in frame["scores"].iloc[0]:
            continue
        found = compare(frame, column, base)
        shown["data (runs)"], shown["GNN"] = found["data (runs)"], found["strong"]
        shown[f"{column} - {base}"] = found["mean"].map("{:+.2f}".format)
        shown[f"95 % interval of {column} - {base}"] = format_intervals(found, "{:+.2f}")
    show(markdown(shown), into, mark)


def between(
    lines: Path,
    others: Path,
    column: str = "mowst",
    into: Path | None = None,
    mark: str = "between",
) -> None:
    r"""Prints, for each data set and GNN, the mean difference of a column to that of the same runs
    in another file, with its 95 % interval, its least and its largest.

    Args:
        lines: file of the lines.
        others: the other file.
        column: what is compared.
        into: a Markdown file that gets the table between its markers, of that name and "end".
        mark: the name of the first marker.
    """
    frame, theirs = read_sorted(lines), read_sorted(others)
    frame = frame.merge(theirs[[*KEYS, "scores"]], on=KEYS, suffixes=("", " there"))
    pairs = zip(frame["scores"], frame["scores there"], strict=True)
    frame["scores"] = [here | {"there": there[column]} for here, there in pairs]
    found = compare(frame, column, "there")
    shown = pd.DataFrame(
        {
            "data (runs)": found["data (runs)"],
            "GNN": found["strong"],
            f"{column} - {column} there": found["mean"].map("{:+.2f}".format),
            "95 % interval": format_intervals(found, "{:+.2f}"),
            "least": found["least"].map("{:+.2f}".format),
            "largest": found["largest"].map("{:+.2f}".format),
        }
    )
    show(markdown(shown), into, mark)


def plot(lines: Path, out: Path, column: str = "mowst") -> None:
    r"""Draws the differences and their intervals, a panel for each GNN.

    Args:
        lines: file of the lines.
        out: an SVG file.
        column: what is compared with the GNN.
    """
    found = compare(read_sorted(lines), column)
    names, strong = list(found["data"].unique()), list(found["strong"].unique())
    size = (1 + 2.6 * len(strong), 0.6 + 0.3 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(strong), sharey=True, squeeze=False)[0]
    for axes, gnn in zip(panels, strong, strict=True):
        part = found[found["strong"] == gnn]
        rows, half = part["data"].map(names.index), part["high"] - part["mean"]
        axes.axvline(0, color="0.7", linewidth=0.8)
        axes.errorbar(part["mean"], rows, xerr=half, fmt="o", markersize=4, capsize=2)
        axes.set(title=f"{column} - {gnn}, points")
        axes.set(yticks=range(len(names)), yticklabels=names, xscale="symlog")
        axes.set_xticks(list(TICKS), list(TICKS.values()))
    axes.invert_yaxis()
    with rc_context({"svg.hashsalt": "mowst"}):  # the same lines, the same file
        figure.savefig(out, format="svg", metadata={"Date": None})


def compare(lines: pd.DataFrame, column: str, base: str = "strong") -> pd.DataFrame:
    r"""Compares a column with a base: a row for each data set and GNN, with runs, score of the
    base, mean difference, interval and p-values, in points.
    """
    groups = lines.groupby(["data", "strong"], sort=False)
    found = pd.DataFrame([compare_runs(runs, column, base) for _, runs in groups])
    found["Holm"] = found.groupby("strong")["p"].transform(holm)
    return found


def compare_runs(runs: pd.DataFrame, column: str, base: str) -> dict[str, Any]:
    r"""Compares the runs of one data set and GNN."""
    scores = 100 * pd.DataFrame(runs["scores"].tolist())
    scores = scores.round(4)  # float32: what lies below is no difference
    difference = (scores[column] - scores[base]).to_numpy()
    first = runs.iloc[0]
    n, mean = len(difference), difference.mean()
    ratio = 0.0
    if runs["split"].nunique() > 1:
        ratio = first["sizes"]["test"] / first["sizes"]["train"]
    half, p = math.nan, math.nan
    if n > 1:
        variance = (1 / n + ratio) * difference.var(ddof=1)
        half = stats.t.ppf(0.975, n - 1) * math.sqrt(variance)
    if n > 2:
        p = corrected_t_test(difference, ratio)
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
        "p": p,
        "better": (scores[column] - better).mean(),
    }


def format_intervals(found: pd.DataFrame, form: str) -> pd.Series:
    r"""Formats intervals. One run has none."""
    text = found["low"].map((form + " to ").format) + found["high"].map(form.format)
    return text.where(found["runs"] > 1, "")


def format_p(value: float) -> str:
    r"""Formats a p-value."""
    if math.isnan(value):
        return ""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}"


if __name__ == "__main__":
    auto_cli([table, short, rounds, between, plot])
