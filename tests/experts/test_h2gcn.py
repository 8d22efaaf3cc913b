import logging

import pytest
import torch

from mowst.experts import H2GCN
from mowst.nn.build import build_expert
from mowst.nn.registry import rebuild, spec_of
from mowst.sparse import Graph

N, F_IN, HIDDEN, CLASSES = 14, 6, 4, 3


def graph(kind="directed"):
    r"""Random edges with loops and repetitions; the last two nodes are isolated."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, F_IN, generator=generator, dtype=torch.float64)
    edges = torch.randint(N - 2, (2, 26), generator=generator)
    return x, torch.cat([edges, edges.flip(0)], dim=1) if kind == "undirected" else edges


def expert(num_layers=2, **kwargs):
    torch.manual_seed(1)
    return H2GCN(F_IN, HIDDEN, num_layers, CLASSES, **kwargs).double()


def hops(edges):
    r"""The dense operators: one hop, exactly two, and two steps without return."""
    near = torch.zeros(N, N, dtype=torch.float64)
    near[edges[1], edges[0]] = 1
    near.fill_diagonal_(0)
    far = ((near @ near > 0) & (near == 0)).double().fill_diagonal_(0)
    one, two = (
        (a.sum(1) + (a.sum(1) == 0)).rsqrt()[:, None] * a * (a.sum(0) + (a.sum(0) == 0)).rsqrt()
        for a in (near, far)
    )
    return one, {"exact": two, "product": (one @ one).fill_diagonal_(0)}


def formula(model, x, edges, two_hop):
    one, two = hops(edges)
    layers = [(x @ model.lin_in.weight.t() + model.lin_in.bias).relu()]
    for _ in range(model.num_layers):
        layers.append(torch.cat([one @ layers[-1], two[two_hop] @ layers[-1]], dim=1))
    return torch.cat(layers, dim=1) @ model.lin_out.weight.t() + model.lin_out.bias


@pytest.mark.parametrize("kind", ["directed", "undirected"])
@pytest.mark.parametrize("two_hop", ["exact", "product"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_output_and_gradients_are_those_of_the_dense_formula(kind, two_hop, num_layers):
    (x, edges), model = graph(kind), expert(num_layers, two_hop=two_hop)
    x.requires_grad_()
    inputs = [x, *model.parameters()]
    outs = [model(x, edges), formula(model, x, edges, two_hop)]
    torch.testing.assert_close(*outs)
    grads = [torch.autograd.grad(out.square().sum(), inputs) for out in outs]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(("walks", "chosen"), [(10**6, "exact"), (-(10**6), "product")])
def test_auto_takes_the_exact_graph_where_it_is_small(walks, chosen, monkeypatch, caplog):
    monkeypatch.setattr("mowst.sparse.graph.WALKS", walks)
    caplog.set_level(logging.INFO, "mowst")
    x, edges = graph()
    edges = Graph(edges, num_nodes=N)
    model = expert()
    out = model(x, edges)
    assert out.equal(expert(two_hop=chosen)(x, edges))
    assert not out.allclose(
        expert(two_hop={"exact": "product", "product": "exact"}[chosen])(x, edges)
    )
    model(x, edges)
    assert [record.name for record in caplog.records] == ["mowst.sparse.graph"]


def test_product_builds_no_two_hop_graph(monkeypatch):
    built, operator = set(), Graph.operator
    monkeypatch.setattr(
        Graph, "operator", lambda *args, **kwargs: built.add(args[1]) or operator(*args, **kwargs)
    )
    expert(two_hop="product")(*graph())
    assert built == {"one-hop", "returns"}


@pytest.mark.parametrize("two_hop", ["exact", "product"])
def test_permutation_equivariance(two_hop):
    (x, edges), model = graph(), expert(two_hop=two_hop)
    order = torch.randperm(N)
    torch.testing.assert_close(model(x[order], order.argsort()[edges]), model(x, edges)[order])


def test_sparse_features_are_dense_features():
    x, edges = graph()
    x = x * (x > 0.5)
    torch.testing.assert_close(
        expert(sparse_features=True)(x, edges), expert(sparse_features=False)(x, edges)
    )


def test_dropout_is_random_in_training_only():
    model, inputs = expert(dropout=0.5), graph()
    assert not model(*inputs).equal(model(*inputs))
    assert model.eval()(*inputs).equal(expert()(*inputs))


def test_spec_round_trip():
    model = expert(3, two_hop="product", dropout=0.3)
    again = rebuild(spec_of(model)).double()
    again.load_state_dict(model.state_dict())
    assert again.eval()(*graph()).equal(model.eval()(*graph()))
    assert again.constructor_args() == model.constructor_args()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"num_layers": 0}, "at least 1, got 0"), ({"two_hop": "both"}, "auto, exact or product")],
)
def test_what_cannot_be_built_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_expert("h2gcn", in_channels=F_IN, out_channels=CLASSES, **kwargs)


def test_edge_weights_are_refused():
    x, edges = graph()
    with pytest.raises(ValueError, match="H2GCN cannot use edge_weight"):
        expert()(x, edges, torch.ones(edges.size(1)))
