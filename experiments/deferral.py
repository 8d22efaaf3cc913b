r"""What hard routing scores and costs, by the share of deferred nodes: one JSON line per model.

    python experiments/deferral.py run --root DATA   # appends to experiments/results/deferral.jsonl
    python experiments/deferral.py table             # prints the tables of that file as Markdown

Run k takes split k where a data set has several, and seed k; settings are those of `mowst train`,
method mowst. Finished runs are skipped. The best signal is the one of the largest area under the
validation curve. Costs are those of predicting the whole graph.
"""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from common import (
    RESULTS,
    append_missing,
    count_names,
    describe_run,
    make_spec,
    markdown,
    spread,
    train_run,
)
from jsonargparse import auto_cli

from mowst.serve import deferral_cost, deferral_report
from mowst.study.lines import read_lines

OUT = RESULTS / "deferral.jsonl"
REPEATS = 11
SIGNALS = ["gate", "variance", "entropy", "max probability"]


def run(
    data: tuple[str, ...] = ("digits", "cora", "computers", "cornell5", "minesweeper"),
    seeds: int = 5,
    root: str | None = None,
    out: Path = OUT,
) -> None:
    r"""Runs what the file does not hold yet.

    Args:
        data: names of data sets.
        seeds: number of runs of each, counted from seed 0.
        root: folder of the data sets.
        out: file to append to.
    """

    def make(data: str, strong: str, method: str, seed: int) -> dict[str, Any]:
        return make_line(data, strong, method, seed, root)

    runs = list(product(data, ["gcn"], ["mowst"], range(seeds)))
    append_missing(out, runs, make)


def make_line(data: str, strong: str, method: str, seed: int, root: str | None) -> dict[str, Any]:
    r"""Trains one model and returns its line."""
    spec = make_spec(data, strong, method, seed)
    task, model, result = train_run(spec, root)
    areas = deferral_report(model, task, "val").loc[SIGNALS, "area"]
    return describe_run(spec, task) | {
        "nodes": task.num_nodes,
        "route": result.route,
        "test": result.test,
        "deferred_share": result.deferred_share,
        "seconds": result.seconds,
        "best signal": areas.idxmax(),
        "report": list_rows(deferral_report(model, task)),
        "cost": list_rows(deferral_cost(model, task, repeats=REPEATS)),
        "settings": spec.all_settings,
    }


def list_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    r"""Lists the rows of a frame, with null where it holds NaN."""
    return json.loads(frame.reset_index().to_json(orient="records", double_precision=5))


def table(out: Path = OUT) -> None:
    r"""Prints, as means over the runs: the share of nodes that must be deferred to come within half
    a point of the mixture; the deferral report; the cost by share.

    Args:
        out: file to read.
    """
    runs = pd.DataFrame(read_lines(out))
    print(markdown([summarise(name, part) for name, part in runs.groupby("data", sort=False)]))
    for column, key in (("report", "deferred by"), ("cost", "share")):
        lines = []
        for run in runs.to_dict("records"):
            for line in run[column]:
                lines.append({"data": run["data"]} | line)
        frame = pd.DataFrame(lines).drop(columns="needed", errors="ignore")
        means = frame.groupby(["data", key], sort=False).mean()
        print("\n" + markdown(means.round(2).reset_index()))


def summarise(data: str, runs: pd.DataFrame) -> dict[str, str]:
    r"""Summarises a data set: scores, and the shares that the gate, the best signal and the rails
    need.
    """
    reports = [
        pd.DataFrame(report).set_index("deferred by").astype(float) for report in runs.report
    ]
    row = {"data (runs)": f"{data} ({len(runs)})", "metric": runs.metric.iloc[0]}
    for title, signal, share in (
        ("mixture", "mixture", "0 %"),
        ("MLP in it", "gate", "0 %"),
        ("GNN in it", "gate", "100 %"),
    ):
        row[title] = spread(pd.Series([report.loc[signal, share] for report in reports]))
    row["route"] = count_names(runs["route"])
    row["best signal"] = count_names(runs["best signal"])
    for title in ("gate", "best signal", "random", "oracle"):
        chosen = list(runs["best signal"]) if title == "best signal" else [title] * len(runs)
        needed = [report.loc[one, "needed"] for report, one in zip(reports, chosen, strict=True)]
        row[f"{title} needs"] = format_needed(pd.Series(needed))
    return row


def format_needed(shares: pd.Series) -> str:
    r"""Formats the mean share and its range, and in how many runs no share is enough; these are not
    in the mean.
    """
    found, parts = shares.dropna(), []
    if len(found):
        parts.append(f"{found.mean():.0f} % ({found.min():.0f} to {found.max():.0f})")
    if len(found) < len(shares):
        parts.append(f"none in {len(shares) - len(found)} of {len(shares)}")
    return ", ".join(parts)


if __name__ == "__main__":
    auto_cli([run, table])
