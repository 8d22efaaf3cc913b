import pytest
import torch
from torch.nn.functional import cross_entropy

from mowst.loss import mowst_loss, mowst_star_loss, reached_loss
from mowst.nn.mixture import mixture_log_prob, mixture_prob

MIX = pytest.mark.parametrize("mix", ["prob", "logit"])


@pytest.fixture
def batch():
    weak, strong = 3 * torch.randn(2, 200, 5, dtype=torch.double)
    return [weak, strong], [torch.rand(200, dtype=torch.double)], torch.randint(5, (200,))


def evaluate(loss, logits, confidences, y):
    if loss == "mowst":
        return mowst_loss(logits, confidences, y)
    return mowst_star_loss(logits, confidences, y, mix=loss)


@MIX
def test_star_is_never_above_the_expected_loss(batch, mix):
    assert mowst_star_loss(*batch, mix=mix) <= mowst_loss(*batch)
    logits, confidences, y = batch
    one_by_one = [([z[i : i + 1] for z in logits], [confidences[0][i : i + 1]], y[i : i + 1]) for i in range(200)]
    assert all(mowst_star_loss(*node, mix=mix) <= mowst_loss(*node) + 1e-12 for node in one_by_one)


def test_mowst_loss_is_its_formula(batch):
    (weak, strong), (confidence,), y = batch
    own = [-logits.log_softmax(dim=-1)[torch.arange(200), y] for logits in (weak, strong)]
    torch.testing.assert_close(mowst_loss(*batch), (confidence * own[0] + (1 - confidence) * own[1]).mean())


def test_star_loss_is_its_formula(batch):
    (weak, strong), (confidence,), y = batch
    c, rows = confidence.unsqueeze(-1), torch.arange(200)
    prob = c * weak.softmax(dim=-1) + (1 - c) * strong.softmax(dim=-1)
    torch.testing.assert_close(mowst_star_loss(*batch, mix="prob"), -prob[rows, y].log().mean())
    torch.testing.assert_close(mowst_star_loss(*batch, mix="logit"), cross_entropy(c * weak + (1 - c) * strong, y))


@pytest.mark.parametrize("loss", ["mowst", "prob", "logit"])
@pytest.mark.parametrize(("share", "owner"), [(1.0, 0), (0.0, 1)])
def test_at_full_or_no_confidence_one_expert_is_left_in_value_and_gradient(batch, loss, share, owner):
    logits, _, y = batch
    experts = [z.clone().requires_grad_() for z in logits]
    confidence = torch.full((200,), share, dtype=torch.double, requires_grad=True)
    value = evaluate(loss, experts, [confidence], y)
    value.backward()
    alone = logits[owner].clone().requires_grad_()
    cross_entropy(alone, y).backward()
    torch.testing.assert_close(value.detach(), cross_entropy(logits[owner], y))
    torch.testing.assert_close(experts[owner].grad, alone.grad)
    assert (experts[1 - owner].grad == 0).all()
    assert confidence.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["mowst", "prob", "logit"])
@pytest.mark.parametrize("share", [0.0, 1e-30, 0.5, 1.0])
def test_finite_where_both_experts_are_confidently_wrong(loss, share):
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    y, confidence = torch.tensor([1, 0]), torch.full((2,), share, requires_grad=True)
    value = evaluate(loss, [logits, logits.flip(0).flip(1)], [confidence], y)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all() and confidence.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["mowst", "prob", "logit"])
def test_gradcheck(batch, loss):
    (weak, strong), (confidence,), y = batch
    inputs = [part[:4].detach().requires_grad_() for part in (weak, strong, confidence)]
    assert torch.autograd.gradcheck(lambda w, s, c: evaluate(loss, [w, s], [c], y[:4]), inputs)


@MIX
def test_mixture_is_a_distribution_between_its_experts(batch, mix):
    (weak, strong), (confidence,), _ = batch
    prob = mixture_prob([weak, strong], [confidence], mix)
    torch.testing.assert_close(mixture_log_prob([weak, strong], [confidence], mix).exp(), prob)
    torch.testing.assert_close(prob.sum(dim=-1), torch.ones(200, dtype=torch.double))
    if mix == "prob":
        low, high = torch.stack([weak.softmax(dim=-1), strong.softmax(dim=-1)]).aminmax(dim=0)
        assert (prob >= low - 1e-12).all() and (prob <= high + 1e-12).all()


CLASS_WEIGHT = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.1], dtype=torch.double)


def losses(logits, confidences, y, **kwargs):
    return torch.stack(
        [
            mowst_loss(logits, confidences, y, **kwargs),
            *(mowst_star_loss(logits, confidences, y, mix=mix, **kwargs) for mix in ("prob", "logit")),
            *(reached_loss(logits, confidences, y, k, norm, 0.1, **kwargs) for k in (0, 1) for norm in (False, True)),
        ]
    )


def test_class_weights_are_as_if_the_nodes_of_a_class_were_there_so_often(batch):
    logits, (confidence,), y = batch
    times = torch.tensor([1, 2, 3, 1, 2])
    nodes = torch.arange(200).repeat_interleave(times[y])
    repeated = losses([z[nodes] for z in logits], [confidence[nodes]], y[nodes])
    torch.testing.assert_close(losses(*batch, class_weight=times.double()), repeated)


def test_only_the_ratio_of_class_weights_counts(batch):
    torch.testing.assert_close(losses(*batch, class_weight=torch.full((5,), 7.0).double()), losses(*batch))
    torch.testing.assert_close(losses(*batch, class_weight=3 * CLASS_WEIGHT), losses(*batch, class_weight=CLASS_WEIGHT))
    assert ((losses(*batch, class_weight=CLASS_WEIGHT) - losses(*batch)).abs() > 1e-7).all()


@pytest.mark.parametrize(("share", "owner"), [(1.0, 0), (0.0, 1)])
def test_weighted_losses_of_one_expert_are_weighted_cross_entropy(batch, share, owner):
    logits, _, y = batch
    weighted = losses(logits, [torch.full((200,), share, dtype=torch.double)], y, class_weight=CLASS_WEIGHT)
    alone = cross_entropy(logits[owner], y, weight=CLASS_WEIGHT)
    torch.testing.assert_close(weighted[:5], alone.expand(5))
