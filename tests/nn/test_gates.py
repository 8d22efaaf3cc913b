import pytest
import torch

from mowst.nn import MonotoneGate, PowerGate, StepGate
from mowst.nn.build import build_gate
from mowst.nn.dispersion import DISPERSIONS

MONOTONE = [
    PowerGate(),
    PowerGate(alpha=0.3),
    PowerGate(alpha=4, dispersion="entropy"),
    StepGate(threshold=0.4),
    MonotoneGate(),
    MonotoneGate(dispersion="entropy"),
]


@pytest.mark.parametrize("gate", MONOTONE, ids=repr)
def test_zero_at_the_uniform_prediction_with_finite_gradients(gate):
    logits = torch.zeros(1, 5, requires_grad=True)
    value = gate(logits)
    value.sum().backward() if value.requires_grad else None
    assert value.item() == 0
    assert logits.grad is None or logits.grad.isfinite().all()


@pytest.mark.parametrize("gate", MONOTONE, ids=repr)
def test_monotone_in_the_dispersion(gate):
    logits = torch.randn(200, 3) * torch.rand(200, 1) * 6
    dispersion = DISPERSIONS[gate.dispersion](logits)
    value = gate(logits)[dispersion.argsort()]
    assert (value.diff() >= -1e-6).all()


@pytest.mark.parametrize("gate", MONOTONE, ids=repr)
def test_quasiconvex_on_segments_of_the_simplex(gate):
    gate = gate.double()
    p, q = torch.distributions.Dirichlet(torch.full((4,), 0.5, dtype=torch.double)).sample(
        (2, 1000)
    )
    share = torch.rand(1000, 1, dtype=torch.double)
    middle = gate((share * p + (1 - share) * q).log())
    assert (middle <= torch.maximum(gate(p.log()), gate(q.log())) + 1e-9).all()


def test_power_one_is_the_dispersion_itself():
    logits = torch.randn(10, 3)
    torch.testing.assert_close(PowerGate()(logits), DISPERSIONS["variance"](logits))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("power", {"alpha": 0}, "alpha must be above zero, got 0"),
        ("power", {"dispersion": "max"}, "unknown dispersion 'max'"),
        ("step", {"threshold": 0}, "above 0 and at most 1, got 0"),
    ],
)
def test_refused_arguments_say_why(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_gate(name, in_channels=6, num_classes=3, **arguments)
