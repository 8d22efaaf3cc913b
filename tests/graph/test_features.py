import pytest
import torch
import torch.nn.functional as F

from mowst.graph.features import MIN_CHANNELS, linear, sparse_features


def bag_of_words(num_nodes=20, channels=MIN_CHANNELS, dtype=torch.float32):
    return torch.randn(num_nodes, channels, dtype=dtype) * (torch.rand(num_nodes, channels) < 0.05)


def test_density_and_width_decide():
    assert sparse_features(bag_of_words()) is not None
    assert sparse_features(bag_of_words(channels=MIN_CHANNELS - 1)) is None
    assert sparse_features(torch.randn(20, MIN_CHANNELS)) is None


def test_answer_can_be_forced_but_not_for_learned_features():
    x = torch.randn(5, 3)
    assert sparse_features(x, sparse=True) is not None
    assert sparse_features(bag_of_words(), sparse=False) is None
    assert sparse_features(x.requires_grad_(), sparse=True) is None


def test_converted_once_while_unchanged():
    x = bag_of_words()
    features = sparse_features(x)
    assert sparse_features(x) is features
    x[0, 0] = 7.0
    assert sparse_features(x).matrix.to_dense().equal(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("has_bias", [True, False])
def test_sparse_layer_is_the_dense_layer(dtype, has_bias):
    x = bag_of_words(dtype=dtype)
    results = []
    for features in (x, sparse_features(x)):
        torch.manual_seed(0)
        weight = torch.randn(4, x.size(1), dtype=dtype, requires_grad=True)
        bias = torch.randn(4, dtype=dtype, requires_grad=True) if has_bias else None
        out = F.linear(x, weight, bias) if features is x else linear(features, weight, bias)
        out.square().sum().backward()
        results.append((out, weight.grad, bias.grad if has_bias else out))
    for dense, sparse in zip(*results, strict=True):
        torch.testing.assert_close(sparse, dense)
