r"""What hard routing reaches and costs, by the share of nodes that the GNN answers: one JSON line per trained model.

    MOWST_DATA=DATA python experiments/deferral.py run     # appends to experiments/results/deferral.jsonl
    python experiments/deferral.py table                   # prints the tables of that file as Markdown

Run k takes split k where a data set has several, and seed k; settings are those of `mowst train`, method mowst.
Finished runs are skipped. The best signal is the one of the largest area under the validation curve. Costs are those of
answering for the whole graph.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from methods import append_missing, markdown, spread

from mowst import TrainConfig, fit, load_task, seed_everything
from mowst.inference import deferral_cost, deferral_report
from mowst.nn.build import ModelConfig, build_model
from mowst.presets import preset
from mowst.study.cell import split_of
from mowst.study.lines import read_lines

RESULTS = Path(__file__).parent / "results" / "deferral.jsonl"
SIGNALS = ["gate", "variance", "entropy", "max probability"]


def run(
    data: tuple[str, ...] = ("digits", "cora", "computers", "cornell5", "minesweeper"),
    seeds: int = 5,
    root: str | None = None,
    out: Path = RESULTS,
    repeats: int = 11,
    threads: int = 1,
) -> None:
    r"""Runs the models that the file does not hold yet.

    Args:
        data: names of data sets.
        seeds: number of runs of each, counted from seed 0.
        root: folder of the data sets.
        out: file to append to.
        repeats: measured answers of each share.
        threads: number of CPU threads.
    """
    torch.set_num_threads(threads)
    cells = [(name, "gcn", "mowst", seed) for seed in range(seeds) for name in data]
    append_missing(out, cells, lambda *cell: run_cell(*cell, root, repeats))


def run_cell(data: str, strong: str, method: str, seed: int, root: str | None, repeats: int) -> dict[str, Any]:
    r"""Trains one model and returns its line."""
    task = load_task(data, root=root, split=split_of(data, seed))
    settings = preset(data) | {"strong": strong}
    config = ModelConfig(**{k: v for k, v in settings.items() if k in ModelConfig.__dataclass_fields__})
    train = TrainConfig(**{k: v for k, v in settings.items() if k in TrainConfig.__dataclass_fields__})
    seed_everything(seed)
    model = build_model(config, in_channels=task.num_features, out_channels=task.num_classes)
    result = fit(model, task, method=method, **asdict(train))
    return {
        "data": data,
        "strong": strong,
        "method": method,
        "seed": seed,
        "split": task.split,
        "preprocessing": task.preprocessing,
        "metric": task.metric,
        "nodes": task.num_nodes,
        "route": result.route,
        "test": result.test,
        "weak_share": result.weak_share,
        "seconds": result.seconds,
        "best signal": deferral_report(model, task, "val").loc[SIGNALS, "area"].idxmax(),
        "report": records(deferral_report(model, task)),
        "cost": records(deferral_cost(model, task, repeats=repeats)),
        "settings": asdict(config) | asdict(train),
    }


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    r"""The rows of a frame, null where it holds NaN."""
    return json.loads(frame.reset_index().to_json(orient="records", double_precision=5))


def table(out: Path = RESULTS) -> None:
    r"""Prints, as means over the runs: the share of nodes that must be passed on to come within half a point of the
    mixture; the deferral report; the cost by share.

    Args:
        out: file to read.
    """
    runs = pd.DataFrame(read_lines(out))
    needed = [needed_row(data, cell) for data, cell in runs.groupby("data", sort=False)]
    print(markdown(pd.DataFrame(needed)))
    for column, row in (("report", "passed on by"), ("cost", "share")):
        lines = [{"data": run["data"]} | line for run in runs.to_dict("records") for line in run[column]]
        means = pd.DataFrame(lines).drop(columns="needed", errors="ignore").groupby(["data", row], sort=False).mean()
        print("\n" + markdown(means.round(2).reset_index()))


def needed_row(data: str, cell: pd.DataFrame) -> dict[str, str]:
    r"""The line of a data set: scores, and the shares that the gate, the best signal and the rails need."""
    reports = [pd.DataFrame(report).set_index("passed on by").astype(float) for report in cell.report]
    scores = {"mixture": ("mixture", "0 %"), "MLP in it": ("gate", "0 %"), "GNN in it": ("gate", "100 %")}
    signals = {"gate": ["gate"] * len(cell), "best signal": cell["best signal"]}
    signals |= {rail: [rail] * len(cell) for rail in ("random", "oracle")}
    return {
        "data (runs)": f"{data} ({len(cell)})",
        "metric": cell.metric.iloc[0],
        **{name: spread(pd.Series([report.loc[at] for report in reports])) for name, at in scores.items()},
        "route": counted(cell["route"]),
        "best signal": counted(cell["best signal"]),
        **{
            f"{name} needs": share_needed([r.loc[s, "needed"] for r, s in zip(reports, chosen, strict=True)])
            for name, chosen in signals.items()
        },
    }


def counted(names: pd.Series) -> str:
    r"""Each name with the number of its runs."""
    return ", ".join(f"{name} ({count})" for name, count in names.value_counts().items())


def share_needed(shares: list[float]) -> str:
    r"""The mean share and its range, and in how many runs no share is enough; these are not in the mean."""
    found = pd.Series(shares).dropna()
    parts = [f"{found.mean():.0f} % ({found.min():.0f} to {found.max():.0f})"] if len(found) else []
    return ", ".join(parts + [f"none in {len(shares) - len(found)} of {len(shares)}"] * (len(found) < len(shares)))


if __name__ == "__main__":
    auto_cli([run, table])
