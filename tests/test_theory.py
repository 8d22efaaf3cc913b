r"""Statements of the paper about the loss, tried on the code that trains."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from mowst.nn import MonotoneGate, MowstOutput, PowerGate, mowst_loss
from mowst.nn.mixture import mix_values

GATES = [PowerGate(), PowerGate(alpha=0.5, dispersion="entropy"), MonotoneGate()]
COUNTS = [(7, 2, 1), (5, 5, 0), (4, 3, 3), (10, 0, 0), (8, 1, 1)]


def loss_of(weak, strong, confidence, y):
    return mowst_loss(MowstOutput(None, confidence, weak, strong), y)


def simplex(steps=30):
    r"""All points of a grid on the simplex of three classes, [P, 3]."""
    grid = torch.cartesian_prod(torch.arange(steps + 1), torch.arange(steps + 1)).double()
    grid = grid[grid.sum(dim=1) <= steps] / steps
    return torch.cat([grid, 1 - grid.sum(dim=1, keepdim=True)], dim=1).clamp(min=1e-12)


def cluster_losses(gate, counts, strong_loss):
    r"""The Mowst loss of a cluster, as a function of the one weak prediction p that its nodes
    share.
    """
    points = simplex()
    y = torch.arange(3).repeat_interleave(torch.tensor(counts))
    true, other = (
        torch.exp(torch.tensor(-strong_loss)),
        -torch.expm1(torch.tensor(-strong_loss)) / 2,
    )
    strong = torch.full((len(y), 3), other.log().item(), dtype=torch.double)
    strong[torch.arange(len(y)), y] = true.log().item()
    torch.testing.assert_close(cross_entropy(strong, y).item(), strong_loss, rtol=1e-4, atol=1e-4)
    weak = points.log()
    own = -weak[:, y]  # [P, N]
    losses = mix_values(own, cross_entropy(strong, y, reduction="none"), gate(weak))
    at = weak[7].expand(len(y), 3)
    torch.testing.assert_close(losses[7].mean(), loss_of(at, strong, gate(at), y))
    return points, losses.mean(dim=1).detach()


def entropy(counts):
    alpha = torch.tensor(counts).double() / sum(counts)
    return float(-(alpha * alpha.clamp(min=1e-300).log()).sum())


@pytest.mark.parametrize("gate", GATES, ids=repr)
@pytest.mark.parametrize("counts", COUNTS[:3])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_cluster_that_the_gnn_fits_better_is_left_to_it(gate, counts, share):
    strong_loss = share * entropy(counts)
    _, losses = cluster_losses(gate.double(), counts, strong_loss)
    uniform = torch.zeros(sum(counts), 3, dtype=torch.double)
    torch.testing.assert_close(
        gate(uniform), torch.zeros(sum(counts), dtype=torch.double), rtol=0, atol=1e-6
    )
    assert losses.min() >= strong_loss - 1e-4  # the value at the uniform prediction, where C = 0


@pytest.mark.parametrize("gate", GATES, ids=repr)
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("excess", [0.05, 0.5, 2.0])
def test_a_cluster_that_the_mlp_fits_better_is_kept_over_confidently(gate, counts, excess):
    gate = gate.double()
    points, losses = cluster_losses(gate, counts, entropy(counts) + excess)
    alpha = (torch.tensor(counts).double() / sum(counts)).clamp(min=1e-12)
    reached = gate(points[losses.argmin()].log().unsqueeze(0))
    assert (
        reached >= gate(alpha.log().unsqueeze(0)) - 0.05
    )  # the distance between points of the grid


def minimize(gate, counts, strong_loss):
    r"""The weak prediction that minimises the Mowst loss of a cluster, from many starts, and that
    loss.
    """
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    strong = torch.zeros(len(y), len(counts), dtype=torch.double)
    # All classes but the true one share the rest: the cross-entropy of every node is exactly the
    # wanted one.
    rest = torch.expm1(torch.tensor(strong_loss, dtype=torch.double)) / (len(counts) - 1)
    strong[torch.arange(len(y)), y] = -rest.log()  # log(1 + (n - 1) rest) is the loss
    starts = torch.randn(20, len(counts), dtype=torch.double) * torch.logspace(-2, 1, 20).unsqueeze(
        1
    )
    starts[0] = (torch.tensor(counts).double() / sum(counts)).log()
    z = starts.requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.1)

    def losses():
        weak = z.repeat_interleave(len(y), dim=0)
        labels, others = y.repeat(len(z)), strong.repeat(len(z), 1)
        own = [cross_entropy(part, labels, reduction="none") for part in (weak, others)]
        return mix_values(*own, gate(weak)).view(len(z), -1).mean(dim=1)

    for _ in range(100):
        optimizer.zero_grad()
        losses().sum().backward()
        optimizer.step()
    final = losses().detach()
    best = z.detach()[final.argmin()]
    weak = best.expand(len(y), -1)
    torch.testing.assert_close(final.min(), loss_of(weak, strong, gate(weak), y).detach())
    return best, float(final.min())


@pytest.mark.parametrize("gate", GATES, ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_the_cluster_theorem_holds_for_random_clusters_and_gnn_losses(gate, seed):
    torch.manual_seed(seed)
    gate = gate.double()
    counts = torch.randint(1, 12, (3 + seed,)).tolist()
    bound = entropy(counts)
    for share in torch.rand(1).tolist():
        better, worse = bound * (0.1 + 0.9 * share), bound * (1.1 + share)
        _, loss = minimize(gate, counts, better)
        assert loss >= better - 1e-6  # no prediction beats the uniform one, at which C = 0
        best, loss = minimize(gate, counts, worse)
        alpha = (torch.tensor(counts).double() / sum(counts)).log().unsqueeze(0)
        assert gate(best.unsqueeze(0)) >= gate(alpha) - 1e-3 and loss < worse


def test_denoising_a_node_weighs_one_minus_its_confidence_in_the_strong_stage():
    weak, strong = torch.randn(2, 12, 4, dtype=torch.double)
    confidence, y = torch.rand(12, dtype=torch.double), torch.randint(4, (12,))
    strong.requires_grad_()
    (plain,) = torch.autograd.grad(cross_entropy(strong, y), strong)
    (mixed,) = torch.autograd.grad(loss_of(weak, strong, confidence, y), strong)
    torch.testing.assert_close(mixed, (1 - confidence).unsqueeze(-1) * plain)
