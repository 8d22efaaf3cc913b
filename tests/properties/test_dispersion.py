r"""Both dispersions on arbitrary logits and on arbitrary segments of the simplex, its faces
included.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mowst.nn.dispersion import DISPERSIONS

BOTH = pytest.mark.parametrize("dispersion", DISPERSIONS.values(), ids=DISPERSIONS)
LOGITS = st.one_of(st.floats(-20, 20, width=32), st.sampled_from([-1e4, 0.0, 1e-6, 1e4]))


@st.composite
def predictions(draw):
    r"""Logits of five nodes, an order of their classes, a shift."""
    classes = draw(st.integers(2, 9))
    values = draw(st.lists(LOGITS, min_size=5 * classes, max_size=5 * classes))
    order = torch.tensor(draw(st.permutations(range(classes))))
    return torch.tensor(values).view(5, classes), order, draw(st.floats(-1e3, 1e3, width=32))


@BOTH
def test_in_the_unit_interval_and_unmoved_by_class_order_and_shift(dispersion):
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(predictions())
    def check(prediction):
        logits, order, shift = prediction
        value = dispersion(logits)
        assert ((value >= 0) & (value <= 1)).all()
        torch.testing.assert_close(dispersion(logits[:, order]), value, rtol=1e-5, atol=1e-6)
        exact = dispersion(logits.double())
        torch.testing.assert_close(dispersion(logits.double() + shift), exact, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-5)

    check()


@BOTH
def test_convex_on_the_simplex(dispersion):
    part = st.floats(0, 1)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(part, part), min_size=2, max_size=8), part)
    def check(weights, share):
        p, q = torch.tensor(weights, dtype=torch.double).t().clamp(min=0) + 1e-300
        p, q = p / p.sum(), q / q.sum()
        one, other, middle = (
            dispersion(prob.clamp(min=1e-300).log().unsqueeze(0))
            for prob in (p, q, share * p + (1 - share) * q)
        )
        assert middle <= share * one + (1 - share) * other + 1e-9

    check()
