r"""The tables of a study in Markdown and LaTeX."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mowst.study.statistics import LEVEL
from mowst.study.tables import base_method, rank_method

if TYPE_CHECKING:
    import pandas as pd

TITLES = {"data": "data", "strong": "GNN", "method": "method"}
COSTS = {
    "runs": ("runs", "{:.0f}"),
    "val": ("validation, %", "{:.2f}"),
    "expected": ("sampled routing, %", "{:.2f}"),
    "deferred_share": ("deferred, %", "{:.0f}"),
    "seconds": ("training, s", "{:.1f}"),
    "total_seconds": ("with loading, s", "{:.1f}"),
    "peak_mib": ("peak memory, MiB", "{:.0f}"),
    "parameters": ("parameters", "{:,.0f}"),
}
SCORES = """Mean ± unbiased std of the test score in %, and the number of runs. Bold: the highest
mean of a row, if it differs from all other methods by a paired test at level 0.05, after Holm's
correction over the data sets of one GNN. On several splits, the test is that of Nadeau and Bengio.
"""
DIFFERENCES = """In points, mean ± unbiased std over pairs of one split and seed. The interval is a
percentile bootstrap over pairs. It is too narrow for few pairs and for overlapping splits, and the
test decides. p is paired as above, after Holm's correction over the rows of one GNN. It is missing
for fewer than three pairs, for identical differences, and for several splits of unknown size.
Bold: p < 0.05."""
PUBLISHED = """Test scores in %, and ours minus the published mean. Mowst is published by sampled
routing, which predicts each node by one expert, drawn by the confidence; ours is the expectation of
that score. For all other methods, ours is the score of the prediction. A published number that was
not checked against its source is marked uncertified."""
COST = "Means over the finished runs. Deferred is the share of the strong expert on test nodes."
FAILURES = "Runs whose newest line is a failure. They are in no other number."


@dataclass(frozen=True)
class Table:
    r"""A table of text, with a note on how to read it. :obj:`bold` has the shape of the cells."""

    title: str
    note: str
    cells: "pd.DataFrame"
    bold: "pd.DataFrame"

    @property
    def rows(self) -> list[list[tuple[str, bool]]]:
        r"""The text of each cell and whether it is bold, row by row."""
        rows = zip(self.cells.to_numpy().tolist(), self.bold.to_numpy().tolist(), strict=True)
        return [list(zip(cells, bold, strict=True)) for cells, bold in rows]

    def to_markdown(self) -> str:
        r"""Returns a heading, the note and the table."""
        cells = self.cells.map(lambda cell: " ".join(cell.split()).replace("|", r"\|"))
        cells = cells.where(~self.bold, "**" + cells + "**")
        lines = [[*cells.columns], ["---"] * cells.shape[1], *cells.to_numpy().tolist()]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"## {self.title}\n\n{self.note}\n\n{table}\n"

    def to_latex(self) -> str:
        r"""Returns a table environment, which requires the package booktabs."""
        css = self.bold.map(lambda bold: "textbf:--rwrap;" if bold else "")
        style = self.cells.style.format(escape="latex").hide(axis="index")
        style = style.format_index(escape="latex", axis="columns").apply(lambda _: css, axis=None)
        latex = style.to_latex(hrules=True, caption=self.title, position_float="centering")
        return latex.replace("±", r"$\pm$")


def make_table(
    title: str, note: str, cells: "pd.DataFrame", bold: "pd.DataFrame | None" = None
) -> Table:
    r"""Returns a :class:`Table`. Cells that :obj:`bold` does not have are not bold."""
    import pandas as pd

    bold = pd.DataFrame() if bold is None else bold
    bold = bold.reindex(index=cells.index, columns=cells.columns, fill_value=False)
    return Table(title, note.replace("\n", " ").strip(), cells, bold)


def make_tables(
    results: "pd.DataFrame", differences: "pd.DataFrame", failures: "pd.DataFrame"
) -> list[Table]:
    r"""Returns the tables of scores, differences, published values, costs and failures, without
    those that have no rows, from the results of the functions in :mod:`mowst.study.tables`.
    """
    failed = make_table("Failed runs", FAILURES, failures.rename(columns=TITLES).astype(str))
    tables = [_make_scores(results), _make_differences(differences)]
    tables += [_make_published(results), _make_costs(results), failed]
    return [table for table in tables if len(table.cells) > 0]


def format_spread(mean: float, std: float, signed: bool = False) -> str:
    r"""Formats mean and std with two digits, without a std that is NaN, or nothing at all if the
    mean is NaN.
    """
    if math.isnan(mean):
        return ""
    text = f"{mean:+.2f}" if signed else f"{mean:.2f}"
    return text if math.isnan(std) else f"{text} ± {std:.2f}"


def _format_score(row: Any, mean: float, std: float) -> str:
    counts = [str(row.runs)] if row.runs > 0 else []
    if row.failed > 0:
        counts.append(f"{row.failed} failed")
    return f"{format_spread(mean, std)} ({', '.join(counts)})".strip()


def _make_scores(results: "pd.DataFrame") -> Table:
    import pandas as pd

    texts = [_format_score(row, row.mean, row.std) for row in results.itertuples()]
    ranks = {row.method: rank_method(row.method, row.has_gate) for row in results.itertuples()}
    methods = sorted(ranks, key=lambda method: ranks[method])
    by_method = results.assign(text=texts).set_index(["data", "strong", "method"])
    groups = by_method.groupby(["data", "strong"], sort=False)
    metrics = groups["metric"].agg(lambda found: next(iter(found.dropna()), ""))
    places = metrics.rename_axis(["data", "GNN"]).reset_index()
    texts = by_method["text"].unstack(sort=False)[methods].fillna("").reset_index(drop=True)
    best = by_method["best"].unstack(sort=False)[methods].eq(True).reset_index(drop=True)
    cells = pd.concat([places, texts], axis="columns")
    return make_table("Test scores", SCORES, cells, best)


def _make_differences(differences: "pd.DataFrame") -> Table:
    import pandas as pd

    cells = differences[[*TITLES, "against"]].rename(columns=TITLES)
    texts: dict[str, list[str]] = {
        name: [] for name in ("pairs", "difference", "95 % interval", "p", "p, Holm")
    }
    for row in differences.itertuples():
        interval = "" if math.isnan(row.low) else f"{row.low:+.2f} to {row.high:+.2f}"
        texts["pairs"].append(str(row.pairs))
        texts["difference"].append(format_spread(row.mean, row.std, signed=True))
        texts["95 % interval"].append(interval)
        texts["p"].append(_format_number(row.p, "{:.2g}"))
        texts["p, Holm"].append(_format_number(row.p_holm, "{:.2g}"))
    bold = pd.DataFrame({"difference": differences["p_holm"] < LEVEL})
    return make_table("Differences", DIFFERENCES, cells.assign(**texts), bold)


def _make_published(results: "pd.DataFrame") -> Table:
    known = results[results["published"].notna()].reset_index(drop=True)
    cells = known[list(TITLES)].rename(columns=TITLES)
    texts: dict[str, list[str]] = {
        name: [] for name in ("score of", "ours", "published", "difference", "source")
    }
    for row in known.itertuples():
        kind, mean, std = "prediction", row.mean, row.std
        if base_method(row.method) == "mowst" and not math.isnan(row.expected):
            kind, mean, std = "sampled routing", row.expected, row.expected_std
        published = format_spread(row.published, row.published_std)
        if row.certified is not True:
            published += " (uncertified)"
        texts["score of"].append(kind)
        texts["ours"].append(_format_score(row, mean, std))
        texts["published"].append(published)
        texts["difference"].append(format_spread(mean - row.published, math.nan, signed=True))
        texts["source"].append(row.source if isinstance(row.source, str) else "")
    return make_table("Published values", PUBLISHED, cells.assign(**texts))


def _make_costs(results: "pd.DataFrame") -> Table:
    known = results[results["runs"] > 0].reset_index(drop=True)
    cells = known[list(TITLES)].rename(columns=TITLES)
    for column, (title, form) in COSTS.items():
        cells[title] = [_format_number(value, form) for value in known[column]]
    return make_table("Costs", COST, cells)


def _format_number(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)
