r"""The numbers of a study: one row for each data set, strong expert and method, and the differences between methods."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pandas as pd

from mowst.study.lines import newest_lines
from mowst.study.paired import LEVEL, Difference, holm, paired_difference
from mowst.train.config import MIXTURES

Line = dict[str, Any]
CELL = ["data", "strong", "method"]
ALONE = "its strong alone"
COLUMNS = ("strong", "weak", "mowst-star", "mowst")
MEANS = ("val", "expected", "weak_share", "seconds", "total_seconds", "peak_mib", "parameters")
PERCENT = ("test", "val", "expected", "weak_share")
PUBLISHED = {"mean": "published", "std": "published_std", "certified": "certified", "source": "source"}


def sorted_lines(lines: Sequence[Line]) -> list[Line]:
    r"""The newest line of each id, in an order that does not depend on which run ended first."""
    return sorted(newest_lines(lines), key=_place)


def column_order(method: str) -> tuple[int, str]:
    r"""What methods are sorted by: the baselines first, those that are not known last."""
    kind = kind_of(method)
    return COLUMNS.index(kind) if kind in COLUMNS else len(COLUMNS), method


def kind_of(method: str) -> str:
    r"""The method itself, of one that goes on with what tells its runs from others."""
    return method.partition(",")[0]


def run_table(lines: Sequence[Line]) -> pd.DataFrame:
    r"""One row for each run, with scores and shares in %. Runs of one method that differ in a setting are told apart:
    their :obj:`method` goes on with their names, or where these are alike, with the settings that differ.

    Raises:
        ValueError: if two finished runs of a method have one split and seed, and nothing tells them apart.
    """
    lines = sorted_lines(lines)
    labels = _labels(lines)
    rows = [_row(line, labels[line["id"]]) for line in lines]
    runs = pd.DataFrame(rows, columns=[*_row({}, "")]).astype({"finished": bool})
    finished = runs[runs["finished"]]
    if (twice := finished.duplicated([*CELL, "split", "seed"], keep=False)).any():
        first, second = finished[twice].iloc[:2].itertuples()
        raise ValueError(
            f"the runs {first.id} and {second.id} are both '{first.method}' on {first.data} with {first.strong}, split "
            f"{first.split}, seed {first.seed}, and no setting tells them apart: give their rows a name each"
        )
    return runs


def failed_table(lines: Sequence[Line]) -> pd.DataFrame:
    r"""One row for each run whose newest line says that it failed."""
    failed = [line for line in sorted_lines(lines) if line["status"] == "failed"]
    columns = ["id", *CELL, "split", "seed", "error"]
    return pd.DataFrame([{key: line.get(key) for key in columns} for line in failed], columns=columns)


def results_table(lines: Sequence[Line]) -> pd.DataFrame:
    r"""One row for each data set, strong expert and method: the number of finished and of failed :obj:`runs`, mean and
    unbiased std of the test score in %, the means of what else a line holds, and the published value.

    :obj:`best` marks the highest mean of a data set and strong expert where it is supported: it differs from every
    other method there by a paired test, so that the largest of their p-values counts, corrected by Holm's rule over
    the data sets of one strong expert.

    Raises:
        ValueError: see :func:`run_table`.
    """
    runs = run_table(lines)
    rows = [_summary(cell) for _, cell in runs.groupby(CELL, sort=False)]
    table = pd.DataFrame(rows, columns=[*_summary(runs.iloc[:0])])
    table = table.astype({"published": float, "published_std": float})
    table["best"] = table.set_index(CELL).index.isin(_best(runs[runs["finished"]]))
    return table


def difference_table(lines: Sequence[Line]) -> pd.DataFrame:
    r"""One row for each mixture and what it is held against: the strong expert trained separately, on the same splits
    with the same seeds, and that of the same runs, as it was before the others came in. In points; the p-values
    :obj:`p_holm` are corrected by Holm's rule over the rows of one strong expert.

    Raises:
        ValueError: see :func:`run_table`.
    """
    runs = run_table(lines)
    rows: list[dict[str, Any]] = []
    for (data, strong), group in runs[runs["finished"]].groupby(["data", "strong"], sort=False):
        for method in group[group["kind"].isin(MIXTURES)]["method"].unique():
            references = [*group[group["kind"] == "strong"]["method"].unique(), ALONE]
            found = [(reference, _difference(group, method, reference)) for reference in references]
            place = {"data": data, "strong": strong, "method": method}
            rows += [{**place, "against": reference, **vars(d)} for reference, d in found if d.pairs]
    table = pd.DataFrame(rows, columns=[*CELL, "against", *Difference.__dataclass_fields__])
    return table.assign(p_holm=table.groupby("strong", sort=False)["p"].transform(holm))


def _place(line: Line) -> tuple[Any, ...]:
    run = (str(line["split"]), line["seed"], line["id"])
    return line["data"], line["strong"], column_order(line["method"]), *run


def _row(line: Line, label: str) -> dict[str, Any]:
    row = {key: line.get(key) for key in ("id", "data", "strong", "split", "seed", "metric")}
    numbers = {key: math.nan if line.get(key) is None else float(line[key]) for key in ("test", *MEANS)}
    sizes, published = line.get("sizes"), line.get("published") or {}
    return {
        **row,
        "method": label,
        "kind": line.get("method"),
        "split": str(line.get("split")),
        "finished": line.get("status") == "finished",
        "ratio": sizes["test"] / sizes["train"] if sizes else math.nan,
        **{key: 100 * value if key in PERCENT else value for key, value in numbers.items()},
        "alone": 100 * line.get("alone", {}).get("strong", {}).get("test", math.nan),
        **{column: published.get(key) for key, column in PUBLISHED.items()},
    }


def _labels(lines: Sequence[Line]) -> dict[str, str]:
    # The method of each run, by id, and what tells it from others of this method.
    cells: dict[tuple[str, ...], list[Line]] = defaultdict(list)
    for line in lines:
        cells[line["data"], line["strong"], line["method"]].append(line)
    return {line["id"]: _label(line, cell) for cell in cells.values() for line in cell}


def _label(line: Line, cell: Sequence[Line]) -> str:
    variants = {json.dumps([other["name"], _settings(other)]): other["name"] for other in cell}
    if 1 < len(set(variants.values())) == len(variants):
        unnamed = line["name"] == f"{line['data']} {line['strong']} {line['method']}"
        return line["method"] if unnamed else f"{line['method']}, {line['name']}"
    values: dict[str, set[str]] = defaultdict(set)
    for other in cell:
        for key, value in _settings(other).items():
            values[key].add(value)
    differing = [f"{key} {value}" for key, value in _settings(line).items() if len(values[key]) > 1]
    return ", ".join([line["method"], *differing])


def _settings(line: Line) -> dict[str, str]:
    # As JSON, which can be compared; a failed run may not know its metric.
    chosen = {**line.get("settings", {}), "metric": line.get("metric")}
    return {key: json.dumps(value) for key, value in chosen.items() if key != "metric" or value}


def _summary(cell: pd.DataFrame) -> dict[str, Any]:
    finished = cell[cell["finished"]]
    first = {key: next(iter(cell[key].dropna()), None) for key in (*CELL, "metric", *PUBLISHED.values())}
    return {
        **{key: first.pop(key) for key in (*CELL, "metric")},
        "runs": len(finished),
        "failed": len(cell) - len(finished),
        "mean": finished["test"].mean(),
        "std": finished["test"].std(ddof=1),
        "expected_std": finished["expected"].std(ddof=1),
        **{key: finished[key].mean() for key in MEANS},
        **first,
    }


def _best(runs: pd.DataFrame) -> list[tuple[str, str, str]]:
    found = []
    for strong, groups in runs.groupby("strong", sort=False):
        tops = {data: _top(group) for data, group in groups.groupby("data", sort=False)}
        supported = holm([p for _, p in tops.values()]) < LEVEL
        found += [(data, strong, top) for (data, (top, _)), best in zip(tops.items(), supported, strict=True) if best]
    return found


def _top(group: pd.DataFrame) -> tuple[str, float]:
    # The method with the highest mean, and the largest p-value of its differences from the others.
    means = group.groupby("method", sort=False)["test"].mean()
    top = means.idxmax()
    p = [_difference(group, top, other).p for other in means.index if other != top]
    return top, math.nan if not p or any(map(math.isnan, p)) else max(p)


def _difference(group: pd.DataFrame, method: str, reference: str) -> Difference:
    ours = group[group["method"] == method].set_index(["split", "seed"])
    theirs = ours["alone"] if reference == ALONE else _scores(group, reference)
    splits = ours.index.get_level_values("split").nunique()
    ratio = 0.0 if splits == 1 else ours["ratio"].mean()
    return paired_difference(ours["test"], theirs, ratio=None if math.isnan(ratio) else ratio)


def _scores(group: pd.DataFrame, method: str) -> pd.Series:
    return group[group["method"] == method].set_index(["split", "seed"])["test"]
