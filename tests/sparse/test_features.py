import gc
import weakref

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F

from mowst.sparse import Features, Graph, RowTaker, Subgraph, as_tensor
from mowst.sparse.features import MIN_CHANNELS, linear


def bag_of_words(num_nodes=20, channels=MIN_CHANNELS, dtype=torch.float32):
    return torch.randn(num_nodes, channels, dtype=dtype) * (torch.rand(num_nodes, channels) < 0.05)


@pytest.fixture
def nodes():
    return torch.tensor([1, 4, 5, 11])


def test_density_and_width_decide():
    assert Features(bag_of_words()).sparse() is not None
    assert Features(bag_of_words(channels=MIN_CHANNELS - 1)).sparse() is None
    assert Features(torch.randn(20, MIN_CHANNELS)).sparse() is None


def test_the_form_can_be_forced():
    assert Features(torch.randn(5, 3)).sparse(True) is not None
    assert Features(bag_of_words()).sparse(False) is None


def test_the_sparse_form_is_built_once_and_holds_the_values():
    x = bag_of_words()
    features = Features(x)
    assert features.sparse() is features.sparse(True)
    assert features.sparse().matrix.to_dense().equal(x)
    assert Features(x).sparse() is not features.sparse()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("block", [1, 700, 10**6])
def test_the_sparse_form_is_that_of_scipy(dtype, block, monkeypatch):
    monkeypatch.setattr("mowst.sparse.features.BLOCK", block)
    x = bag_of_words(dtype=dtype)
    x[3], x[5, 0], x[6, 1] = 0.0, torch.nan, -0.0
    found = Features(x).sparse(True).host
    wide = x if dtype == torch.float64 else x.float()
    wanted = sp.csr_matrix(wide.numpy())
    assert found.dtype == wanted.dtype and found.indices.dtype == wanted.indices.dtype
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert Features(torch.zeros(0, 300)).sparse(True).shape == (0, 300)
    assert Features(torch.zeros(4, 0)).sparse(True).shape == (4, 0)


def test_features_look_like_their_tensor(nodes):
    x = torch.randn(20, 3)
    features = Features(x)
    assert features.x is x and as_tensor(features) is x and as_tensor(x) is x
    assert (features.shape, features.dtype, features.device) == (x.shape, x.dtype, x.device)
    assert (features.size(), features.size(1), len(features)) == (x.shape, 3, 20)
    assert features[nodes].equal(x[nodes]) and isinstance(features[nodes], torch.Tensor)
    assert not features.requires_grad and repr(features) == "Features(20, 3)"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3), r"shape \[num_nodes, num_features\], got \[3\]"),
        (
            torch.zeros(3, 2, requires_grad=True),
            "cannot require a gradient: pass the tensor x itself",
        ),
    ],
)
def test_what_is_not_constant_features_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        Features(x)


def test_a_change_in_place_is_refused():
    x = bag_of_words()
    features = Features(x)
    operator = Graph(torch.tensor([[0], [1]]), num_nodes=20).operator("gcn")
    x[0, 0] = 7.0
    for use in (features.sparse, lambda: features.propagate(operator)):
        with pytest.raises(
            ValueError, match=r"Features\(20, 256\) were changed in place: build new"
        ):
            use()
    assert Features(x).sparse().matrix.to_dense().equal(x)


def test_a_product_is_computed_once_while_both_objects_live():
    features = Features(torch.randn(20, 3))
    graph = Graph(torch.randint(20, (2, 50)), num_nodes=20)
    with torch.inference_mode():
        hop = graph.first_hop(features, "mean")
    assert graph.first_hop(features, "mean") is hop and not hop.is_inference()
    assert graph.first_hop(features, "gcn") is not hop
    torch.testing.assert_close(hop, graph.operator("mean").matrix.to_dense() @ features.x)
    kept = weakref.ref(hop)
    del hop, graph
    gc.collect()
    assert kept() is None


def test_rows_know_where_they_come_from(nodes):
    features = Features(bag_of_words())
    rows = features.rows(nodes)
    assert rows.whole is features and rows.nodes.equal(nodes) and rows.shape == (4, MIN_CHANNELS)
    assert rows.x.equal(features.x[nodes]) and repr(rows) == "Rows(4, 256)"
    assert rows.sparse().matrix.to_dense().equal(rows.x)
    assert rows.rows(torch.tensor([2, 0])).sparse().matrix.to_dense().equal(rows.x[[2, 0]])
    nodes += 1
    assert rows.nodes.tolist() == [1, 4, 5, 11]


def test_rows_are_as_sparse_as_the_whole():
    x = torch.zeros(100, MIN_CHANNELS)
    x[:5] = 1
    assert Features(x[:5]).sparse() is None
    assert Features(x).rows(torch.arange(5)).sparse() is not None


def test_rows_are_taken_into_the_same_memory(nodes):
    features = Features(torch.randn(20, 3))
    take = RowTaker(features)
    first = take(nodes)
    assert first.x.equal(features.x[nodes]) and first.whole is features
    second = take(nodes[:3])
    assert second.x.data_ptr() == first.x.data_ptr() and second.x.equal(features.x[nodes[:3]])
    graph = Graph(torch.randint(20, (2, 50)), num_nodes=20)
    with pytest.raises(
        ValueError, match="use the rows that a RowTaker took before it takes others"
    ):
        Subgraph(graph, nodes).first_hop(first, "mean")
    with pytest.raises(ValueError, match="changed in place"):
        first.sparse(True)
    Subgraph(graph, nodes[:3]).first_hop(second, "mean")
    assert np.shares_memory(take(nodes).x.numpy(), second.x.numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("has_bias", [True, False])
def test_sparse_layer_is_the_dense_layer(dtype, has_bias):
    x = bag_of_words(dtype=dtype)
    results = []
    for features in (x, Features(x).sparse()):
        torch.manual_seed(0)
        weight = torch.randn(4, x.size(1), dtype=dtype, requires_grad=True)
        bias = torch.randn(4, dtype=dtype, requires_grad=True) if has_bias else None
        out = F.linear(x, weight, bias) if features is x else linear(features, weight, bias)
        out.square().sum().backward()
        results.append((out, weight.grad, bias.grad if has_bias else out))
    for dense, sparse in zip(*results, strict=True):
        torch.testing.assert_close(sparse, dense)
