import math
import random

import numpy as np
import pytest

from mowst.study.tables import ALONE, difference_table, failed_table, results_table

NOISE = (0.0, 0.011, 0.004, 0.007, 0.009)
WOBBLE = (0.001, -0.001, 0.002, 0.0, -0.002)


@pytest.fixture
def lines(make_line):
    r"""On each data set mowst gains five points in every run, the weak expert only noise."""
    gains = {"strong": [0.0] * 5, "weak": WOBBLE[::-1], "mowst": [0.05 + w for w in WOBBLE]}
    return [
        make_line(data, strong, method, seed=k, test=0.8 + NOISE[k] + gain[k])
        for data in ("digits", "cora")
        for strong in ("gcn", "sage")
        for method, gain in gains.items()
        for k in range(5)
    ]


def row(table, **place):
    (found,) = table[
        np.logical_and.reduce([table[key] == value for key, value in place.items()])
    ].to_dict("records")
    return found


def test_mean_and_unbiased_std_in_percent(lines):
    found = row(results_table(lines), data="cora", strong="gcn", method="strong")
    scores = 80 + 100 * np.array(NOISE)
    assert (found["runs"], found["failed"]) == (5, 0)
    assert found["mean"] == pytest.approx(scores.mean()) and found["std"] == pytest.approx(
        scores.std(ddof=1)
    )
    assert (found["deferred_share"], found["seconds"], found["parameters"]) == (25, 1.5, 1234)


def test_baselines_come_first_and_the_order_of_lines_changes_nothing(lines):
    table = results_table(lines)
    assert list(table["method"][:3]) == ["weak", "strong", "mowst"]
    random.Random(0).shuffle(lines)
    assert results_table(lines).equals(table) and difference_table(lines).equals(
        difference_table(lines[::-1])
    )


def test_the_newest_line_of_an_id_counts(make_line):
    failed = make_line(status="failed", error="ValueError: no")
    again = make_line(id=failed["id"], test=0.5)
    assert row(results_table([failed, again]), method="mowst")["mean"] == 50
    assert row(results_table([again, failed]), method="mowst")["failed"] == 1


def test_failed_runs_are_counted_and_listed(make_line):
    failed = make_line(seed=1, status="failed", error="ValueError: no", metric=None)
    for key in ("test", "alone", "route", "deferred_share"):
        del failed[key]
    found = row(results_table([make_line(), failed]), method="mowst")
    assert (found["runs"], found["failed"], found["mean"]) == (1, 1, 80)
    assert row(failed_table([make_line(), failed]), id=failed["id"])["error"] == "ValueError: no"
    assert math.isnan(row(results_table([failed]), method="mowst")["mean"])


def test_only_a_supported_best_is_marked(lines):
    table = results_table(lines)
    assert set(table[table["best"]]["method"]) == {"mowst"} and table["best"].sum() == 4
    no_better = [line for line in lines if line["method"] != "mowst"]
    assert not results_table(no_better)["best"].any()


def test_the_best_is_the_lowest_if_lower_is_better(lines):
    errors = [line | {"test": 1 - line["test"], "higher_is_better": False} for line in lines]
    table = results_table(errors)
    assert set(table[table["best"]]["method"]) == {"mowst"} and table["best"].sum() == 4


def test_the_best_must_differ_from_every_other_method(lines, make_line):
    near = [
        {
            **line,
            "id": line["id"] + "star",
            "method": "mowst-star",
            "test": line["test"] - 0.004 * WOBBLE[line["seed"]],
        }
        for line in lines
        if line["method"] == "mowst"
    ]
    assert not results_table([*lines, *near])["best"].any()


def test_two_pairs_support_nothing(lines):
    assert not results_table([line for line in lines if line["seed"] < 2])["best"].any()


def test_differences_are_paired_and_holm_counts_the_rows_of_one_gnn(lines):
    table = difference_table(lines)
    found = row(table, data="cora", strong="gcn", against="strong")
    assert (found["method"], found["pairs"], found["mean"]) == ("mowst", 5, pytest.approx(5))
    assert found["std"] == pytest.approx(100 * np.std(WOBBLE, ddof=1))
    ours = 80 + 100 * (np.array(NOISE) + WOBBLE) + 5
    assert row(table, data="cora", strong="gcn", against=ALONE)["mean"] == pytest.approx(
        (ours - 78).mean()
    )
    of_gcn = table[table["strong"] == "gcn"]
    assert len(of_gcn) == 4 and of_gcn["p_holm"].min() == pytest.approx(4 * of_gcn["p"].min())


def test_random_splits_are_tested_with_their_sizes_or_not_at_all(lines):
    on_splits = [line | {"split": line["seed"]} for line in lines]
    sized = [line | {"sizes": {"train": 200, "val": 100, "test": 100}} for line in on_splits]
    place = {"data": "cora", "strong": "gcn", "against": "strong"}
    seeds, splits, unknown = (row(difference_table(x), **place) for x in (lines, sized, on_splits))
    assert seeds["p"] < splits["p"] < 0.05 and math.isnan(unknown["p"])
    assert results_table(sized)["best"].sum() == 4 and not results_table(on_splits)["best"].any()


def test_runs_that_differ_in_a_setting_are_not_mixed(make_line):
    lines = [
        make_line(seed=k, settings={"lr": lr, "dropout": 0.5})
        for lr in (0.01, 0.1)
        for k in range(2)
    ]
    assert list(results_table(lines)["method"]) == ["mowst, lr 0.01", "mowst, lr 0.1"]
    named = [line | {"name": "bold"} if line["settings"]["lr"] == 0.1 else line for line in lines]
    assert sorted(results_table(named)["method"]) == ["mowst", "mowst, bold"]


def test_a_run_with_an_override_is_another_variant(make_line):
    overrides = ({}, {"weak.lr": 0.03})
    table = results_table([make_line(settings={"lr": 0.01} | extra) for extra in overrides])
    assert list(table["method"]) == ["mowst", "mowst, weak.lr 0.03"]


def test_methods_of_ones_own_need_no_registry(make_line):
    lines = []
    for method, has_gate in (("b.Mixture", True), ("a.Single", False), ("strong", False)):
        for seed in range(3):
            lines.append(make_line(method=method, seed=seed, has_gate=has_gate, alone={}))
    lines += [make_line(method="mowst", seed=seed) for seed in range(3)]
    for line in lines[6:]:
        del line["has_gate"]  # lines of registered methods did not have it
    assert list(results_table(lines)["method"]) == ["strong", "a.Single", "mowst", "b.Mixture"]
    assert set(difference_table(lines)["method"]) == {"mowst", "b.Mixture"}
    unknown = make_line(method="gone")
    del unknown["has_gate"]
    assert not results_table([unknown])["has_gate"].any()


def test_runs_that_nothing_tells_apart_are_refused(make_line):
    with pytest.raises(ValueError, match="give their rows a name each"):
        results_table([make_line(), make_line()])


def test_published_values_stay_beside_ours(make_line):
    published = {"mean": 81.0, "std": 0.4, "certified": False, "source": "table 2"}
    table = results_table([make_line(published=published), make_line(method="weak")])
    found = row(table, method="mowst")
    assert (found["published"], found["published_std"], found["certified"]) == (81, 0.4, False)
    assert math.isnan(row(table, method="weak")["published"])


def test_no_lines_make_empty_tables():
    assert results_table([]).empty and difference_table([]).empty and failed_table([]).empty
