r"""Paired comparisons: two methods on the same splits with the same seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

LEAST_PAIRS = 3
LEVEL = 0.05
NOTHING = 1e-4  # points: scores are float32, and one node in a million is more


@dataclass(frozen=True)
class Difference:
    r"""What :func:`paired_difference` found, in points.

    Args:
        pairs: the number of pairs.
        mean: the mean difference, ours less theirs.
        std: its unbiased standard deviation over the pairs.
        low, high: a 95 % bootstrap interval of the mean; NaN for fewer than three pairs.
        p: the two-sided p-value; NaN where nothing can be tested.
    """

    pairs: int
    mean: float
    std: float
    low: float
    high: float
    p: float


def paired_difference(ours: pd.Series, theirs: pd.Series, ratio: float | None = 0.0, seed: int = 0) -> Difference:
    r"""The difference of two methods over the runs that both have.

    The interval is a percentile bootstrap over pairs. Of few pairs, or of splits that overlap, it is too narrow: it
    shows the spread of the pairs, and the test decides.

    Args:
        ours (Series): scores in %, indexed by what makes a pair, such as split and seed.
        theirs (Series): scores of the other method, indexed likewise.
        ratio (float, optional): see :func:`corrected_t_test`; :obj:`None` if it is not known, and nothing is tested.
            (default: :obj:`0.0`)
        seed (int, optional): seed of the bootstrap. (default: :obj:`0`)
    """
    difference = (ours - theirs).dropna().sort_index().to_numpy()
    pairs = len(difference)
    if not pairs:
        return Difference(0, *[math.nan] * 5)
    low = high = p = math.nan
    if pairs >= LEAST_PAIRS:
        low, high = _interval(difference, seed)
        p = math.nan if ratio is None else corrected_t_test(difference, ratio)
    std = float(np.std(difference, ddof=1)) if pairs > 1 else math.nan
    return Difference(pairs, float(difference.mean()), std, low, high, p)


def corrected_t_test(difference: np.ndarray, ratio: float = 0.0) -> float:
    r"""The two-sided p-value of the corrected resampled t-test of `"Inference for the Generalization Error"
    <https://doi.org/10.1023/A:1024068626366>`_ (Nadeau and Bengio), for :math:`n` differences on random splits of one
    graph, which share nodes and so vary less than new graphs would,

    .. math::
        t = \frac{\bar{d}}{\sqrt{\left( \frac{1}{n} + \rho \right) s^2}}, \qquad
        \rho = \frac{n_{\mathrm{test}}}{n_{\mathrm{train}}}

    with :math:`n - 1` degrees of freedom. :math:`\rho = 0` is the ordinary paired t-test, for seeds on one split.

    Differences that are all the same give NaN: scores on few nodes are coarse, so that this is no certainty.

    Shapes:
        - **difference:** :math:`(n)`
    """
    if np.ptp(difference) < NOTHING:
        return math.nan
    n = len(difference)
    t = difference.mean() / math.sqrt((1 / n + ratio) * difference.var(ddof=1))
    return float(2 * stats.t.sf(abs(t), df=n - 1))


def holm(p: Sequence[float]) -> np.ndarray:
    r"""P-values of one family, adjusted by Holm's step-down rule; those that are NaN stay so and do not count,

    .. math::
        \tilde{p}_{(i)} = \max_{j \leq i} \, \min \left( 1, (m - j + 1) \, p_{(j)} \right)

    Shapes:
        - **p:** :math:`(m)`; **output:** :math:`(m)`
    """
    adjusted = np.asarray(p, dtype=float).copy()
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[adjusted[known].argsort(kind="stable")]
    adjusted[order] = np.maximum.accumulate(adjusted[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return adjusted


def _interval(difference: np.ndarray, seed: int) -> tuple[float, float]:
    found = stats.bootstrap((difference,), np.mean, method="percentile", rng=np.random.default_rng(seed))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
