import numpy as np
import pytest
import torch

from mowst.experts import GCN
from mowst.sparse import Features, Graph, partial
from mowst.sparse.partial import plan
from mowst.sparse.propagate import propagate

N = 40
WIDTHS = ((8, 8), (8, 8), (8, 8))


def path_graph(num_nodes=N):
    forward = torch.stack([torch.arange(num_nodes - 1), torch.arange(1, num_nodes)])
    return torch.cat([forward, forward.flip(0)], dim=1)


@pytest.fixture
def always(monkeypatch):
    r"""Pruning costs nothing: as many layers are pruned as there are."""
    monkeypatch.setattr(partial, "TAKE", -1e6)


def test_on_a_path_each_layer_needs_one_node_more_on_both_sides(always):
    operator = Graph(path_graph(), num_nodes=N).operator("gcn")
    steps = plan(operator, torch.tensor([20]), WIDTHS)
    assert [step.nodes.tolist() for step in steps] == [[18, 19, 20, 21, 22], [19, 20, 21], [20]]
    assert steps[0].before.tolist() == list(range(17, 24))
    for one, other in zip(steps, steps[1:], strict=False):
        assert other.before is one.nodes


def test_a_directed_edge_carries_backwards_only(always):
    operator = Graph(torch.tensor([[0, 1, 2], [1, 2, 3]]), num_nodes=5).operator("mean")
    steps = plan(operator, torch.tensor([2]), WIDTHS[:2])
    assert steps[0].nodes.tolist() == [1, 2] and steps[0].before.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["gcn", "mean", "gin", "sum"])
@pytest.mark.parametrize("seed", range(3))
def test_the_blocks_of_a_plan_make_the_rows_of_the_whole_product(always, kind, seed):
    torch.manual_seed(seed)
    operator = Graph(torch.randint(N, (2, 60)), num_nodes=N).operator(kind, torch.float64)
    nodes, x = torch.randperm(N)[:5], torch.randn(N, 3, dtype=torch.float64)
    steps, whole = plan(operator, nodes, WIDTHS), x
    for _ in WIDTHS:
        whole = propagate(operator, whole)
    rows = x[steps[0].before]
    for step in steps:
        torch.testing.assert_close(rows[step.at].shape, torch.Size([step.nodes.numel(), 3]))
        rows = propagate(step.operator, rows)
    torch.testing.assert_close(rows, whole[nodes])


def test_all_nodes_are_never_pruned_and_few_are_where_they_stay_few():
    torch.manual_seed(0)
    num_nodes = 20_000
    blocks = torch.randint(num_nodes // 20, (2, 200_000)) + 1000 * torch.randint(20, (200_000,))
    operator = Graph(blocks, num_nodes=num_nodes).operator("gcn")
    widths = ((64, 64), (64, 64))
    assert plan(operator, torch.arange(num_nodes), widths) == [None, None]
    assert all(plan(operator, torch.arange(50), widths))
    first, last = plan(operator, torch.arange(0, num_nodes, 4), widths)
    assert first is None and last is not None and last.before is None


@pytest.mark.parametrize("first_hop", [False, True])
@pytest.mark.parametrize("widths", [WIDTHS, ((16, 8), (8, 8), (8, 2))])
def test_the_plan_chosen_is_the_cheapest_by_its_own_costs(widths, first_hop):
    torch.manual_seed(0)
    operator = Graph(torch.randint(300, (2, 900)), num_nodes=300).operator("gcn")
    degrees, pruned_somewhere = np.diff(operator.host.indptr), set()
    for count in (1, 2, 5, 20, 80, 300):
        wanted = torch.randperm(300)[:count]
        chosen = sum(
            step is not None for step in plan(operator, wanted, widths, first_hop=first_hop)
        )
        full = [
            partial._estimate_cost(
                0 if first_hop and i == 0 else operator.num_entries, 300, 300, *width
            )
            for i, width in enumerate(widths)
        ]
        totals, pruned = [partial.WORTH * sum(full)], 0.0
        for layer in (2, 1, 0):
            entries = 0 if first_hop and layer == 0 else int(degrees[wanted].sum())
            reads = partial._find_reads(operator, wanted)
            rows, read = (
                wanted.numel(),
                wanted.numel() if first_hop and layer == 0 else reads.numel(),
            )
            behind_all = partial._estimate_cost(
                entries, rows, 300 if layer else read, *widths[layer]
            )
            totals.append(sum(full[:layer]) + pruned + partial.TAKE * entries + behind_all)
            pruned += partial.TAKE * entries + partial._estimate_cost(
                entries, rows, read, *widths[layer]
            )
            wanted = reads
        assert totals[chosen] == pytest.approx(min(totals))
        pruned_somewhere.add(chosen)
    assert {0, 3} <= pruned_somewhere


def test_a_plan_is_made_once_for_nodes_of_the_same_content(always):
    operator = Graph(path_graph(), num_nodes=N).operator("gcn")
    nodes = torch.tensor([3, 4])
    first = plan(operator, nodes, WIDTHS)
    assert plan(operator, nodes.clone(), WIDTHS) is first
    assert plan(operator, nodes, WIDTHS[1:]) is not first
    nodes.numpy()[:] += 1
    assert plan(operator, nodes, WIDTHS)[-1].nodes.tolist() == [4, 5]
    assert first[-1].nodes.tolist() == [3, 4]


def test_sparse_features_cost_what_their_entries_do():
    x = torch.zeros(300, 5000).scatter_(1, torch.arange(2700).view(300, 9), 1.0)
    edges = path_graph(300)
    layers = GCN(5000, 16, 2, 3).eval().split_layers(Features(x), edges)
    width = partial.find_equivalent_width(Features(x).sparse())
    assert layers.widths == ((width, 16), (16, 3)) and not layers.first_hop and layers.in_place == 1
    assert partial.MULTIPLY * width == pytest.approx(partial.GATHER * 9, rel=0.01)
