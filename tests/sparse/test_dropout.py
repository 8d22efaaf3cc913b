import pytest
import torch

from mowst.sparse.dropout import Dropout

P = [0.5, 0.25, 0.1, 0.002, 0.999]


@pytest.mark.parametrize("p", P)
def test_share_of_zeros_and_scale(p):
    n = 400_000
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(n))
    dropped = (out == 0).sum().item()
    assert abs(dropped - n * p) < 5 * (n * p * (1 - p)) ** 0.5
    assert out.max().item() == pytest.approx(1 / (1 - p), rel=1e-5)
    assert set(out.unique().tolist()) == {0.0, out.max().item()}


@pytest.mark.parametrize("p", P)
def test_gradient_is_the_mask(p):
    x = torch.full((50, 40), 2.0, requires_grad=True)
    out = Dropout(p)(x)
    out.backward(torch.full_like(out, 3.0))
    torch.testing.assert_close(x.grad, 1.5 * out)


@pytest.mark.parametrize("p", P)
def test_after_relu_is_dropout_of_relu(p):
    dropout, x = Dropout(p), torch.randn(50, 40)
    results = []
    for fused in (False, True):
        torch.manual_seed(1)
        leaf = x.clone().requires_grad_()
        out = dropout.apply_after_relu(leaf * 1) if fused else dropout((leaf * 1).relu())
        out.square().sum().backward()
        results.append((out, leaf.grad))
    for plain, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain)


def test_neighbouring_elements_are_independent():
    torch.manual_seed(0)
    kept = Dropout(0.5)(torch.ones(400_000)).view(-1, 8).gt(0).double()
    correlation = torch.corrcoef(kept.t())
    assert (correlation - torch.eye(8)).abs().max() < 0.03


def test_seed_decides():
    x = torch.ones(1000)
    torch.manual_seed(3)
    first = Dropout(0.3)(x)
    second = Dropout(0.3)(x)
    torch.manual_seed(3)
    assert Dropout(0.3)(x).equal(first)
    assert not second.equal(first)


def test_identity_without_training_or_probability():
    x = torch.randn(4, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval().apply_after_relu(x).equal(x.relu())
    assert Dropout(1.0)(x).equal(torch.zeros(4, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    out = Dropout(0.5)(torch.ones(1000, dtype=dtype))
    assert out.dtype == dtype
    assert set(out.tolist()) == {0.0, 2.0}


def test_strided_and_empty_inputs():
    x = torch.ones(6, 5).t()
    assert set(Dropout(0.5)(x).flatten().tolist()) <= {0.0, 2.0}
    assert x.equal(torch.ones(5, 6))
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("p", [-0.1, 1.5])
def test_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match=f"got {p}"):
        Dropout(p)
