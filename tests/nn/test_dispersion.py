import pytest
import torch

from mowst.nn import entropy_dispersion, variance_dispersion
from mowst.nn.dispersion import DISPERSIONS, resolve_dispersion, two_class_logits

BOTH = pytest.mark.parametrize("dispersion", DISPERSIONS.values())


@BOTH
@pytest.mark.parametrize("num_classes", [2, 7, 40, 1000])
def test_zero_at_the_uniform_and_one_at_a_one_hot_prediction(dispersion, num_classes):
    uniform = torch.full((1, num_classes), 3.0)
    one_hot = torch.zeros(1, num_classes).index_fill(1, torch.tensor([1]), 100.0)
    assert dispersion(uniform).item() == pytest.approx(0, abs=1e-6)
    assert dispersion(one_hot).item() == pytest.approx(1, abs=1e-6)


@BOTH
def test_invariant_to_class_permutation_and_shift(dispersion):
    logits = torch.randn(20, 5)
    expected = dispersion(logits)
    torch.testing.assert_close(dispersion(logits[:, torch.randperm(5)]), expected)
    torch.testing.assert_close(dispersion(logits + 7), expected, rtol=1e-4, atol=1e-5)


@BOTH
def test_convex_in_the_probabilities(dispersion):
    p, q = torch.rand(2, 500, 4).double().softmax(dim=-1)
    share = torch.rand(500, 1).double()
    middle = dispersion((share * p + (1 - share) * q).log())
    assert (
        middle
        <= share[:, 0] * dispersion(p.log()) + (1 - share[:, 0]) * dispersion(q.log()) + 1e-12
    ).all()


@BOTH
def test_finite_with_gradients_at_huge_logits_and_at_the_uniform_prediction(dispersion):
    logits = torch.tensor(
        [[1e4, -1e4, 0.0], [0.0, 0.0, 0.0], [-1e4, -1e4, 1e4]], requires_grad=True
    )
    value = dispersion(logits)
    value.sum().backward()
    assert value.isfinite().all() and (value >= 0).all() and (value <= 1).all()
    assert logits.grad.isfinite().all()


@BOTH
def test_gradcheck(dispersion):
    logits = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(dispersion, logits)


def test_variance_is_the_formula_of_the_paper():
    prob = torch.rand(10, 6).softmax(dim=-1)
    expected = (6 * prob.square().sum(dim=-1) - 1) / 5
    torch.testing.assert_close(variance_dispersion(prob.log()), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(9,), (9, 1)])
def test_one_logit_of_two_classes_expands(shape):
    logits = torch.randn(shape)
    pair = two_class_logits(logits)
    torch.testing.assert_close(pair.softmax(dim=-1)[:, 1], logits.reshape(-1).sigmoid())
    torch.testing.assert_close(entropy_dispersion(logits), entropy_dispersion(pair))


def test_refuses_what_is_no_prediction():
    with pytest.raises(ValueError, match="at least two classes"):
        variance_dispersion(torch.zeros(3, 0))
    with pytest.raises(ValueError, match=r"\[2, 3, 4\]"):
        variance_dispersion(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="'max'.*entropy.*variance"):
        resolve_dispersion("max")
