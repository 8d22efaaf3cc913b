import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from common import show
from verdict import between, compare

STRONG = np.array([0.80, 0.82, 0.81, 0.79])
MOWST = np.array([0.81, 0.85, 0.82, 0.81])


def make_lines(data="digits", splits=(0, 0, 0, 0), mowst=MOWST, weak_loss=2.0):
    r"""Four lines of `controls.py` with the fields that a verdict reads."""
    return [
        {
            "data": data,
            "strong": "gcn",
            "method": "controls",
            "split": split,
            "sizes": {"train": 100, "val": 50, "test": 200},
            "scores": {"weak": 0.7, "strong": strong, "mowst": ours},
            "constant": {"losses": {"weak": weak_loss, "strong": 1.0}},
        }
        for split, strong, ours in zip(splits, STRONG, mowst, strict=True)
    ]


def compare_one(**settings):
    return compare(pd.DataFrame(make_lines(**settings)), "mowst").iloc[0]


def test_seeds_on_one_split_have_the_ordinary_interval_and_test():
    found, expected = compare_one(), stats.ttest_rel(100 * MOWST, 100 * STRONG)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx(
        (interval.low, interval.high, expected.pvalue)
    )
    assert (found.runs, found.score, found["mean"]) == pytest.approx((4, 80.5, 1.75))


def test_another_base_replaces_the_gnn():
    found = compare(pd.DataFrame(make_lines()), "mowst", "weak").iloc[0]
    assert (found.score, found["mean"]) == pytest.approx((70.0, 12.25))


def test_splits_that_overlap_have_a_wider_interval():
    one, many = compare_one(), compare_one(splits=(0, 1, 2, 3))
    assert (many.high - many.low) / (one.high - one.low) == pytest.approx(
        (1 + 4 * 200 / 100) ** 0.5
    )
    assert many.p > one.p and many["mean"] == one["mean"]


@pytest.mark.parametrize(("weak_loss", "better"), [(2.0, 1.75), (0.5, 12.25)])
def test_the_better_expert_is_the_one_of_less_validation_loss(weak_loss, better):
    assert compare_one(weak_loss=weak_loss).better == pytest.approx(better)


def test_holm_counts_the_pairs_of_one_gnn():
    frame = pd.DataFrame(make_lines() + make_lines("cora", mowst=MOWST - 0.02))
    alone, both = compare(pd.DataFrame(make_lines()), "mowst"), compare(frame, "mowst")
    assert alone["Holm"][0] == alone["p"][0]
    assert both["Holm"][0] == pytest.approx(2 * both["p"][0])


def test_runs_are_compared_with_the_same_ones_in_another_file(tmp_path, capsys):
    here, there = make_lines(), make_lines(mowst=MOWST - 0.02)[::-1]
    for name, runs, seeds in (("here", here, range(4)), ("there", there[:3], (3, 2, 1))):
        rows = [
            json.dumps(run | {"seed": seed}) + "\n" for run, seed in zip(runs, seeds, strict=True)
        ]
        (tmp_path / name).write_text("".join(rows))
    between(tmp_path / "here", tmp_path / "there")
    assert (
        "| digits (3) | gcn | +2.00 | +2.00 to +2.00 | +2.00 | +2.00 |" in capsys.readouterr().out
    )


def test_a_table_replaces_the_previous_one(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\n<!-- end -->\nb\n<!-- two -->\nold\n<!-- end -->\nc\n")
    for _ in range(2):
        show("new", page, "two")
    assert (
        page.read_text() == "a\n<!-- one -->\n<!-- end -->\nb\n<!-- two -->\nnew\n<!-- end -->\nc\n"
    )
    with pytest.raises(ValueError, match=r"page.md has no line '<!-- three -->'"):
        show("new", page, "three")
