r"""Losses and their gradients are finite in single precision at any logits and confidences, and so
is training on graphs of any odd kind.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from mowst import GraphTask, TrainConfig, fit, seed_everything
from mowst.nn.build import ModelConfig, build_gate, build_model
from mowst.nn.call import call_gate
from mowst.nn.loss import deferred_loss, mowst_loss, mowst_star_loss
from mowst.nn.mixture import mixture_log_prob, mixture_prob
from mowst.nn.output import MowstOutput
from mowst.nn.registry import GATES

LOGITS = st.sampled_from([-1e4, -90.0, -1.0, -1e-30, 0.0, 1e-7, 1.0, 17.0, 90.0, 1e4])
SHARES = st.sampled_from([0.0, 1e-45, 1e-40, 1.2e-38, 1e-30, 1e-7, 0.3, 1 - 2**-24, 1.0])
LOSSES = {
    "mowst": mowst_loss,
    "deferred": deferred_loss,
    "prob": lambda out, y: mowst_star_loss(out, y, mix="prob"),
    "logit": lambda out, y: mowst_star_loss(out, y, mix="logit"),
}


@st.composite
def outputs(draw, nodes=4):
    r"""Logits of two experts, a confidence, and labels; of two, three or a thousand classes."""
    classes = draw(st.sampled_from([2, 3, 1000]))
    logits = []
    for _ in range(2):
        values = draw(st.lists(LOGITS, min_size=3 * nodes, max_size=3 * nodes))
        logits.append(torch.zeros(nodes, classes))
        logits[-1][:, :3] = torch.tensor(values).view(nodes, 3)[:, :classes]
    confidence = torch.tensor(draw(st.lists(SHARES, min_size=nodes, max_size=nodes)))
    y = torch.tensor(draw(st.lists(st.integers(0, 1), min_size=nodes, max_size=nodes)))
    return MowstOutput(None, confidence, *logits), y


def many(function):
    return settings(max_examples=40, deadline=None, derandomize=True)(given(outputs())(function))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_and_gradients_are_finite_at_any_output(loss):
    @many
    def check(batch):
        out, y = batch
        inputs = [part.requires_grad_() for part in out[1:]]
        value = loss(out, y)
        assert value.isfinite() and value >= 0
        grads = torch.autograd.grad(value, inputs, allow_unused=True)
        assert all(grad.isfinite().all() for grad in grads if grad is not None)

    check()


@pytest.mark.parametrize("name", GATES.names())
@pytest.mark.parametrize("loss", ["mowst", "prob", "logit"])
def test_so_they_are_through_every_gate(name, loss):
    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(outputs())
    def check(batch):
        out, y = batch
        torch.manual_seed(0)
        sizes = {"hidden_channels": 8, "num_layers": 2, "dropout": 0.0}
        gate = build_gate(name, in_channels=5, num_classes=out.weak.size(1), **sizes)
        out.weak.requires_grad_(), out.strong.requires_grad_()
        value = LOSSES[loss](
            out._replace(confidence=call_gate(gate, out.weak, torch.randn(4, 5))), y
        )
        value.backward()
        parts = (out.weak, out.strong, *gate.parameters())
        grads = [part.grad for part in parts if part.grad is not None]
        assert value.isfinite() and all(grad.isfinite().all() for grad in grads)

    check()


@many
def test_a_mixture_is_a_distribution_between_its_experts(batch):
    (_, confidence, weak, strong), _ = batch
    for mix in ("prob", "logit"):
        prob = mixture_prob(weak, strong, confidence, mix)
        torch.testing.assert_close(prob.sum(dim=-1), torch.ones(4))
        log_prob = mixture_log_prob(weak, strong, confidence, mix)
        torch.testing.assert_close(log_prob.exp(), prob, rtol=1e-3, atol=1e-6)
    prob = mixture_prob(weak, strong, confidence, "prob")
    low, high = torch.stack([weak.softmax(dim=-1), strong.softmax(dim=-1)]).aminmax(dim=0)
    assert (prob >= low - 1e-6).all() and (prob <= high + 1e-6).all()


@pytest.mark.parametrize("mix", ["prob", "logit"])
def test_the_loss_of_a_mixture_is_at_most_the_mixture_of_the_losses(mix):
    @many
    def check(batch):
        out, y = batch
        double = MowstOutput(None, *(part.double() for part in out[1:]))
        for v in range(4):
            expected = mowst_loss(double, y, [v])
            assert mowst_star_loss(double, y, [v], mix=mix) <= expected * (1 + 1e-6) + 1e-6

    check()


def ring(num_nodes, y, train, val=None):
    r"""A ring with one-hot features. The nodes after the first `train` alternate between validation
    and test, unless the first `val` of them are the validation nodes.
    """
    nodes = torch.arange(num_nodes)
    rest = nodes >= train
    validates = nodes % 2 == 0 if val is None else nodes < train + val
    masks = {"train": ~rest, "val": rest & validates, "test": rest & ~validates}
    data = Data(x=torch.eye(num_nodes), y=y, edge_index=torch.stack([nodes, nodes.roll(1)]))
    return GraphTask(data, masks, num_classes=int(y.max()) + 1, class_weight="balanced")


ODD_TASKS = {
    "one node per class": lambda: ring(16, torch.arange(16) % 4, train=4),
    "a class without training nodes": lambda: ring(16, torch.arange(16).clamp(max=9), train=8),
    "a class with training nodes alone": lambda: ring(16, (torch.arange(16) > 1).long(), train=4),
    "a thousand classes": lambda: ring(1040, torch.arange(1040) % 1000, train=1000),
    "one validation node": lambda: ring(16, torch.arange(16) % 2, train=4, val=1),
}


@pytest.mark.parametrize("make", ODD_TASKS.values(), ids=ODD_TASKS)
@pytest.mark.parametrize(
    ("method", "gate_fit"), [("mowst", "validation"), ("mowst", "train"), ("mowst-star", "train")]
)
def test_odd_tasks_train(make, method, gate_fit):
    seed_everything(0)
    task = make()
    config = ModelConfig(hidden_channels=8, gate="monotone")
    model = build_model(config, in_channels=task.num_features, out_channels=task.num_classes)
    config = TrainConfig(gate_fit=gate_fit, epochs=3, rounds=1)
    if gate_fit == "validation" and task.index("val").numel() < 2:
        with pytest.raises(ValueError, match="at least two validation nodes"):
            fit(model, task, method, config)
        return
    result = fit(model, task, method, config)
    losses = [value for record in result.history for value in (record["loss"], record["val_loss"])]
    assert torch.tensor(losses).isfinite().all()
    assert 0 <= result.test <= 1 and 0 <= result.deferred_share <= 1
