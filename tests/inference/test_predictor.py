r"""A predictor answers some nodes of a graph that changes as the model answers all nodes of the graph as it is."""

import threading

import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from mowst import MLP, Cascade, LearnedConfidence, Mowst, PowerConfidence, build_expert
from mowst.graph import frontier
from mowst.inference import Predictor

F_IN, CLASSES = 5, 3
SIZES = {"in_channels": F_IN, "hidden_channels": 8, "out_channels": CLASSES, "num_layers": 2}
STRONG = {
    **{name: lambda name=name: build_expert(name, **SIZES) for name in ("gcn", "sage", "gin", "gat", "h2gcn")},
    "gcn-skip": lambda: build_expert("gcn-skip", **{**SIZES, "num_layers": 3}),
    "tuned-gcn": lambda: build_expert("tuned-gcn", **SIZES, norm="batch_norm", skip=True, pre_linear=True),
    "tuned-sage": lambda: build_expert("tuned-sage", **SIZES, skip=True),
    "PyG's GCN": lambda: pyg.GCN(**SIZES, norm="batch_norm", jk="last"),
    "PyG's GAT": lambda: pyg.GAT(**SIZES),
    "a module of one hop": lambda: OneHop(),
    "an MLP": lambda: MLP(**SIZES),
}
ROUTES = [{}, {"threshold": 0.5}, {"budget": 0.4}]
MODES = [{"cache": True}, {"cache": False}, {"cache": True, "chunk_size": 3}, {"chunk_size": 2}]


class OneHop(torch.nn.Module):
    num_hops = 1

    def __init__(self):
        super().__init__()
        self.conv = pyg.GCNConv(F_IN, CLASSES)

    def forward(self, x, edge_index, edge_weight=None):
        return self.conv(x, edge_index, edge_weight)


@pytest.fixture(params=[-1e6, 1e12], ids=["always pruned", "never pruned"], autouse=True)
def cost(request, monkeypatch):
    monkeypatch.setattr(frontier, "TAKE", request.param)


def graph(num_nodes=12, weighted=False, seed=0):
    torch.manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, 2 * num_nodes))
    weight = torch.rand(2 * num_nodes) + 0.1 if weighted else None
    return Data(x=torch.randn(num_nodes, F_IN), edge_index=edge_index, edge_weight=weight)


def model_with(strong):
    torch.manual_seed(0)
    return Mowst(MLP(**SIZES), strong, PowerConfidence(0.3)).eval()


@torch.no_grad()
def expected(model, data, ids, threshold=None, budget=None):
    out = model(data.x, data.edge_index, data.edge_weight)
    passed = out.confidence[ids] < threshold if threshold is not None else None
    if budget is not None:
        order = ids.unique()
        least = order[out.confidence[order].argsort(stable=True)[: int(budget * order.numel())]]
        passed = torch.isin(ids, least)
    if passed is None:
        return out.prob[ids]
    return torch.where(passed.unsqueeze(-1), out.strong[ids], out.weak[ids]).softmax(dim=-1)


CHANGES = st.lists(st.sampled_from(["nodes", "edges", "features", "nothing"]), min_size=1, max_size=4)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("name", STRONG)
def test_after_every_change_it_answers_as_the_model_on_the_changed_graph(name, mode, tmp_path):
    model = model_with(STRONG[name]())
    weighs = getattr(model.strong, "supports_edge_weight", name in ("a module of one hop", "an MLP"))

    @settings(max_examples=8, deadline=None)
    @given(changes=CHANGES, seed=st.integers(0, 99), weighted=st.booleans(), route=st.sampled_from(ROUTES))
    def check(changes, seed, weighted, route):
        data = graph(weighted=weighted and weighs, seed=seed)
        x, weight = data.x.clone(), data.edge_weight
        predictor = Predictor(model, data, **mode, **route)
        for change in changes:
            n = predictor.num_nodes
            if change == "nodes":
                assert predictor.add_nodes(torch.randn(2, F_IN)).tolist() == [n, n + 1]
            elif change == "edges":
                predictor.add_edges(torch.randint(n, (2, 3)), None if weight is None else torch.rand(3))
            elif change == "features":
                predictor.set_features(torch.randperm(n)[:2], torch.randn(2, F_IN))
            ids = torch.randint(predictor.num_nodes, (6,))
            answer = predictor.predict(ids)
            torch.testing.assert_close(answer.prob, expected(model, predictor.data, ids, **route))
            assert answer.labels.equal(answer.prob.argmax(dim=-1))
        assert data.x.equal(x) and data.num_nodes == 12, "the given graph is not the predictor's to change"

    check()


def test_rows_on_disk_are_the_rows_in_memory_and_leave_no_file(tmp_path):
    model, data = model_with(build_expert("gcn", **SIZES)), graph(40)
    on_disk = Predictor(model, data, cache=True, chunk_size=7, folder=tmp_path)
    ids = torch.arange(40)
    first = on_disk.predict(ids)
    assert len(list(tmp_path.rglob("layer*.bin"))) == 2
    torch.testing.assert_close(first.prob, expected(model, data, ids))
    on_disk.add_edges(torch.stack([on_disk.add_nodes(torch.randn(3, F_IN)), torch.tensor([0, 1, 2])]))
    torch.testing.assert_close(on_disk.predict(range(43)).prob, expected(model, on_disk.data, torch.arange(43)))
    del on_disk
    assert not list(tmp_path.iterdir())


def path(num_nodes=30):
    forward = torch.stack([torch.arange(num_nodes - 1), torch.arange(1, num_nodes)])
    return Data(x=torch.randn(num_nodes, F_IN), edge_index=torch.cat([forward, forward.flip(0)], dim=1))


def test_with_the_cache_a_question_asked_again_touches_nothing_and_a_change_only_what_it_reaches(cost, monkeypatch):
    monkeypatch.setattr(frontier, "TAKE", -1e6)
    model = model_with(build_expert("gcn", **SIZES))
    predictor = Predictor(model, path(), threshold=1.1, cache=True)
    everything = torch.arange(30)
    assert predictor.predict(everything).statistics.touched_nodes == 60
    assert predictor.predict(everything).statistics.touched_nodes == 0
    predictor.set_features([15], torch.randn(1, F_IN))
    # 14 to 16 in the first layer, 13 to 17 in the second.
    assert predictor.predict(everything).statistics.touched_nodes == 3 + 5
    predictor.add_edges(torch.tensor([[2], [15]]))
    # The degree of 15 changes, and with it the rows of 14, 15, 16; the second layer reads those from 13 to 17.
    assert predictor.predict(everything).statistics.touched_nodes == 3 + 5
    predictor.add_nodes(torch.randn(1, F_IN))
    assert predictor.predict(range(31)).statistics.touched_nodes == 1 + 1


def test_statistics_count_the_frontier_of_what_is_passed_on(monkeypatch):
    monkeypatch.setattr(frontier, "TAKE", -1e6)
    model, data = model_with(build_expert("sage", **SIZES)), path()
    none = Predictor(model, data, threshold=0.0).predict([15, 15, 3]).statistics
    assert (none.num_nodes, none.activated, none.touched_nodes, none.touched_edges) == (2, 0.0, 0, 0)
    answer = Predictor(model, data, threshold=1.1).predict([15])
    assert answer.expert.tolist() == [1] and answer.statistics.activated == 1
    # The first layer reads rows of the neighbours' mean, which is there for all nodes.
    assert (answer.statistics.touched_nodes, answer.statistics.touched_edges) == (3 + 1, 0 + 2)
    assert answer.statistics.milliseconds > 0


def test_weights_that_change_are_noticed():
    model, data = model_with(build_expert("gcn", **SIZES)), graph()
    predictor, ids = Predictor(model, data, cache=True), torch.arange(12)
    predictor.predict(ids)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1
    torch.testing.assert_close(predictor.predict(ids).prob, expected(model, data, ids))


def test_a_cascade_and_a_route_answer_as_predict_does():
    torch.manual_seed(0)
    experts = [MLP(**SIZES), build_expert("sage", **SIZES), build_expert("gcn", **SIZES)]
    cascade = Cascade(experts, [PowerConfidence(0.3), LearnedConfidence(4)]).eval()
    data, ids = graph(30), torch.arange(30)
    for threshold in (0.0, 0.4, 0.6, 1.1):
        answer = Predictor(cascade, data, threshold=threshold, cache=True).predict(ids)
        assert answer.labels.equal(cascade.predict(data.x, data.edge_index, threshold=threshold))
    cascade.route = "expert2"
    answer = Predictor(cascade, data).predict(ids)
    assert answer.labels.equal(cascade.predict(data.x, data.edge_index)) and set(answer.expert.tolist()) == {1}
    with pytest.raises(ValueError, match="a budget is for two experts, here are 3"):
        Predictor(cascade, data, budget=0.5)


def test_threads_see_the_graph_before_or_after_a_change():
    model, data = model_with(build_expert("gcn", **SIZES)), graph(60)
    predictor, ids, seen = Predictor(model, data, cache=True), torch.arange(60), []
    before, x = expected(model, data, ids), torch.randn(60, F_IN)
    ask = threading.Thread(target=lambda: seen.extend(predictor.predict(ids).prob for _ in range(60)))
    ask.start()
    predictor.set_features(ids, x)
    ask.join()
    after = expected(model, predictor.data, ids)
    is_before = [torch.allclose(prob, before, atol=1e-6) for prob in seen]
    is_after = [torch.allclose(prob, after, atol=1e-6) for prob in seen]
    assert all(a or b for a, b in zip(is_before, is_after, strict=True))
    assert is_before == sorted(is_before, reverse=True)


def test_an_empty_question_and_a_graph_without_edges():
    model = model_with(build_expert("gcn", **SIZES))
    data = Data(x=torch.randn(3, F_IN), edge_index=torch.empty(2, 0, dtype=torch.long))
    for mode in MODES:
        predictor = Predictor(model, data, threshold=0.5, **mode)
        assert predictor.predict([]).prob.shape == (0, CLASSES)
        torch.testing.assert_close(predictor.predict([1]).prob, expected(model, data, torch.tensor([1]), threshold=0.5))


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (lambda p: p.predict([12]), r"node ids must lie in \[0, 12\), got 12"),
        (lambda p: p.predict([-1]), r"node ids must lie in \[0, 12\), got -1"),
        (lambda p: p.predict([0.5]), "node ids must be integers"),
        (lambda p: p.add_nodes(torch.randn(2, 4)), r"of shape \[2, 5\], got torch.float32 of \[2, 4\]"),
        (lambda p: p.add_nodes(torch.ones(2, 5).long()), "must be floating point"),
        (lambda p: p.set_features([2], torch.full((1, 5), torch.nan)), "must be finite: 1 of 1 rows"),
        (lambda p: p.add_edges(torch.tensor([[0], [12]])), r"must lie in \[0, 12\)"),
        (lambda p: p.add_edges(torch.tensor([0, 1])), r"shape \[2, num_edges\]"),
        (lambda p: p.add_edges(torch.tensor([[0], [1]]), torch.ones(1)), "without edge weights, the new edges"),
        (lambda p: p.set_features([1, 1], torch.randn(2, 5)), "as many different ids"),
        (lambda p: p.set_features([1], torch.randn(2, 5)), "as many different ids as rows of features, got 1 and 2"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(act, problem):
    data = graph()
    predictor = Predictor(model_with(build_expert("gcn", **SIZES)), data)
    with pytest.raises(ValueError, match=problem):
        act(predictor)
    assert predictor.data.x is data.x and predictor.data.edge_index is data.edge_index


def test_what_cannot_serve_is_refused():
    model = model_with(build_expert("gcn", **SIZES))
    with pytest.raises(ValueError, match="x and edge_index"):
        Predictor(model, Data(edge_index=torch.zeros(2, 1).long()))
    with pytest.raises(ValueError, match="must be floating point, got torch.int64"):
        Predictor(model, Data(x=torch.ones(2, 5).long(), edge_index=torch.zeros(2, 1).long()))
    with pytest.raises(FileNotFoundError, match="no folder 'nowhere'"):
        Predictor(model, graph(), folder="nowhere")
    with pytest.raises(ValueError, match="one of threshold, budget"):
        Predictor(model, graph(), threshold=0.5, budget=0.5)
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        Predictor(model, graph(), chunk_size=0)
    fixed = model_with(build_expert("linkx", **SIZES, num_nodes=12))
    with pytest.raises(ValueError, match="parameters for each node"):
        Predictor(fixed, graph()).add_nodes(torch.randn(1, F_IN))
