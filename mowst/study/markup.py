r"""The tables of a study as a reader sees them, in Markdown and LaTeX."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mowst.study.paired import LEVEL
from mowst.study.tables import column_order, kind_of

PLACE = {"data": "data", "strong": "GNN", "method": "method"}
COSTS = {
    "runs": ("runs", "{:.0f}"),
    "val": ("validation, %", "{:.2f}"),
    "expected": ("sampled routing, %", "{:.2f}"),
    "weak_share": ("weak share, %", "{:.0f}"),
    "seconds": ("training, s", "{:.1f}"),
    "total_seconds": ("with loading, s", "{:.1f}"),
    "peak_mib": ("peak memory, MiB", "{:.0f}"),
    "parameters": ("parameters", "{:,.0f}"),
}
SCORES = """Mean ± unbiased std of the test score in %, and the number of runs. Bold: the highest mean of a row, where
it differs from every other method by a paired test at level 0.05, after Holm's correction over the data sets of one
GNN; on several random splits the test is that of Nadeau and Bengio."""
DIFFERENCES = """In points, mean ± unbiased std over pairs of one split and seed. The interval is a percentile bootstrap
over pairs: of few pairs, or of splits that overlap, it is too narrow, and the test decides. p is paired as above, after
Holm's correction over the rows of one GNN; there is none for fewer than three pairs, for differences that are all the
same, and for several splits of unknown size. Bold: p < 0.05."""
PUBLISHED = """Test scores in %, and ours less the published mean. Mowst is published by sampled routing, which answers
each node by one expert, drawn by its confidence: ours beside it is the expectation of that score. Of all other methods
it is the score of what the model answers. A published number that was not checked against its source is marked
uncertified."""
COST = "Means over the finished runs; the weak share is that of the answers on test nodes."
FAILURES = "Runs whose newest line says that they failed. No number above counts them."


@dataclass(frozen=True)
class Table:
    r"""A table of strings.

    Args:
        title: the title.
        note: how to read it.
        cells: the strings.
        bold: of the same shape, whether a string is bold.
    """

    title: str
    note: str
    cells: pd.DataFrame
    bold: pd.DataFrame

    @property
    def rows(self) -> list[list[tuple[str, bool]]]:
        r"""Each string and whether it is bold, row by row."""
        pairs = zip(self.cells.to_numpy().tolist(), self.bold.to_numpy().tolist(), strict=True)
        return [list(zip(cells, bold, strict=True)) for cells, bold in pairs]

    def markdown(self) -> str:
        r"""A heading, the note and the table."""
        cells = self.cells.map(lambda cell: " ".join(cell.split()).replace("|", r"\|"))
        cells = cells.where(~self.bold, "**" + cells + "**")
        lines = [[*cells.columns], ["---"] * cells.shape[1], *cells.to_numpy().tolist()]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"## {self.title}\n\n{self.note}\n\n{table}\n"

    def latex(self) -> str:
        r"""A table environment, for the package booktabs."""
        css = self.bold.map(lambda bold: "textbf:--rwrap;" if bold else "")
        style = self.cells.style.format(escape="latex").format_index(escape="latex", axis="columns").hide(axis="index")
        style = style.apply(lambda _: css, axis=None)
        return style.to_latex(hrules=True, caption=self.title, position_float="centering").replace("±", r"$\pm$")


def make_table(title: str, note: str, cells: pd.DataFrame, bold: pd.DataFrame | None = None) -> Table:
    r"""A :class:`Table` of these strings, of which those that :obj:`bold` does not hold are not bold."""
    bold = pd.DataFrame() if bold is None else bold
    places = bold.reindex(index=cells.index, columns=cells.columns, fill_value=False)
    return Table(title, note.replace("\n", " "), cells, places)


def text_tables(results: pd.DataFrame, differences: pd.DataFrame, failures: pd.DataFrame) -> list[Table]:
    r"""The tables that have rows: scores, differences, published values, costs and failures.

    Args:
        results (DataFrame): see :func:`~mowst.study.tables.results_table`.
        differences (DataFrame): see :func:`~mowst.study.tables.difference_table`.
        failures (DataFrame): see :func:`~mowst.study.tables.failed_table`.
    """
    failed = make_table("Failed runs", FAILURES, failures.rename(columns=PLACE).astype(str))
    tables = [_scores(results), _differences(differences), _published(results), _costs(results), failed]
    return [table for table in tables if len(table.cells)]


def spread(mean: float, std: float, signed: bool = False) -> str:
    r"""Mean and std with two digits; a std that is not known is left out, and so is all without a mean."""
    text = f"{mean:{'+' if signed else ''}.2f}" + ("" if math.isnan(std) else f" ± {std:.2f}")
    return "" if math.isnan(mean) else text


def _scores(results: pd.DataFrame) -> Table:
    rows, methods = ["data", "strong"], sorted(results["method"].unique(), key=column_order)
    by_method = results.assign(text=[_score(cell, cell.mean, cell.std) for cell in results.itertuples()]).set_index(
        [*rows, "method"]
    )
    texts, best = (by_method[column].unstack(sort=False)[methods] for column in ("text", "best"))
    metrics = by_method.groupby(rows, sort=False)["metric"].agg(lambda found: next(iter(found.dropna()), ""))
    places = metrics.rename_axis(["data", "GNN"]).reset_index()
    cells = pd.concat([places, texts.fillna("").reset_index(drop=True)], axis="columns")
    return make_table("Test scores", SCORES, cells, best.eq(True).reset_index(drop=True))


def _score(cell: Any, mean: float, std: float) -> str:
    counts = [str(cell.runs)] * (cell.runs > 0) + [f"{cell.failed} failed"] * (cell.failed > 0)
    return f"{spread(mean, std)} ({', '.join(counts)})".strip()


def _differences(differences: pd.DataFrame) -> Table:
    cells = differences[[*PLACE, "against"]].rename(columns=PLACE)
    rows = list(differences.itertuples())
    cells["pairs"] = [str(row.pairs) for row in rows]
    cells["difference"] = [spread(row.mean, row.std, signed=True) for row in rows]
    cells["95 % interval"] = ["" if math.isnan(row.low) else f"{row.low:+.2f} to {row.high:+.2f}" for row in rows]
    for name, column in (("p", "p"), ("p, Holm", "p_holm")):
        cells[name] = ["" if math.isnan(p) else f"{p:.2g}" for p in differences[column]]
    return make_table("Differences", DIFFERENCES, cells, pd.DataFrame({"difference": differences["p_holm"] < LEVEL}))


def _published(results: pd.DataFrame) -> Table:
    known = results[results["published"].notna()].reset_index(drop=True)
    cells, rows = known[list(PLACE)].rename(columns=PLACE), list(known.itertuples())
    sampled = [kind_of(row.method) == "mowst" and not math.isnan(row.expected) for row in rows]
    ours = [
        (row.expected, row.expected_std) if drawn else (row.mean, row.std)
        for row, drawn in zip(rows, sampled, strict=True)
    ]
    cells["score of"] = ["sampled routing" if drawn else "the answers" for drawn in sampled]
    cells["ours"] = [_score(row, *score) for row, score in zip(rows, ours, strict=True)]
    marks = ["" if certified else " (uncertified)" for certified in known["certified"].eq(True)]
    published = [spread(row.published, row.published_std) for row in rows]
    cells["published"] = [text + mark for text, mark in zip(published, marks, strict=True)]
    differences = [mean - row.published for row, (mean, _) in zip(rows, ours, strict=True)]
    cells["difference"] = [spread(difference, math.nan, signed=True) for difference in differences]
    cells["source"] = known["source"].fillna("")
    return make_table("Published values", PUBLISHED, cells)


def _costs(results: pd.DataFrame) -> Table:
    known = results[results["runs"] > 0].reset_index(drop=True)
    cells = known[list(PLACE)].rename(columns=PLACE)
    for column, (title, form) in COSTS.items():
        cells[title] = ["" if math.isnan(value) else form.format(value) for value in known[column]]
    return make_table("Answers and costs", COST, cells)
