r"""Paired comparisons of two methods on the same splits with the same seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

LEAST_PAIRS = 3
LEVEL = 0.05
NOTHING = 1e-4  # points: scores are float32, and one node in a million is more


@dataclass(frozen=True)
class Difference:
    r"""The result of :func:`paired_difference`, in points.

    Args:
        pairs: The number of pairs.
        mean: The mean difference, ours minus theirs.
        std: Its unbiased standard deviation over the pairs.
        low, high: A 95 % bootstrap interval of the mean; NaN for fewer than three pairs.
        p: The two-sided p-value; NaN where no test is possible.
    """

    pairs: int
    mean: float
    std: float
    low: float
    high: float
    p: float


def paired_difference(
    ours: "pd.Series", theirs: "pd.Series", ratio: float | None = 0.0, seed: int = 0
) -> Difference:
    r"""Returns the difference of two methods over the runs that both have.

    The interval is a percentile bootstrap over pairs. It is too narrow for few pairs and for
    overlapping splits: it shows the spread of the pairs, and the test decides.

    Args:
        ours (Series): Scores in %, indexed by what identifies a pair, such as split and seed.
        theirs (Series): Scores of the other method with the same index.
        ratio (float, optional): See :func:`corrected_t_test`; :obj:`None` if it is unknown, and
            nothing is tested. (default: :obj:`0.0`)
        seed (int, optional): The seed of the bootstrap. (default: :obj:`0`)
    """
    difference = (ours - theirs).dropna().sort_index().to_numpy()
    pairs = len(difference)
    if pairs == 0:
        return Difference(0, *[math.nan] * 5)
    low = high = p = std = math.nan
    if pairs > 1:
        std = float(np.std(difference, ddof=1))
    if pairs >= LEAST_PAIRS:
        low, high = _bootstrap_interval(difference, seed)
        if ratio is not None:
            p = corrected_t_test(difference, ratio)
    return Difference(pairs, float(difference.mean()), std, low, high, p)


def corrected_t_test(difference: np.ndarray, ratio: float = 0.0) -> float:
    r"""Returns the two-sided p-value of the corrected resampled t-test of `"Inference for the
    Generalization Error" <https://doi.org/10.1023/A:1024068626366>`_ (Nadeau and Bengio), for
    :math:`n` differences on random splits of one graph, which share nodes and so vary less than
    new graphs would,

    .. math::
        t = \frac{\bar{d}}{\sqrt{\left( \frac{1}{n} + \rho \right) s^2}}, \qquad
        \rho = \frac{n_{\mathrm{test}}}{n_{\mathrm{train}}}

    with :math:`n - 1` degrees of freedom. :math:`\rho = 0` is the ordinary paired t-test, for seeds
    on one split. The p-value of identical differences is NaN: scores on few nodes are coarse, so
    they are no certainty.

    Shapes:
        - **difference:** :math:`(n)`
    """
    from scipy import stats

    if np.ptp(difference) < NOTHING:
        return math.nan
    n = len(difference)
    t = difference.mean() / math.sqrt((1 / n + ratio) * difference.var(ddof=1))
    return float(2 * stats.t.sf(abs(t), df=n - 1))


def holm(p: Sequence[float]) -> np.ndarray:
    r"""Returns the p-values of one family, adjusted by Holm's step-down rule. NaN values stay NaN
    and do not count,

    .. math::
        \tilde{p}_{(i)} = \max_{j \leq i} \, \min \left( 1, (m - j + 1) \, p_{(j)} \right)

    Shapes:
        - **p**, **output:** :math:`(m)`
    """
    adjusted = np.asarray(p, dtype=float).copy()
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[adjusted[known].argsort(kind="stable")]
    scaled = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(scaled).clip(max=1)
    return adjusted


def _bootstrap_interval(difference: np.ndarray, seed: int) -> tuple[float, float]:
    from scipy import stats

    rng = np.random.default_rng(seed)
    found = stats.bootstrap((difference,), np.mean, method="percentile", rng=rng)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
