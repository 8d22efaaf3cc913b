import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mowst.study.statistics import corrected_t_test, holm, paired_difference

DIFFERENCE = np.array([0.5, 1.5, 0.75, -0.25, 1.0])


def series(values):
    return pd.Series(
        values, index=pd.MultiIndex.from_product([["0"], range(len(values))]), dtype=float
    )


def test_without_overlap_the_test_is_the_paired_t_test():
    assert corrected_t_test(DIFFERENCE) == pytest.approx(stats.ttest_1samp(DIFFERENCE, 0).pvalue)


def test_overlap_divides_the_statistic_by_the_root_of_one_plus_n_times_the_ratio():
    n, ratio = len(DIFFERENCE), 0.25
    plain = stats.ttest_1samp(DIFFERENCE, 0).statistic
    expected = 2 * stats.t.sf(plain / math.sqrt(1 + n * ratio), n - 1)
    assert corrected_t_test(DIFFERENCE, ratio) == pytest.approx(expected)
    assert expected > corrected_t_test(DIFFERENCE)


def test_the_p_value_knows_no_direction():
    assert corrected_t_test(-DIFFERENCE, 0.5) == pytest.approx(corrected_t_test(DIFFERENCE, 0.5))


def test_only_pairs_count_whatever_their_order():
    ours, theirs = series([80.0, 81.0, 83.0, 90.0]), series([79.0, 81.0, 80.0])
    found = paired_difference(ours[::-1], theirs)
    assert (found.pairs, found.mean, found.std) == (
        3,
        pytest.approx(4 / 3),
        pytest.approx(np.std([1, 0, 3], ddof=1)),
    )
    assert found == paired_difference(ours[:3], theirs)


def test_the_interval_lies_within_the_differences_around_their_mean_and_is_repeatable():
    found = paired_difference(series(DIFFERENCE), series(np.zeros(5)))
    assert DIFFERENCE.min() <= found.low < found.mean < found.high <= DIFFERENCE.max()
    assert found == paired_difference(series(DIFFERENCE), series(np.zeros(5)))


def test_the_interval_of_many_pairs_is_the_normal_one():
    many = np.random.default_rng(0).normal(1, 2, 400)
    found = paired_difference(series(many), series(np.zeros(400)))
    half = 1.96 * many.std(ddof=1) / 20
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)


@pytest.mark.parametrize("pairs", [0, 1, 2])
def test_of_fewer_than_three_pairs_nothing_is_claimed(pairs):
    found = paired_difference(series(DIFFERENCE[:pairs]), series(np.zeros(pairs)))
    assert found.pairs == pairs and all(map(math.isnan, (found.p, found.low, found.high)))


def test_neither_equal_differences_nor_splits_of_unknown_size_are_tested():
    assert math.isnan(paired_difference(series([81.0, 82.0, 83.0]), series([80.0, 81.0, 82.0])).p)
    assert math.isnan(paired_difference(series(DIFFERENCE), series(np.zeros(5)), ratio=None).p)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_holm_leaves_out_what_was_not_tested():
    adjusted = holm([math.nan, 0.04, 0.01])
    assert math.isnan(adjusted[0]) and adjusted[1:] == pytest.approx([0.04, 0.02])
    assert len(holm([])) == 0
