r"""Methods and baselines on data sets x strong experts x seeds, one JSON line per run.

    python experiments/methods.py run --root DATA    # appends to experiments/results/methods.jsonl
    python experiments/methods.py table              # prints the table of that file as Markdown
    python experiments/methods.py run --method '[adagcn,graphmoe,ensemble,logit-average]' \
        --out experiments/results/baselines.jsonl
    python experiments/methods.py baselines          # prints that file and methods.jsonl
    python experiments/methods.py change BEFORE AFTER    # the same runs of two commits

Finished runs are skipped. Run k takes split k where a data set has several, and seed k. Settings
are those of `mowst train`. AdaGCN has no strong expert: where two of them have the same settings,
its runs are the same too, and one of them is enough.
"""

import time
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from baselines.adagcn import fit_adagcn
from baselines.ensemble import fit_ensemble
from baselines.graphmoe import fit_graphmoe
from baselines.logit_average import fit_logit_average
from common import (
    KEYS,
    RESULTS,
    append_missing,
    describe_run,
    load_task_of,
    make_line,
    make_spec,
    markdown,
    select_scores,
    spread,
)
from jsonargparse import auto_cli
from scipy.stats import sem, t

from mowst import seed_everything
from mowst.study.lines import read_lines

OUT = RESULTS / "methods.jsonl"
METHODS = ("mowst", "mowst-star", "weak", "strong")
BASELINES = {
    "adagcn": fit_adagcn,
    "graphmoe": fit_graphmoe,
    "ensemble": fit_ensemble,
    "logit-average": fit_logit_average,
}


def run(
    data: tuple[str, ...] = ("digits", "cora", "amherst41", "minesweeper", "computers"),
    strong: tuple[str, ...] = ("gcn", "sage"),
    method: tuple[str, ...] = METHODS,
    seeds: int = 3,
    first_seed: int = 0,
    root: str | None = None,
    out: Path = OUT,
    preset: str = "default",
    settings: dict[str, Any] | None = None,
) -> None:
    r"""Runs what the file does not hold yet.

    Args:
        data: names of data sets.
        strong: names of strong experts.
        method: names of methods and baselines.
        seeds: one more than the last seed.
        first_seed: the first seed.
        root: folder of the data sets.
        out: file to append to.
        preset: name of the preset.
        settings: settings that replace those of the preset.
    """

    def make(data: str, strong: str, method: str, seed: int) -> dict[str, Any]:
        if method in BASELINES:
            spec = make_spec(data, strong, "mowst", seed, settings, preset)
            return make_baseline_line(spec, method, root)
        return make_line(make_spec(data, strong, method, seed, settings, preset), root)

    runs = list(product(data, strong, method, range(first_seed, seeds)))
    append_missing(out, runs, make)


def make_baseline_line(spec: Any, baseline: str, root: str | None) -> dict[str, Any]:
    r"""Trains one baseline and returns its line."""
    task = load_task_of(spec, root)
    seed_everything(spec.seed)
    start = time.perf_counter()
    prob, details = BASELINES[baseline](task, spec.model_config, spec.train_config)
    line = describe_run(spec, task, method=baseline)
    line["seconds"] = time.perf_counter() - start
    for split in ("train", "val", "test"):
        line[split] = task.evaluate(prob, split)
    return line | {"details": details, "settings": spec.all_settings}


def table(out: Path = OUT, seeds: int | None = None) -> None:
    r"""Prints mean and unbiased standard deviation of the test scores in %, and paired differences.

    Args:
        out: file to read.
        seeds: number of runs of each method to use, counted from seed 0. All if None.
    """
    frame = pd.DataFrame(read_lines(out))
    if seeds is not None:
        frame = frame[frame.seed < seeds]
    rows = []
    for (data, strong), runs in frame.groupby(["data", "strong"], sort=False):
        row = {"data (runs)": f"{data} ({runs.seed.nunique()})", "GNN": strong}
        for method in reversed(METHODS):
            row[method] = spread(100 * runs[runs.method == method].test)
        for method in ("mowst", "mowst-star"):
            mixed = runs[runs.method == method]
            gain = mixed.test - select_scores(mixed.alone, "strong")
            row[f"{method} - its GNN alone"] = spread(100 * gain, signed=True)
        mixed = runs[runs.method == "mowst"]
        row["deferred"] = f"{100 * mixed.deferred_share.mean():.0f} %"
        row["s per run"] = f"{mixed.seconds.mean():.0f}"
        rows.append(row)
    print(markdown(rows))


def baselines(
    out: Path = RESULTS / "baselines.jsonl", compare: Path = OUT, seeds: int | None = None
) -> None:
    r"""Prints mean and unbiased standard deviation of the test scores of baselines in %, with those
    of the methods on the same seeds.

    Args:
        out: file of the baselines.
        compare: file of the methods.
        seeds: number of runs of each baseline to use, counted from seed 0. All if None.
    """
    runs = pd.DataFrame([*read_lines(out), *read_lines(compare)])
    if seeds is not None:
        runs = runs[runs.seed < seeds]
    rows = []
    ours = runs[runs.method.isin(BASELINES)]
    for (data, strong), group in ours.groupby(["data", "strong"], sort=False):
        same = runs[(runs.data == data) & (runs.strong == strong) & runs.seed.isin(group.seed)]
        row = {"data (runs)": f"{data} ({group.seed.nunique()})", "GNN": strong}
        for method in (*reversed(METHODS), *BASELINES):
            row[method] = spread(100 * same[same.method == method].test)
        rows.append(row)
    print(markdown(rows))


def compare(method: str, base: str, out: Path = OUT) -> None:
    r"""Prints the test scores of two methods in % and their paired differences, over the seeds that
    have both.

    Args:
        method: name of a method.
        base: name of the method that it is compared with.
        out: file to read.
    """
    keys = [key for key in KEYS if key != "method"]
    frame = pd.DataFrame(read_lines(out)).pivot(index=keys, columns="method", values="test")
    pairs = 100 * frame[[method, base]].dropna()
    rows = []
    for (data, strong), runs in pairs.groupby(level=["data", "strong"], sort=False):
        gain = runs[method] - runs[base]
        row = {"data (runs)": f"{data} ({len(runs)})", "GNN": strong}
        for name in (method, base):
            row[name] = spread(runs[name])
        row[f"{method} - {base}"] = spread(gain, signed=True)
        for name in ("min", "median", "max"):
            row[name] = f"{getattr(gain, name)():+.2f}"
        rows.append(row)
    print(markdown(rows))


def change(before: Path, after: Path) -> None:
    r"""Prints the test scores of the same runs in two files in %, and their paired differences with
    the 95 % interval of a t-distribution.

    Args:
        before: file of the runs of one commit.
        after: file of the runs of another commit.
    """
    files = [pd.DataFrame(read_lines(file)) for file in (before, after)]
    pairs = pd.merge(*files, on=KEYS, suffixes=(" before", " after"))
    rows = []
    for (data, strong, method), runs in pairs.groupby(KEYS[:3], sort=False):
        scores = {name: 100 * runs[f"test {name}"] for name in ("before", "after")}
        gain = scores["after"] - scores["before"]
        low, high = t.interval(0.95, len(gain) - 1, gain.mean(), sem(gain))
        row = {"data (runs)": f"{data} ({len(runs)})", "GNN": strong, "method": method}
        row |= {name: spread(score) for name, score in scores.items()}
        row["difference"] = f"{gain.mean():+.2f} ({low:+.2f} to {high:+.2f})"
        for name in scores:
            row[f"epochs {name}"] = f"{runs[f'evaluations {name}'].median():.0f}"
        rows.append(row)
    print(markdown(rows))


if __name__ == "__main__":
    auto_cli([run, table, baselines, compare, change])
