r"""The entries of a study for the leaderboards of the Open Graph Benchmark."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mowst.official import OGB_METRICS
from mowst.study.markup import TITLES, Table, make_table
from mowst.study.tables import PLACE, Line, run_table

if TYPE_CHECKING:
    import pandas as pd

NUM_SEEDS = 10
NOTE = """What a leaderboard of OGB asks for: mean ± unbiased std over the seeds, as fractions, and
the number of parameters. The rules ask for ten seeds, and allow validation labels for the choice of
settings only: no part of a model may be fitted to them."""
FITTED = "the gate is fitted to validation labels (gate_fit=train fits it to training labels)"


def make_leaderboard(lines: Sequence[Line]) -> Table:
    r"""Returns one row for each method on a data set of OGB with its published split."""
    import pandas as pd

    runs = run_table(lines)
    settings = {line["id"]: line.get("settings", {}) for line in lines}
    official = runs["data"].map(OGB_METRICS) == runs["metric"]
    runs = runs[runs["finished"] & official & (runs["split"] == "0")]
    rows = []
    for place, group in runs.groupby(PLACE, sort=False):
        row = dict(zip(TITLES.values(), place, strict=True))
        row["test"] = _format_fraction(group["test"])
        row["validation"] = _format_fraction(group["val"])
        row["#Params"] = f"{group['parameters'].max():,.0f}"
        row["seeds"] = str(len(group))
        remarks = []
        if len(group) < NUM_SEEDS:
            remarks.append(f"{len(group)} of {NUM_SEEDS} seeds")
        fits = {settings[id].get("gate_fit") for id in group["id"]}
        if group["has_gate"].any() and fits != {"train"}:
            remarks.append(FITTED)
        row["remarks"] = "; ".join(remarks)
        rows.append(row)
    return make_table("OGB leaderboard", NOTE, pd.DataFrame(rows))


def _format_fraction(percent: "pd.Series") -> str:
    mean, std = percent.mean() / 100, percent.std(ddof=1) / 100
    return f"{mean:.4f}" if math.isnan(std) else f"{mean:.4f} ± {std:.4f}"
