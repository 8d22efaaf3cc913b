import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from mowst.train.calibration import calibrated_nll, minimise_nll


def find_temperature(logits, y, class_weight=None):
    weight = None if class_weight is None else class_weight.double()
    return 1 / float(minimise_nll(logits.double(), y, weight, tolerance=1e-6)[0])


def draw(scale, nodes=20000, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(nodes, classes, generator=generator)
    return scale * z, torch.multinomial(z.softmax(dim=-1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_scale(scale):
    z, y = draw(scale)
    assert find_temperature(z, y) == pytest.approx(scale, rel=0.05)


@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("nodes", [3, 40, 2000])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_calibrated_loss_is_the_least_over_temperatures(scale, nodes, weighted):
    z, y = draw(scale, nodes)
    weight = torch.tensor([0.5, 1.0, 2.0, 4.0]) if weighted else None

    def loss(t):
        return float(
            cross_entropy(
                z.double() / math.exp(t), y, weight=None if weight is None else weight.double()
            )
        )

    found = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8})
    assert loss(math.log(find_temperature(z, y, weight))) == pytest.approx(found.fun, abs=1e-6)
    prob = z.softmax(dim=-1)
    assert float(calibrated_nll(prob, y, weight)) == pytest.approx(found.fun, abs=1e-5)


def test_a_prediction_of_probability_one_is_limited_by_the_bounds_of_the_temperature():
    prob, right, wrong = torch.eye(3), torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    assert float(calibrated_nll(prob, right)) == pytest.approx(0.0, abs=1e-6)
    gap = -math.log(torch.finfo(torch.float).tiny) / math.exp(
        3
    )  # between the logits at the highest temperature
    assert float(calibrated_nll(prob, wrong)) == pytest.approx(
        gap + math.log1p(2 * math.exp(-gap)), rel=1e-5
    )
    assert find_temperature(prob, wrong) == pytest.approx(math.exp(3))


def test_a_scale_of_the_logits_does_not_change_the_calibrated_loss():
    z, y = draw(1.0, 500)
    losses = [
        float(calibrated_nll((scale * z).softmax(dim=-1), y)) for scale in (0.5, 1.0, 2.0, 4.0)
    ]
    assert losses == pytest.approx([losses[0]] * 4, abs=1e-5)


@pytest.mark.parametrize("prior", [0.01, 1.0, 100.0])
def test_a_prior_draws_the_temperature_towards_one(prior):
    z, y = draw(4.0, nodes=40)

    def loss(log_b):
        return float(cross_entropy(math.exp(log_b) * z.double(), y)) + prior / 2 * log_b**2

    found = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8})
    inverse, least = minimise_nll(z.double(), y, None, 1e-6, prior)
    assert float(least) == pytest.approx(found.fun, abs=1e-8)
    assert math.log(inverse) == pytest.approx(found.x, abs=1e-4)
