import pytest
import torch

from mowst.nn.softmax import MANY, log_softmax, softmax


@pytest.mark.parametrize("shape", [(5, 2), (5, MANY - 1), (5, MANY), (4, 3, 2), (0, 3), (3, 1)])
def test_both_are_those_of_torch_with_their_gradients(shape):
    z = torch.randn(shape, dtype=torch.double, requires_grad=True)
    weight = torch.randn(shape, dtype=torch.double)
    for ours, theirs in ((softmax, torch.softmax), (log_softmax, torch.log_softmax)):
        found, wanted = ours(z), theirs(z, dim=-1)
        assert found.shape == z.shape and torch.allclose(found, wanted, rtol=1e-12)
        (slope,) = torch.autograd.grad((weight * found).sum(), z)
        (expected,) = torch.autograd.grad((weight * wanted).sum(), z)
        assert torch.allclose(slope, expected, rtol=1e-12, atol=1e-14)


def test_extreme_logits_stay_finite_and_nan_stays():
    z = torch.tensor([[1e30, -1e30], [0.0, torch.nan]])
    assert torch.equal(softmax(z)[0], torch.tensor([1.0, 0.0]))
    assert softmax(z)[1].isnan().all() and log_softmax(z)[1].isnan().all()
