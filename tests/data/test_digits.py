import pytest
import torch
from sklearn.datasets import load_digits
from torch_geometric.utils import degree

from mowst import load_task


@pytest.fixture(scope="module")
def data():
    return load_task("digits").data


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(load_digits().images)


def test_features_are_the_left_half(data, images):
    assert data.x.equal(images[:, :, :4].reshape(1797, 32).float() / 16)
    assert data.x.min() == 0 and data.x.max() == 1


def test_edges_join_nearest_neighbours_of_the_right_half(data, images):
    assert data.is_undirected() and data.is_coalesced() and not data.has_self_loops()
    right = images[:, :, 4:].reshape(1797, 32)
    distance = torch.cdist(right, right).fill_diagonal_(torch.inf)
    reach = distance.topk(3, largest=False).values[:, 2] + 1e-9
    source, target = data.edge_index
    length = distance[source, target]
    assert ((length <= reach[source]) | (length <= reach[target])).all()
    assert degree(source, 1797).min() >= 3


def test_edges_agree_on_the_class_more_than_chance_does(data):
    source, target = data.edge_index
    assert (data.y[source] == data.y[target]).float().mean() > 0.8
