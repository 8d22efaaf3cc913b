r"""Losses and their gradients are finite in single precision whatever experts and confidences answer, and training is
on graphs of any odd kind.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from mowst import GraphTask, fit, seed_everything
from mowst.loss import mowst_loss, mowst_star_loss, reached_loss
from mowst.nn import CONFIDENCES
from mowst.nn.build import ModelConfig, build_confidence, build_model
from mowst.nn.contract import call_confidence
from mowst.nn.mixture import mixture_log_prob, mixture_prob, shares

LOGITS = st.sampled_from([-1e4, -90.0, -1.0, -1e-30, 0.0, 1e-7, 1.0, 17.0, 90.0, 1e4])
SHARES = st.sampled_from([0.0, 1e-45, 1e-40, 1.2e-38, 1e-30, 1e-7, 0.3, 1 - 2**-24, 1.0])
LOSSES = {
    "mowst": mowst_loss,
    "prob": lambda *batch: mowst_star_loss(*batch, mix="prob"),
    "logit": lambda *batch: mowst_star_loss(*batch, mix="logit"),
    "normalized": lambda *batch: reached_loss(*batch, expert=len(batch[0]) - 1, normalize=True),
}


@st.composite
def answers(draw, nodes=4):
    r"""Logits of two to four experts, their confidences, and labels; of two, three or a thousand classes."""
    experts, classes = draw(st.integers(2, 4)), draw(st.sampled_from([2, 3, 1000]))
    few = [draw(st.lists(LOGITS, min_size=3 * nodes, max_size=3 * nodes)) for _ in range(experts)]
    logits = [torch.zeros(nodes, classes) for _ in few]
    for z, values in zip(logits, few, strict=True):
        z[:, :3] = torch.tensor(values).view(nodes, 3)[:, :classes]
    gates = [torch.tensor(draw(st.lists(SHARES, min_size=nodes, max_size=nodes))) for _ in range(experts - 1)]
    return logits, gates, torch.tensor(draw(st.lists(st.integers(0, 1), min_size=nodes, max_size=nodes)))


def many(function):
    return settings(max_examples=40, deadline=None, derandomize=True)(given(answers())(function))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_and_gradients_are_finite_at_any_answer(loss):
    @many
    def check(batch):
        logits, gates, y = batch
        inputs = [part.requires_grad_() for part in (*logits, *gates)]
        value = loss(logits, gates, y)
        assert value.isfinite() and value >= 0
        grads = torch.autograd.grad(value, inputs, allow_unused=True)
        assert all(grad.isfinite().all() for grad in grads if grad is not None)

    check()


@pytest.mark.parametrize("name", CONFIDENCES.names())
@pytest.mark.parametrize("loss", ["mowst", "prob", "logit"])
def test_so_they_are_through_every_confidence(name, loss):
    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(answers())
    def check(batch):
        (weak, *_, strong), _, y = batch
        torch.manual_seed(0)
        sizes = {"hidden_channels": 8, "num_layers": 2, "dropout": 0.0}
        gate = build_confidence(name, in_channels=5, num_classes=weak.size(1), **sizes)
        weak.requires_grad_(), strong.requires_grad_()
        value = LOSSES[loss]([weak, strong], [call_confidence(gate, weak, torch.randn(4, 5))], y)
        value.backward()
        grads = [part.grad for part in (weak, strong, *gate.parameters()) if part.grad is not None]
        assert value.isfinite() and all(grad.isfinite().all() for grad in grads)

    check()


@many
def test_a_mixture_is_a_distribution_between_its_experts(batch):
    logits, gates, _ = batch
    probs = torch.stack([z.softmax(dim=-1) for z in logits])
    for mix in ("prob", "logit"):
        prob = mixture_prob(logits, gates, mix)
        torch.testing.assert_close(prob.sum(dim=-1), torch.ones(4))
        torch.testing.assert_close(mixture_log_prob(logits, gates, mix).exp(), prob, rtol=1e-3, atol=1e-6)
    prob = mixture_prob(logits, gates, "prob")
    assert (prob >= probs.amin(dim=0) - 1e-6).all() and (prob <= probs.amax(dim=0) + 1e-6).all()
    torch.testing.assert_close(torch.stack(shares(gates)).sum(dim=0), torch.ones(4))


@pytest.mark.parametrize("mix", ["prob", "logit"])
def test_the_loss_of_a_mixture_is_at_most_the_mixture_of_the_losses(mix):
    @many
    def check(batch):
        logits, gates, y = batch
        for v in range(4):
            node = [z[[v]].double() for z in logits], [gate[[v]].double() for gate in gates], y[[v]]
            expected = mowst_loss(*node)
            assert mowst_star_loss(*node, mix=mix) <= expected * (1 + 1e-6) + 1e-6

    check()


def ring(num_nodes, y, train):
    r"""A ring with one-hot features; the nodes after the first `train` alternate between validation and test."""
    nodes = torch.arange(num_nodes)
    rest, even = nodes >= train, nodes % 2 == 0
    masks = {"train": ~rest, "val": rest & even, "test": rest & ~even}
    data = Data(x=torch.eye(num_nodes), y=y, edge_index=torch.stack([nodes, nodes.roll(1)]))
    return GraphTask(data, masks, num_classes=int(y.max()) + 1, class_weight="balanced")


ODD_TASKS = {
    "one node per class": lambda: ring(16, torch.arange(16) % 4, train=4),
    "a class without training nodes": lambda: ring(16, torch.arange(16).clamp(max=9), train=8),
    "a class with training nodes alone": lambda: ring(16, (torch.arange(16) > 1).long(), train=4),
    "a thousand classes": lambda: ring(1040, torch.arange(1040) % 1000, train=1000),
    "one validation node": lambda: ring(16, torch.arange(16) % 2, train=4).with_masks(
        torch.arange(16) < 4, torch.arange(16) == 4, torch.arange(16) > 4
    ),
}


@pytest.mark.parametrize("make", ODD_TASKS.values(), ids=ODD_TASKS)
@pytest.mark.parametrize(("method", "gate_fit"), [("mowst", "validation"), ("mowst", "train"), ("mowst-star", "train")])
def test_odd_tasks_train(make, method, gate_fit):
    seed_everything(0)
    task = make()
    config = ModelConfig(hidden_channels=8, confidence="monotone")
    model = build_model(config, in_channels=task.num_features, out_channels=task.num_classes)
    options = {"method": method, "gate_fit": gate_fit, "epochs": 3, "rounds": 1}
    if gate_fit == "validation" and task.index("val").numel() < 2:
        with pytest.raises(ValueError, match="two validation nodes or more"):
            fit(model, task, **options)
        return
    result = fit(model, task, **options)
    losses = [value for record in result.history for value in (record["loss"], record["val_loss"])]
    assert torch.tensor(losses).isfinite().all()
    assert 0 <= result.test <= 1 and 0 <= result.weak_share <= 1
