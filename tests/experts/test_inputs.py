r"""Plain tensors, a graph and constant features are one input: what is kept changes no result."""

import numpy as np
import pytest
import torch

from mowst.nn.build import build_expert
from mowst.nn.registry import EXPERTS
from mowst.sparse import Features, Graph

N, CLASSES, WIDE = 40, 3, 300
NAMES = [name for name in EXPERTS.names() if name != "mlp"]


def build(name, in_channels=6, **kwargs):
    torch.manual_seed(0)
    sizes = {"in_channels": in_channels, "hidden_channels": 8, "out_channels": CLASSES}
    return build_expert(name, **sizes, num_nodes=N, **kwargs).eval()


def draw(in_channels=6, density=1.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, in_channels)).astype(np.float32)
    x *= rng.random(x.shape) < density
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, N, (2, 160)))


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_is_its_edges_to_the_bit(name):
    (x, edges), expert = draw(), build(name)
    expected = expert(x, edges)
    for _ in range(2):
        assert torch.equal(expert(x, Graph(edges, num_nodes=N)), expected)
        assert torch.equal(expert(x.clone(), edges.clone()), expected)


@pytest.mark.parametrize("name", [*NAMES, "mlp"])
@pytest.mark.parametrize("density", [1.0, 0.03])
def test_features_are_their_tensor(name, density):
    (x, edges), expert = draw(WIDE, density), build(name, WIDE)
    args = [] if name == "mlp" else [Graph(edges, num_nodes=N)]
    features = Features(x)
    assert (features.sparse() is None) == (density == 1)
    outs = [expert(given, *args) for given in (x, features, features, Features(x.clone()))]
    torch.testing.assert_close(outs[1], outs[0])
    assert torch.equal(outs[1], outs[2]) and torch.equal(outs[1], outs[3])


@pytest.mark.parametrize("name", ["gcn", "gprgnn", "linkx"])
def test_weights_live_in_the_graph(name):
    (x, edges), expert = draw(), build(name)
    weight = torch.rand(edges.size(1)) + 0.1
    graph = Graph(edges, weight, N)
    assert torch.equal(expert(x, graph), expert(x, edges, weight))
    assert not torch.allclose(expert(x, graph), expert(x, edges))
    with pytest.raises(ValueError, match="edge_weight was given next to a Graph"):
        expert(x, graph, weight)


def test_a_graph_of_other_nodes_is_refused():
    (x, edges), expert = draw(), build("gcn")
    with pytest.raises(ValueError, match="the graph has 41 nodes, the features have 40 rows"):
        expert(x, Graph(edges, num_nodes=N + 1))


@pytest.mark.parametrize("name", [*NAMES, "mlp"])
@pytest.mark.parametrize("sparse", [None, True])
def test_plain_tensors_are_never_predicted_from_what_they_were(name, sparse):
    if sparse and "gat" in name:
        pytest.skip("GAT reads dense features")
    (x, edges), expert = (
        draw(WIDE, 0.03),
        build(name, WIDE, **({"sparse_features": True} if sparse else {})),
    )
    args = [] if name == "mlp" else [edges]
    changes = {
        "NumPy": lambda: x.numpy().__imul__(-1),
        "data": lambda: x.data.mul_(3),
        "swap": lambda: x.set_(x.roll(1, 0)),
    }
    if args:
        changes["edges"] = lambda: edges.numpy().__setitem__(
            slice(None), (edges.numpy() * 7 + 3) % N
        )
    before = expert(x, *args)
    for what, change in changes.items():
        change()
        after = expert(x, *args)
        assert torch.equal(after, expert(*(tensor.clone() for tensor in (x, *args)))), what
        assert not torch.allclose(after, before), what
        before = after


def test_two_graphs_of_the_same_tensors_share_nothing():
    (x, edges), expert = draw(), build("sage")
    one, other = Graph(edges, num_nodes=N), Graph(edges, num_nodes=N)
    features = Features(x)
    assert torch.equal(expert(features, one), expert(features, other))
    operators = [graph.operator("mean") for graph in (one, other)]
    assert operators[0] is not operators[1]
    assert features.propagate(operators[0]) is not features.propagate(operators[1])
