import pytest
import torch
from torch_geometric.utils import scatter

from mowst.data import csbm


def test_a_draw_depends_on_its_seed_alone():
    state = torch.random.get_rng_state()
    first, again, other = csbm(400, seed=0), csbm(400, seed=0), csbm(400, seed=1)
    assert torch.random.get_rng_state().equal(state)
    assert first.x.equal(again.x) and first.edge_index.equal(again.edge_index)
    assert not first.x.equal(other.x) and not first.edge_index.equal(other.edge_index)


def test_classes_and_populations_are_balanced():
    data = csbm(800, num_classes=4)
    assert (2 * data.y + data.population).dtype == torch.int64
    assert (2 * data.y + data.population).bincount().tolist() == [100] * 8
    assert data.is_undirected() and data.is_coalesced() and not data.has_self_loops()


def nearest_centre(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    centres = scatter(x, y, dim=0, reduce="mean")
    return torch.cdist(x, centres).argmin(dim=1)


def test_each_population_shows_its_class_to_one_expert():
    data = csbm(4000)
    source, target = data.edge_index
    around = scatter(data.x[source], target, dim=0, dim_size=4000, reduce="mean")
    for population, clear, unclear in ((0, data.x, around), (1, around, data.x)):
        members = data.population == population
        y = data.y[members]
        assert (nearest_centre(clear[members], y) == y).float().mean() > 0.9
        assert (nearest_centre(unclear[members], y) == y).float().mean() < 0.5


def test_population_0_draws_neighbours_of_any_class_and_population_1_of_its_own():
    data = csbm(4000)
    source, target = data.edge_index
    same = data.y[source] == data.y[target]
    within, across = (
        data.population[source] + data.population[target] == 0,
        data.population[source] == 1,
    )
    assert abs(float(same[within].float().mean()) - 0.25) < 0.02
    assert same[across].all() and (data.population[target][across] == 0).all()


def test_features_tell_the_class_as_far_as_its_centre_is_from_the_origin():
    right = []
    for separation in (0.0, 1.0, 2.0, 4.0):
        data = csbm(4000, separation=separation)
        members = data.population == 0
        right.append(
            float(
                (nearest_centre(data.x[members], data.y[members]) == data.y[members]).float().mean()
            )
        )
    assert right == sorted(right) and right[0] < 0.35 and right[-1] > 0.98


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="num_features must be at least num_classes = 4, got 3"):
        csbm(num_features=3)
    with pytest.raises(ValueError, match="num_nodes must be at least 80, got 50"):
        csbm(50)
