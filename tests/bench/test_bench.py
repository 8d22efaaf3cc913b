import pytest
import torch
from torch_geometric.utils import degree, is_undirected

from mowst.bench.epoch import bench_epoch
from mowst.bench.graphs import one_hot_features, power_law_graph, random_task
from mowst.bench.propagate import bench_propagate
from mowst.bench.timing import compare
from mowst.bench.turns import bench_round, bench_weak_turn


@pytest.fixture
def task():
    return random_task(200, 1000, num_classes=3, x=torch.randn(200, 16))


def test_power_law_graph_is_undirected_heavy_tailed_and_seeded():
    edge_index = power_law_graph(2000, 20_000, seed=1)
    degrees = degree(edge_index[0], 2000)
    assert is_undirected(edge_index) and (edge_index[0] != edge_index[1]).all()
    assert edge_index.size(1) > 15_000 and degrees.max() > 10 * degrees.mean()
    assert torch.equal(edge_index, power_law_graph(2000, 20_000, seed=1))
    assert not torch.equal(edge_index, power_law_graph(2000, 20_000, seed=2))


def test_one_hot_features_have_one_code_per_column():
    x = one_hot_features(50, 60, num_columns=5)
    assert x.shape == (50, 60) and (x.view(50, 5, 12).sum(dim=-1) == 1).all()


def test_compare_interleaves_after_a_warm_up_and_divides_by_ours():
    order = []
    contenders = {"ours": lambda: order.append("ours") or 0.5, "peer": lambda: order.append("peer") or 2.0}
    row = compare("case", contenders, repeats=3)
    assert order == ["ours", "peer"] * 4
    assert row["median_ms"] == {"ours": 500.0, "peer": 2000.0} and row["times_ours"] == {"peer": 4.0}


def test_every_case_runs(task):
    rows = [
        bench_propagate(task.data.edge_index, 200, channels=8, repeats=1),
        bench_epoch(task, "gcn", hidden_channels=8, num_layers=3, repeats=1, csr=True),
        bench_epoch(task, "sage", hidden_channels=8, num_layers=2, repeats=1),
        bench_weak_turn(task, hidden_channels=8, num_layers=2, repeats=1),
        bench_round(task, epochs=2),
    ]
    assert all(value > 0 for row in rows for value in row["median_ms"].values())
