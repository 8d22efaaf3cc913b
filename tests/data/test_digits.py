import torch
from sklearn.datasets import load_digits
from torch_geometric.utils import degree

from mowst import load_task


def test_features_are_the_left_half():
    x = load_task("digits").data.x
    images = torch.from_numpy(load_digits().images).float() / 16
    assert x.equal(images[:, :, :4].reshape(1797, 32))
    assert x.min() == 0 and x.max() == 1


def test_edges_join_nearest_neighbours_of_the_right_half():
    data = load_task("digits").data
    assert data.is_undirected() and data.is_coalesced() and not data.has_self_loops()
    right = torch.from_numpy(load_digits().images)[:, :, 4:].reshape(1797, 32)
    distance = torch.cdist(right, right).fill_diagonal_(torch.inf)
    reach = distance.sort(dim=1).values[:, 2] + 1e-9
    source, target = data.edge_index
    length = distance[source, target]
    assert ((length <= reach[source]) | (length <= reach[target])).all()
    assert degree(source, 1797).min() >= 3


def test_edges_agree_on_the_class_more_than_chance_does():
    data = load_task("digits").data
    source, target = data.edge_index
    assert (data.y[source] == data.y[target]).float().mean() > 0.8
