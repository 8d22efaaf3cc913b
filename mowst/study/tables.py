r"""The numbers of a study: scores by data set, strong expert and method, and their differences."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mowst.study.lines import select_newest
from mowst.study.statistics import LEVEL, Difference, holm, paired_difference
from mowst.train.config import OVERRIDES
from mowst.train.methods import METHODS, find_method

if TYPE_CHECKING:
    import pandas as pd

Line = dict[str, Any]
PLACE = ["data", "strong", "method"]
ALONE = "its strong alone"
MEANS = (
    *("val", "expected", "deferred_share", "seconds", "total_seconds", "peak_mib"),
    "parameters",
)
PERCENT = ("test", "val", "expected", "deferred_share")
PUBLISHED = {
    "mean": "published",
    "std": "published_std",
    "certified": "certified",
    "source": "source",
}


def sort_lines(lines: Sequence[Line]) -> list[Line]:
    r"""Returns the newest line of each id, in an order that does not depend on which run ended
    first.
    """

    def place(line: Line) -> tuple[Any, ...]:
        order = rank_method(line["method"], read_has_gate(line))
        run = str(line["split"]), line["seed"], line["id"]
        return line["data"], line["strong"], order, *run

    return sorted(select_newest(lines), key=place)


def read_has_gate(line: Line) -> bool:
    r"""Whether the method of a line trains a mixture. For a line that does not hold it, the
    registered methods are looked up, and an unknown method is taken for a single expert.
    """
    if "has_gate" in line:
        return line["has_gate"]
    method = line.get("method", "")
    return method in METHODS.names() and find_method(method).has_gate


def rank_method(method: str, has_gate: bool) -> tuple[bool, int, str]:
    r"""Returns the sort key of a method: single experts before mixtures, in the order of their
    registration, and unknown methods last.
    """
    known = METHODS.names()
    base = base_method(method)
    return has_gate, known.index(base) if base in known else len(known), method


def base_method(label: str) -> str:
    r"""Returns the method of a label, which may also have the settings of a variant."""
    return label.partition(",")[0]


def run_table(lines: Sequence[Line]) -> "pd.DataFrame":
    r"""Returns one row for each run, with scores and shares in %. If runs of one method differ in a
    setting, their :obj:`method` is followed by their names, or by the settings that differ.

    Raises:
        ValueError: If two finished runs of a method have the same split and seed, and neither
            their settings nor their names differ.
    """
    import pandas as pd

    lines = sort_lines(lines)
    labels = _label_methods(lines)
    rows = [_make_row(line, labels[line["id"]]) for line in lines]
    runs = pd.DataFrame(rows, columns=[*_make_row({}, "")])
    runs = runs.astype({"finished": bool, "has_gate": bool})
    finished = runs[runs["finished"]]
    twice = finished.duplicated([*PLACE, "split", "seed"], keep=False)
    if twice.any():
        first, second = finished[twice].iloc[:2].itertuples()
        raise ValueError(
            f"the runs {first.id} and {second.id} are both '{first.method}' on {first.data} with "
            f"{first.strong}, split {first.split}, seed {first.seed}, with the same settings: give "
            "their rows a name each"
        )
    return runs


def failed_table(lines: Sequence[Line]) -> "pd.DataFrame":
    r"""Returns one row for each run whose newest line is a failure."""
    import pandas as pd

    columns = ["id", *PLACE, "split", "seed", "error"]
    rows = []
    for line in sort_lines(lines):
        if line["status"] == "failed":
            rows.append({key: line.get(key) for key in columns})
    return pd.DataFrame(rows, columns=columns)


def results_table(lines: Sequence[Line]) -> "pd.DataFrame":
    r"""Returns one row for each data set, strong expert and method: the number of finished and
    failed :obj:`runs`, mean and unbiased std of the test score in %, the means of other numbers of
    the lines, and the published value.

    :obj:`best` marks the best mean of a data set and strong expert if it differs from all other
    methods there by a paired test. The largest of their p-values counts, corrected by Holm's rule
    over the data sets of one strong expert.

    Raises:
        ValueError: See :func:`run_table`.
    """
    import pandas as pd

    runs = run_table(lines)
    rows = [_summarize(group) for _, group in runs.groupby(PLACE, sort=False)]
    table = pd.DataFrame(rows, columns=[*_summarize(runs.iloc[:0])])
    table = table.astype({"published": float, "published_std": float, "has_gate": bool})
    best = _find_best(runs[runs["finished"]])
    table["best"] = table.set_index(PLACE).index.isin(best)
    return table


def difference_table(lines: Sequence[Line]) -> "pd.DataFrame":
    r"""Returns one row for each mixture and reference, in points. References are the strong expert
    trained separately, on the same splits with the same seeds, and the strong expert of the same
    runs before the other parts were trained. The p-values :obj:`p_holm` are corrected by Holm's
    rule over the rows of one strong expert.

    Raises:
        ValueError: See :func:`run_table`.
    """
    import pandas as pd

    runs = run_table(lines)
    rows = []
    for (data, strong), group in runs[runs["finished"]].groupby(["data", "strong"], sort=False):
        strong_alone = group[group["kind"] == "strong"]["method"].unique()
        for method in group[group["has_gate"]]["method"].unique():
            for reference in (*strong_alone, ALONE):
                found = _compare(group, method, reference)
                if found.pairs > 0:
                    place = {"data": data, "strong": strong, "method": method}
                    rows.append({**place, "against": reference, **vars(found)})
    table = pd.DataFrame(rows, columns=[*PLACE, "against", *Difference.__dataclass_fields__])
    return table.assign(p_holm=table.groupby("strong", sort=False)["p"].transform(holm))


def _make_row(line: Line, label: str) -> dict[str, Any]:
    row = {key: line.get(key) for key in ("id", "data", "strong", "seed", "metric")}
    row["split"] = str(line.get("split"))
    row["method"] = label
    row["higher_is_better"] = line.get("higher_is_better", True)
    row["kind"] = line.get("method")
    row["has_gate"] = read_has_gate(line)
    row["finished"] = line.get("status") == "finished"
    sizes = line.get("sizes") or {}
    row["ratio"] = sizes["test"] / sizes["train"] if "test" in sizes else math.nan
    for key in ("test", *MEANS):
        value = math.nan if line.get(key) is None else float(line[key])
        row[key] = 100 * value if key in PERCENT else value
    alone = line.get("alone", {}).get("strong", {}).get("test")
    row["alone"] = math.nan if alone is None else 100 * alone
    published = line.get("published") or {}
    for key, column in PUBLISHED.items():
        row[column] = published.get(key)
    return row


def _label_methods(lines: Sequence[Line]) -> dict[str, str]:
    # The label of each run, by id.
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(tuple(line[key] for key in PLACE), []).append(line)
    labels = {}
    for line in lines:
        labels[line["id"]] = _label_method(line, groups[tuple(line[key] for key in PLACE)])
    return labels


def _label_method(line: Line, group: Sequence[Line]) -> str:
    method = line["method"]
    # The variants of a group are the settings and names in it. Names are labels if each variant
    # has its own.
    names = {json.dumps([other["name"], _dump_settings(other)]): other["name"] for other in group}
    if 1 < len(set(names.values())) == len(names):
        default = f"{line['data']} {line['strong']} {method}"
        return method if line["name"] == default else f"{method}, {line['name']}"
    dumped = [_dump_settings(other) for other in group]
    label = [method]
    for key, value in _dump_settings(line).items():
        values = {settings.get(key) for settings in dumped}
        if key not in OVERRIDES:
            values.discard(None)  # a line lacks an override that was not given, and nothing else
        if len(values) > 1:
            label.append(f"{key} {value}")
    return ", ".join(label)


def _dump_settings(line: Line) -> dict[str, str]:
    # As JSON, which can be compared. The metric of a failed run may be unknown.
    settings = {**line.get("settings", {}), "metric": line.get("metric")}
    if not settings["metric"]:
        del settings["metric"]
    return {key: json.dumps(value) for key, value in settings.items()}


def _summarize(group: "pd.DataFrame") -> dict[str, Any]:
    finished = group[group["finished"]]
    row: dict[str, Any] = {}
    for key in (*PLACE, "metric", "has_gate"):
        row[key] = _first_value(group[key])
    row["runs"] = len(finished)
    row["failed"] = len(group) - len(finished)
    row["mean"] = finished["test"].mean()
    row["std"] = finished["test"].std(ddof=1)
    row["expected_std"] = finished["expected"].std(ddof=1)
    for key in MEANS:
        row[key] = finished[key].mean()
    for key in PUBLISHED.values():
        row[key] = _first_value(group[key])
    return row


def _first_value(column: "pd.Series") -> Any:
    return next(iter(column.dropna()), None)


def _find_best(runs: "pd.DataFrame") -> list[tuple[str, str, str]]:
    found = []
    for strong, groups in runs.groupby("strong", sort=False):
        places, p = [], []
        for data, group in groups.groupby("data", sort=False):
            top, largest = _find_top(group)
            places.append((data, strong, top))
            p.append(largest)
        for place, adjusted in zip(places, holm(p), strict=True):
            if adjusted < LEVEL:
                found.append(place)
    return found


def _find_top(group: "pd.DataFrame") -> tuple[str, float]:
    # The method with the best mean, and the largest p-value of its differences to the others.
    means = group.groupby("method", sort=False)["test"].mean()
    top = means.idxmax() if group["higher_is_better"].all() else means.idxmin()
    p = [_compare(group, top, other).p for other in means.index if other != top]
    if not p or any(map(math.isnan, p)):
        return top, math.nan
    return top, max(p)


def _compare(group: "pd.DataFrame", method: str, reference: str) -> Difference:
    ours = group[group["method"] == method].set_index(["split", "seed"])
    theirs = ours["alone"]
    if reference != ALONE:
        theirs = group[group["method"] == reference].set_index(["split", "seed"])["test"]
    ratio = 0.0
    if ours.index.get_level_values("split").nunique() > 1:
        ratio = ours["ratio"].mean()
    return paired_difference(ours["test"], theirs, ratio=None if math.isnan(ratio) else ratio)
