from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mowst.nn.loss import deferred_loss, mowst_loss, mowst_star_loss
from mowst.nn.mixture import mixture_log_prob, mixture_prob

MIX = pytest.mark.parametrize("mix", ["prob", "logit"])


class Output(NamedTuple):
    weak: Tensor
    strong: Tensor
    confidence: Tensor


@pytest.fixture
def batch():
    weak, strong = 3 * torch.randn(2, 200, 5, dtype=torch.double)
    return Output(weak, strong, torch.rand(200, dtype=torch.double)), torch.randint(5, (200,))


def evaluate(loss, out, y):
    return mowst_loss(out, y) if loss == "mowst" else mowst_star_loss(out, y, mix=loss)


@MIX
def test_star_is_never_above_the_expected_loss(batch, mix):
    out, y = batch
    assert mowst_star_loss(out, y, mix=mix) <= mowst_loss(out, y)
    for v in range(200):
        assert mowst_star_loss(out, y, [v], mix=mix) <= mowst_loss(out, y, [v]) + 1e-12


def test_mowst_loss_is_its_formula(batch):
    out, y = batch
    weak, strong = (-z.log_softmax(dim=-1)[torch.arange(200), y] for z in (out.weak, out.strong))
    torch.testing.assert_close(
        mowst_loss(out, y), (out.confidence * weak + (1 - out.confidence) * strong).mean()
    )
    deferred = ((1 - out.confidence) * strong).mean()
    torch.testing.assert_close(deferred_loss(out, y), deferred)
    torch.testing.assert_close(mowst_loss(out, y) - deferred, (out.confidence * weak).mean())


def test_star_loss_is_its_formula(batch):
    out, y = batch
    c, rows = out.confidence.unsqueeze(-1), torch.arange(200)
    prob = c * out.weak.softmax(dim=-1) + (1 - c) * out.strong.softmax(dim=-1)
    torch.testing.assert_close(mowst_star_loss(out, y, mix="prob"), -prob[rows, y].log().mean())
    logits = c * out.weak + (1 - c) * out.strong
    torch.testing.assert_close(mowst_star_loss(out, y, mix="logit"), cross_entropy(logits, y))


def losses(out, y, mask=None, class_weight=None):
    return torch.stack(
        [
            mowst_loss(out, y, mask, class_weight),
            deferred_loss(out, y, mask, class_weight),
            mowst_star_loss(out, y, mask, "prob", class_weight),
            mowst_star_loss(out, y, mask, "logit", class_weight),
        ]
    )


def test_a_mask_is_its_nodes(batch):
    out, y = batch
    mask = torch.rand(200) < 0.3
    nodes = mask.nonzero().view(-1)
    expected = losses(Output(*(part[mask] for part in out)), y[mask])
    torch.testing.assert_close(losses(out, y, mask), expected)
    torch.testing.assert_close(losses(out, y, nodes), expected)
    assert not torch.allclose(losses(out, y), expected)


@pytest.mark.parametrize("loss", ["mowst", "prob", "logit"])
@pytest.mark.parametrize(("share", "owner"), [(1.0, 0), (0.0, 1)])
def test_at_full_or_no_confidence_one_expert_is_left_in_value_and_gradient(
    batch, loss, share, owner
):
    out, y = batch
    experts = [z.clone().requires_grad_() for z in out[:2]]
    confidence = torch.full((200,), share, dtype=torch.double, requires_grad=True)
    value = evaluate(loss, Output(*experts, confidence), y)
    value.backward()
    alone = out[owner].clone().requires_grad_()
    cross_entropy(alone, y).backward()
    torch.testing.assert_close(value.detach(), cross_entropy(out[owner], y))
    torch.testing.assert_close(experts[owner].grad, alone.grad)
    assert (experts[1 - owner].grad == 0).all()
    assert confidence.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["mowst", "prob", "logit"])
@pytest.mark.parametrize("share", [0.0, 1e-30, 0.5, 1.0])
def test_finite_where_both_experts_are_confidently_wrong(loss, share):
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    y, confidence = torch.tensor([1, 0]), torch.full((2,), share, requires_grad=True)
    value = evaluate(loss, Output(logits, logits.flip(0).flip(1), confidence), y)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all() and confidence.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["mowst", "prob", "logit"])
def test_gradcheck(batch, loss):
    out, y = batch
    inputs = [part[:4].detach().requires_grad_() for part in out]
    assert torch.autograd.gradcheck(lambda *parts: evaluate(loss, Output(*parts), y[:4]), inputs)


@MIX
def test_mixture_is_a_distribution_between_its_experts(batch, mix):
    out, _ = batch
    prob = mixture_prob(*out, mix)
    torch.testing.assert_close(mixture_log_prob(*out, mix).exp(), prob)
    torch.testing.assert_close(prob.sum(dim=-1), torch.ones(200, dtype=torch.double))
    if mix == "prob":
        low, high = torch.stack([out.weak.softmax(dim=-1), out.strong.softmax(dim=-1)]).aminmax(
            dim=0
        )
        assert (prob >= low - 1e-12).all() and (prob <= high + 1e-12).all()


CLASS_WEIGHT = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.1], dtype=torch.double)


def test_class_weights_are_as_if_the_nodes_of_a_class_were_there_so_often(batch):
    out, y = batch
    times = torch.tensor([1, 2, 3, 1, 2])
    nodes = torch.arange(200).repeat_interleave(times[y])
    torch.testing.assert_close(losses(out, y, class_weight=times.double()), losses(out, y, nodes))


def test_only_the_ratio_of_class_weights_counts(batch):
    torch.testing.assert_close(
        losses(*batch, class_weight=torch.full((5,), 7.0).double()), losses(*batch)
    )
    weighted = losses(*batch, class_weight=CLASS_WEIGHT)
    torch.testing.assert_close(losses(*batch, class_weight=3 * CLASS_WEIGHT), weighted)
    assert ((weighted - losses(*batch)).abs() > 1e-7).all()


@pytest.mark.parametrize(("share", "owner"), [(1.0, 0), (0.0, 1)])
def test_weighted_losses_of_one_expert_are_weighted_cross_entropy(batch, share, owner):
    out, y = batch
    out = out._replace(confidence=torch.full((200,), share, dtype=torch.double))
    expected = cross_entropy(out[owner], y, weight=CLASS_WEIGHT).repeat(4)
    expected[1] *= 1 - share
    torch.testing.assert_close(losses(out, y, class_weight=CLASS_WEIGHT), expected)
