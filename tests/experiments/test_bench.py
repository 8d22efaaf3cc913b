import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch_geometric.utils import add_remaining_self_loops, degree, is_undirected

from mowst import GAT, GraphSAGE

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "bench"))

import price
from busy import THREADS, compare_busy, compare_threads, report
from segments import EdgesGAT, EdgesSAGE, attend, bench_graph, reduce_in_torch, sort_edges, take_max
from suite.epoch import bench_epoch, get_sizes
from suite.graphs import draw_one_hot, draw_power_law, draw_task
from suite.propagate import bench_propagate
from suite.rounds import bench_round, bench_weak_stage
from suite.timing import compare
from threads import find_crossing

from mowst.io import read_json


@pytest.fixture
def task():
    return draw_task(100, 500, num_classes=3, x=torch.randn(100, 16))


def test_power_law_graph_is_undirected_heavy_tailed_and_seeded():
    edge_index = draw_power_law(2000, 20_000, seed=1)
    degrees = degree(edge_index[0], 2000)
    assert is_undirected(edge_index) and (edge_index[0] != edge_index[1]).all()
    assert edge_index.size(1) > 15_000 and degrees.max() > 10 * degrees.mean()
    assert torch.equal(edge_index, draw_power_law(2000, 20_000, seed=1))
    assert not torch.equal(edge_index, draw_power_law(2000, 20_000, seed=2))


def test_one_hot_features_have_one_code_per_column():
    x = draw_one_hot(50, 60, num_columns=5)
    assert x.shape == (50, 60) and (x.view(50, 5, 12).sum(dim=-1) == 1).all()


def test_compare_interleaves_after_a_warm_up_and_divides_by_ours():
    order = []

    def record(name, seconds):
        order.append(name)
        return seconds

    contenders = {"ours": lambda: record("ours", 0.5), "peer": lambda: record("peer", 2.0)}
    row = compare("case", contenders, repeats=3)
    assert order == ["ours", "peer"] * 4
    assert row["median_ms"] == {"ours": 500.0, "peer": 2000.0}
    assert row["times_ours"] == {"peer": 4.0}


def test_rows_of_busy_machines_and_of_threads_compare_with_their_first_setting(tmp_path):
    variables = []

    def measure(given):
        variables.append(given)
        return 1.0 + len(given)

    rows = [compare_threads("case", measure, repeats=2)]
    assert variables == 2 * list(THREADS.values())
    report(rows, tmp_path / "busy.json")
    assert rows[0]["ratios"] == {"chosen threads": 1.0, "one thread": 2.0, "two threads": 2.0}
    assert read_json(tmp_path / "busy.json")["rows"] == rows
    row = compare_busy("case", measure, repeats=1, spins=True)
    assert row == {"case": "case", "alone": [1.0], "beside": [1.0], "beside, threads spin": [3.0]}


def test_the_crossing_is_the_largest_size_on_which_one_thread_is_faster():
    rows = [{"values": 10, "speedup": 0.8}, {"values": 20, "speedup": 1.1}]
    assert find_crossing(rows) == 10 and find_crossing(rows[1:]) == 0


def test_every_case_runs(task):
    rows = [
        bench_propagate(task.data.edge_index, 100, channels=8, repeats=1),
        bench_epoch(task, "gcn", hidden_channels=8, num_layers=3, repeats=1, csr=True),
        bench_epoch(task, "sage", hidden_channels=8, num_layers=2, repeats=1),
        bench_weak_stage(task, hidden_channels=8, num_layers=2, repeats=1),
        bench_round(task, epochs=2),
    ]
    rows.extend(bench_graph("", task, repeats=1))
    assert all(value > 0 for row in rows for value in row["median_ms"].values())


@pytest.mark.parametrize(
    ("expert", "on_edges", "run_conv", "options"),
    [(GAT, EdgesGAT, attend, {"heads": 8}), (GraphSAGE, EdgesSAGE, take_max, {"aggr": "max"})],
)
def test_segments_give_what_the_expert_gives(task, expert, on_edges, run_conv, options):
    sizes = get_sizes(task, 16, 2) | options
    edge_index = task.data.edge_index[:, task.data.edge_index[1] > 5]  # nodes without neighbors
    ours = expert(**sizes).eval()
    other = on_edges(partial(run_conv, segment=reduce_in_torch), **sizes).eval()
    other.load_state_dict(ours.state_dict())
    expected = ours(task.data.x, edge_index)
    if expert is GAT:
        edge_index, _ = add_remaining_self_loops(edge_index, num_nodes=100)
    assert torch.allclose(other(task.data.x, sort_edges(edge_index, 100)), expected, atol=1e-6)


def test_the_price_of_a_prediction_has_a_row_for_each_form_of_the_call():
    rows = list(price.predict_rows(None, ["digits"], "gcn", seconds=0.0))
    assert len({row["case"] for row in rows}) == 3
    for row in rows:
        assert row["turns"] == 5 and row["ratio"] > 0
        assert set(row["median_ms"]) == {"mixture", "gnn", "mlp"}


def test_the_price_of_training_has_the_median_ratios_over_seeds():
    settings = {"epochs": 2, "rounds": 1, "gate_fit": "train"}
    (row,) = price.fit_rows(None, ["digits"], "gcn", 3, settings)
    assert row["epochs"] == {"strong": [2] * 3, "mowst": [8] * 3, "mowst-star": [6] * 3}
    seconds = row["seconds"]
    for method, ratio in row["ratio"].items():
        each = [ours / gnn for ours, gnn in zip(seconds[method], seconds["strong"], strict=True)]
        assert ratio == sorted(each)[1]
