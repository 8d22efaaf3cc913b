r"""Predictions for some nodes of a changing graph equal those of the model on the current graph."""

import threading

import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from mowst import MLP, Mowst, PowerGate, build_expert
from mowst.serve import Predictor
from mowst.sparse import partial

F_IN, CLASSES = 5, 3
SIZES = {"in_channels": F_IN, "hidden_channels": 8, "out_channels": CLASSES, "num_layers": 2}
STRONG = {
    "gcn": lambda: build_expert("gcn", **SIZES),
    "sage": lambda: build_expert("sage", **SIZES),
    "gin": lambda: build_expert("gin", **SIZES),
    "gat": lambda: build_expert("gat", **SIZES),
    "h2gcn": lambda: build_expert("h2gcn", **SIZES),
    "gcn-skip": lambda: build_expert("gcn-skip", **{**SIZES, "num_layers": 3}),
    "tuned-gcn": lambda: build_expert("tuned-gcn", **SIZES, norm="batch_norm", skip=True),
    "tuned-sage": lambda: build_expert("tuned-sage", **SIZES, skip=True),
    "Mowst": lambda: Mowst(MLP(**SIZES), build_expert("gcn", **SIZES), PowerGate(0.3)),
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


def graph(num_nodes=12, weighted=False, seed=0):
    torch.manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, 2 * num_nodes))
    weight = torch.rand(2 * num_nodes) + 0.1 if weighted else None
    return Data(x=torch.randn(num_nodes, F_IN), edge_index=edge_index, edge_weight=weight)


def model_with(strong):
    torch.manual_seed(0)
    return Mowst(MLP(**SIZES), strong, PowerGate(0.3)).eval()


@torch.no_grad()
def expected(model, data, ids, threshold=None, budget=None):
    out = model(data.x, data.edge_index, data.edge_weight)
    if threshold is not None:
        deferred = out.confidence[ids] < threshold
    elif budget is not None:
        order = ids.unique()
        least = order[out.confidence[order].argsort(stable=True)[: int(budget * order.numel())]]
        deferred = torch.isin(ids, least)
    else:
        return out.prob[ids]
    return torch.where(deferred.unsqueeze(-1), out.strong[ids], out.weak[ids]).softmax(dim=-1)


CHANGES = st.lists(
    st.sampled_from(["nodes", "edges", "features", "nothing"]), min_size=1, max_size=4
)


@pytest.mark.parametrize("take", [-1e6, 1e12], ids=["always pruned", "never pruned"])
@pytest.mark.parametrize("name", STRONG)
def test_after_every_change_predictions_are_those_of_the_model(name, take, monkeypatch):
    monkeypatch.setattr(partial, "TAKE", take)
    model = model_with(STRONG[name]())
    weighs = name in ("a module of one hop", "an MLP", "Mowst")
    weighs = getattr(model.strong, "supports_edge_weight", weighs)

    @settings(max_examples=10, deadline=None)
    @given(
        CHANGES,
        st.integers(0, 99),
        st.booleans(),
        st.sampled_from(MODES),
        st.sampled_from(ROUTES),
    )
    def check(changes, seed, weighted, mode, route):
        data = graph(weighted=weighted and weighs, seed=seed)
        x, weight = data.x.clone(), data.edge_weight
        predictor = Predictor(model, data, **mode, **route)
        for change in changes:
            n = predictor.num_nodes
            if change == "nodes":
                assert predictor.add_nodes(torch.randn(2, F_IN)).tolist() == [n, n + 1]
            elif change == "edges":
                new = None if weight is None else torch.rand(3)
                predictor.add_edges(torch.randint(n, (2, 3)), new)
            elif change == "features":
                predictor.set_features(torch.randperm(n)[:2], torch.randn(2, F_IN))
            ids = torch.randint(predictor.num_nodes, (6,))
            prediction = predictor.predict(ids)
            torch.testing.assert_close(
                prediction.prob, expected(model, predictor.data, ids, **route)
            )
            assert prediction.labels.equal(prediction.prob.argmax(dim=-1))
        assert data.x.equal(x) and data.num_nodes == 12, "the given graph must not change"

    check()


def test_rows_on_disk_are_the_rows_in_memory_and_leave_no_file(tmp_path):
    model, data = model_with(build_expert("gcn", **SIZES)), graph(40)
    on_disk = Predictor(model, data, cache=True, chunk_size=7, folder=tmp_path)
    ids = torch.arange(40)
    first = on_disk.predict(ids)
    assert len(list(tmp_path.rglob("layer*.bin"))) == 2
    torch.testing.assert_close(first.prob, expected(model, data, ids))
    new = on_disk.add_nodes(torch.randn(3, F_IN))
    on_disk.add_edges(torch.stack([new, torch.tensor([0, 1, 2])]))
    after = expected(model, on_disk.data, torch.arange(43))
    torch.testing.assert_close(on_disk.predict(range(43)).prob, after)
    del on_disk
    assert not list(tmp_path.iterdir())


def path(num_nodes=30):
    forward = torch.stack([torch.arange(num_nodes - 1), torch.arange(1, num_nodes)])
    return Data(
        x=torch.randn(num_nodes, F_IN), edge_index=torch.cat([forward, forward.flip(0)], dim=1)
    )


def test_with_the_cache_a_second_call_touches_nothing_and_a_change_only_what_it_reaches(
    monkeypatch,
):
    monkeypatch.setattr(partial, "TAKE", -1e6)
    model = model_with(build_expert("gcn", **SIZES))
    predictor = Predictor(model, path(), threshold=1.1, cache=True)
    everything = torch.arange(30)
    assert predictor.predict(everything).statistics.touched_nodes == 60
    assert predictor.predict(everything).statistics.touched_nodes == 0
    predictor.set_features([15], torch.randn(1, F_IN))
    # 14 to 16 in the first layer, 13 to 17 in the second.
    assert predictor.predict(everything).statistics.touched_nodes == 3 + 5
    predictor.add_edges(torch.tensor([[2], [15]]))
    # The degree of 15 changes, and the rows of 14 to 16. The second layer reads 13 to 17.
    assert predictor.predict(everything).statistics.touched_nodes == 3 + 5
    predictor.add_nodes(torch.randn(1, F_IN))
    assert predictor.predict(range(31)).statistics.touched_nodes == 1 + 1


def test_statistics_count_the_frontier_of_deferred_nodes(monkeypatch):
    monkeypatch.setattr(partial, "TAKE", -1e6)
    model, data = model_with(build_expert("sage", **SIZES)), path()
    none = Predictor(model, data, threshold=0.0).predict([15, 15, 3]).statistics
    assert (none.num_nodes, none.deferred_share) == (2, 0.0)
    assert (none.touched_nodes, none.touched_edges) == (0, 0)
    prediction = Predictor(model, data, threshold=1.1).predict([15])
    statistics = prediction.statistics
    assert prediction.deferred.tolist() == [True] and statistics.deferred_share == 1
    # The first layer reads rows of the neighbours' mean, which is there for all nodes.
    assert (statistics.touched_nodes, statistics.touched_edges) == (3 + 1, 0 + 2)
    assert statistics.milliseconds > 0


def add_in_place(model):
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1


def add_to_data(model):
    for weight in model.parameters():
        weight.data += 0.1


def set_vector(model):
    vector = torch.nn.utils.parameters_to_vector(model.parameters())
    torch.nn.utils.vector_to_parameters(vector + 0.1, model.parameters())


def take_step(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()


def set_buffers(model):
    for norm in model.strong.norms:
        norm.module.running_mean.data += 0.5


@pytest.mark.parametrize(
    "change",
    [add_in_place, add_to_data, set_vector, take_step, set_buffers],
    ids=lambda f: f.__name__,
)
def test_changed_weights_are_noticed(change):
    model, data = model_with(pyg.GCN(**SIZES, norm="batch_norm", jk="last")), graph()
    predictor, ids = Predictor(model, data, cache=True), torch.arange(12)
    before = predictor.predict(ids).prob
    change(model)
    after = expected(model, data, ids)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(predictor.predict(ids).prob, after)


def test_changed_settings_of_a_nested_model_are_noticed():
    model, data = model_with(STRONG["Mowst"]()), graph()
    predictor, ids = Predictor(model, data, threshold=1.1, cache=True), torch.arange(12)
    for route in ("mixture", "weak", "strong"):
        model.strong.route = route
        torch.testing.assert_close(
            predictor.predict(ids).prob, expected(model, data, ids, threshold=1.1)
        )


@pytest.mark.parametrize(("route", "deferred"), [("mixture", 1), ("weak", 0), ("strong", 1)])
def test_without_a_rule_the_route_of_the_model_is_followed(route, deferred):
    model, data = model_with(build_expert("gcn", **SIZES)), graph()
    model.route = route
    prediction = Predictor(model, data).predict(torch.arange(12))
    assert prediction.labels.equal(model.predict(data.x, data.edge_index))
    assert prediction.deferred.tolist() == [bool(deferred)] * 12
    assert prediction.statistics.deferred_share == deferred


def test_all_rules_predict_as_the_model_does():
    model, data, ids = model_with(build_expert("gcn", **SIZES)), graph(30), torch.arange(30)
    for rule in ({"threshold": 0.0}, {"threshold": 0.6}, {"threshold": 1.1}, {"budget": 0.3}):
        prediction = Predictor(model, data, cache=True, **rule).predict(ids)
        assert prediction.labels.equal(model.predict(data.x, data.edge_index, **rule))


def test_threads_see_the_graph_before_or_after_a_change():
    model, data = model_with(build_expert("gcn", **SIZES)), graph(60)
    predictor, ids, seen = Predictor(model, data, cache=True), torch.arange(60), []
    before, x = expected(model, data, ids), torch.randn(60, F_IN)

    def predict():
        for _ in range(60):
            seen.append(predictor.predict(ids).prob)

    thread = threading.Thread(target=predict)
    thread.start()
    predictor.set_features(ids, x)
    thread.join()
    after = expected(model, predictor.data, ids)
    is_before = [torch.allclose(prob, before, atol=1e-6) for prob in seen]
    is_after = [torch.allclose(prob, after, atol=1e-6) for prob in seen]
    assert all(a or b for a, b in zip(is_before, is_after, strict=True))
    assert is_before == sorted(is_before, reverse=True)


def test_no_nodes_and_a_graph_without_edges():
    model = model_with(build_expert("gcn", **SIZES))
    data = Data(x=torch.randn(3, F_IN), edge_index=torch.empty(2, 0, dtype=torch.long))
    for mode in MODES:
        predictor = Predictor(model, data, threshold=0.5, **mode)
        assert predictor.predict([]).prob.shape == (0, CLASSES)
        prob = expected(model, data, torch.tensor([1]), threshold=0.5)
        torch.testing.assert_close(predictor.predict([1]).prob, prob)


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (lambda p: p.predict([12]), r"node ids must lie in \[0, 12\), got 12"),
        (lambda p: p.predict([-1]), r"node ids must lie in \[0, 12\), got -1"),
        (lambda p: p.predict([0.5]), "node ids must be integers"),
        (
            lambda p: p.add_nodes(torch.randn(2, 4)),
            r"\[n, 5\], got torch.float32 of shape \[2, 4\]",
        ),
        (lambda p: p.add_nodes(torch.ones(2, 5).long()), "must be floating point"),
        (
            lambda p: p.set_features([2], torch.full((1, 5), torch.nan)),
            "must be finite: 1 of 1 rows",
        ),
        (lambda p: p.add_edges(torch.tensor([[0], [12]])), r"must lie in \[0, 12\)"),
        (lambda p: p.add_edges(torch.tensor([0, 1])), r"shape \[2, num_edges\]"),
        (
            lambda p: p.add_edges(torch.tensor([[0], [1]]), torch.ones(1)),
            "without edge weights, the new edges",
        ),
        (lambda p: p.set_features([1, 1], torch.randn(2, 5)), "as many different ids"),
        (lambda p: p.set_features([1], torch.randn(2, 5)), "ids as rows of features, got 1 and 2"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(act, problem):
    data = graph()
    predictor = Predictor(model_with(build_expert("gcn", **SIZES)), data)
    with pytest.raises(ValueError, match=problem):
        act(predictor)
    assert predictor.data.x is data.x and predictor.data.edge_index.equal(data.edge_index)


def test_invalid_arguments_are_refused():
    model = model_with(build_expert("gcn", **SIZES))
    with pytest.raises(ValueError, match="data must have x and edge_index"):
        Predictor(model, Data(edge_index=torch.zeros(2, 1).long()))
    with pytest.raises(ValueError, match="must be floating point, got torch.int64"):
        Predictor(model, Data(x=torch.ones(2, 5).long(), edge_index=torch.zeros(2, 1).long()))
    with pytest.raises(
        FileNotFoundError, match="the folder 'nowhere' for hidden rows does not exist"
    ):
        Predictor(model, graph(), folder="nowhere")
    with pytest.raises(ValueError, match="one of threshold, budget"):
        Predictor(model, graph(), threshold=0.5, budget=0.5)
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        Predictor(model, graph(), chunk_size=0)
    fixed = model_with(build_expert("linkx", **SIZES, num_nodes=12))
    with pytest.raises(ValueError, match="parameters for each node"):
        Predictor(fixed, graph()).add_nodes(torch.randn(1, F_IN))
