import pytest
import torch
import torch.nn.functional as F

from mowst.experts import GCN, MLP, GraphSAGE
from mowst.sparse import memory
from mowst.sparse.graph import Graph
from mowst.sparse.linear import map_dense

N, SIZES = 30, {"in_channels": 6, "hidden_channels": 8, "num_layers": 3, "out_channels": 4}
EXPERTS = [GCN, GraphSAGE, MLP]


@pytest.fixture(autouse=True)
def every_block(monkeypatch):
    r"""The smallest results are in blocks that are used again."""
    monkeypatch.setattr(memory, "MIN_LARGE", 1)


def draw(*sizes):
    return [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_is_the_linear_map_with_its_gradients_of_both_orders(bias, added):
    x, weight, b, y = draw((5, 3), (4, 3), (4,), (5, 4))

    def run(x, weight, b, y):
        return map_dense(x, weight, b if bias else None, into=y * 1 if added else None)

    expected = F.linear(x, weight, b if bias else None) + (y if added else 0)
    torch.testing.assert_close(run(x, weight, b, y), expected)
    assert torch.autograd.gradcheck(run, (x, weight, b, y))
    assert torch.autograd.gradgradcheck(run, (x, weight, b, y))


def test_transforms_autocast_and_other_shapes_get_torchs_own():
    x, weight = torch.randn(5, 3), torch.randn(4, 3)
    expected = torch.func.jacrev(lambda w: F.linear(x, w))(weight)
    assert torch.func.jacrev(lambda w: map_dense(x, w))(weight).equal(expected)
    assert map_dense(x[0], weight).equal(F.linear(x[0], weight))
    with torch.autocast("cpu", torch.bfloat16):
        assert map_dense(x, weight).dtype == torch.bfloat16


def run_epochs(expert, x, *graph, epochs):
    r"""Trains, and returns every output and every gradient."""
    optimizer, kept = torch.optim.Adam(expert.parameters(), lr=0.1), []
    for _ in range(epochs):
        optimizer.zero_grad()
        out = expert(x, *graph)
        out.square().sum().backward()
        kept += [out.detach(), *(p.grad for p in expert.parameters())]
        optimizer.step()
    return kept


@pytest.mark.parametrize("kind", EXPERTS)
def test_what_is_kept_is_never_overwritten(kind):
    torch.manual_seed(0)
    expert, x = kind(**SIZES, dropout=0.5), torch.randn(N, 6)
    graph = () if kind is MLP else (Graph(torch.randint(N, (2, 90)), num_nodes=N),)
    kept = run_epochs(expert, x, *graph, epochs=3)
    with torch.inference_mode():
        kept += [expert.eval()(x, *graph)]
    copies = [tensor.clone() for tensor in kept]
    run_epochs(expert.train(), x, *graph, epochs=3)
    for tensor, copy in zip(kept, copies, strict=True):
        assert tensor.equal(copy)


@pytest.mark.parametrize("kind", EXPERTS)
@pytest.mark.parametrize("skip", [False, True])
def test_training_is_that_without_blocks(kind, skip, monkeypatch):
    x, results = torch.randn(N, 6), []
    graph = () if kind is MLP else (Graph(torch.randint(N, (2, 90)), num_nodes=N),)
    for limit in (1, 2**30):
        monkeypatch.setattr(memory, "MIN_LARGE", limit)
        torch.manual_seed(0)
        expert = kind(**SIZES, dropout=0.3, skip=skip)
        results.append(run_epochs(expert, x, *graph, epochs=3))
    for blocks, torchs in zip(*results, strict=True):
        torch.testing.assert_close(blocks, torchs)


@pytest.mark.parametrize("kind", EXPERTS)
def test_a_graph_that_is_retained_has_the_same_gradient_again(kind):
    torch.manual_seed(0)
    expert, x = kind(**SIZES, dropout=0.5), torch.randn(N, 6)
    graph = () if kind is MLP else (Graph(torch.randint(N, (2, 90)), num_nodes=N),)
    loss, weights = expert(x, *graph).square().sum(), list(expert.parameters())
    first = torch.autograd.grad(loss, weights, retain_graph=True)
    run_epochs(kind(**SIZES, dropout=0.5), x, *graph, epochs=2)
    for one, other in zip(first, torch.autograd.grad(loss, weights), strict=True):
        assert one.equal(other)


def test_hooks_of_the_layers_still_run():
    mlp, seen = MLP(**SIZES), []
    mlp.lins[1].register_forward_hook(lambda *args: seen.append(args[-1]))
    mlp.eval()(torch.randn(N, 6))
    assert [out.shape for out in seen] == [(N, 8)]
