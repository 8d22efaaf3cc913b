r"""Predictions for some nodes of a changing graph equal those of the model on the current graph."""

import threading

import numpy as np
import pandas as pd
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

    @settings(max_examples=8, deadline=None)
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


class Scaled(OneHop):
    def __init__(self):
        super().__init__()
        self.register_buffer("factor", torch.ones(1), persistent=False)
        self.power = 1

    def forward(self, x, edge_index):
        return super().forward(x, edge_index) * self.factor**self.power


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.strong.factor.mul_(3),
        lambda model: setattr(model.strong, "power", 0),
        lambda model: setattr(model, "strong", OneHop()),
    ],
    ids=["a buffer that is not saved", "a setting", "an expert with the same weights"],
)
def test_other_changes_of_the_model_are_noticed(change):
    model, data = model_with(Scaled()), graph()
    model.strong.factor.fill_(2)
    predictor, ids = Predictor(model, data, cache=True), torch.arange(12)
    before = predictor.predict(ids).prob
    weights = model.strong.conv.state_dict()
    change(model)
    model.strong.conv.load_state_dict(weights)
    after = expected(model.eval(), data, ids)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(predictor.predict(ids).prob, after)


CHANGES_IN_PLACE = {
    "features through numpy": lambda data: data.x.numpy().fill(0),
    "edges through numpy": lambda data: data.edge_index.numpy().fill(0),
    "features.data": lambda data: data.x.data.mul_(3),
    "edges in place": lambda data: data.edge_index.fill_(1),
    "weights in place": lambda data: data.edge_weight.mul_(torch.rand(24)),
}


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("name", ["gcn", "PyG's GCN"])
@pytest.mark.parametrize("change", CHANGES_IN_PLACE.values(), ids=CHANGES_IN_PLACE)
def test_changes_of_the_given_graph_and_of_the_returned_one_change_nothing(change, name, cache):
    model, data, ids = model_with(STRONG[name]()), graph(weighted=True), torch.arange(12)
    before = expected(model, data, ids)
    predictor = Predictor(model, data, cache=cache)
    change(predictor.data)
    predictor.predict([3])
    change(data)
    change(predictor.data)
    torch.testing.assert_close(predictor.predict(ids).prob, before)


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


MASK = torch.arange(12) < 3
NODES = {
    "tensor": torch.tensor([0, 1, 2]),
    "int32": np.arange(3, dtype=np.int32),
    "uint64": np.arange(3, dtype=np.uint64),
    "list": [0, 1, 2],
    "range": range(3),
    "pandas": pd.Series([0, 1, 2], index=[5, 6, 7]),
    "mask": MASK,
    "mask as a list": MASK.tolist(),
    "mask as an array": MASK.numpy(),
}


@pytest.mark.parametrize("nodes", NODES.values(), ids=NODES)
def test_nodes_come_in_any_form(nodes):
    model, data = model_with(build_expert("gcn", **SIZES)), graph()
    predictor = Predictor(model, data)
    prob = expected(model, data, torch.arange(3))
    torch.testing.assert_close(predictor.predict(nodes).prob, prob)
    predictor.set_features(nodes, np.ones((3, F_IN)))
    assert (predictor.data.x == 1).all(dim=1).equal(MASK)


@pytest.mark.parametrize("node", [2, np.int64(2), torch.tensor(2)])
def test_one_node_is_a_list_of_one(node):
    model, data = model_with(build_expert("gcn", **SIZES)), graph()
    predictor = Predictor(model, data)
    prob = expected(model, data, torch.tensor([2]))
    torch.testing.assert_close(predictor.predict(node).prob, prob)
    predictor.set_features(node, [1, 2, 3, 4, 5])
    assert predictor.data.x[2].tolist() == [1, 2, 3, 4, 5]
    assert predictor.add_nodes([1, 2, 3, 4, 5]).tolist() == [12]


EDGES = {
    "list": [[0, 1], [2, 3]],
    "array": np.array([[0, 1], [2, 3]], dtype=np.uint8),
    "int16": torch.tensor([[0, 1], [2, 3]], dtype=torch.int16),
    "int32": torch.tensor([[0, 1], [2, 3]], dtype=torch.int32),
    "pandas": pd.DataFrame([[0, 1], [2, 3]]),
}


@pytest.mark.parametrize("weight", [2, [2, 2], np.array([2.0, 2.0]), torch.tensor(2.0)], ids=type)
@pytest.mark.parametrize("edges", EDGES.values(), ids=EDGES)
def test_edges_and_weights_come_in_any_form(edges, weight):
    model, data = model_with(build_expert("gcn", **SIZES)), graph(weighted=True)
    predictor = Predictor(model, data)
    predictor.add_edges(edges, weight)
    assert predictor.data.edge_index[:, -2:].tolist() == [[0, 1], [2, 3]]
    assert predictor.data.edge_weight[-2:].tolist() == [2, 2]
    predictor.add_edges([[], []], [])
    ids = torch.arange(12)
    prob = expected(model, predictor.data, ids)
    torch.testing.assert_close(predictor.predict(ids).prob, prob)


def test_the_given_graph_comes_in_any_form():
    model, data, ids = model_with(build_expert("gcn", **SIZES)), graph(), torch.arange(12)
    prob = expected(model, data, ids)
    forms = [
        Data(x=data.x.numpy(), edge_index=data.edge_index.tolist()),
        Data(x=data.x.to_sparse(), edge_index=data.edge_index.int()),
        Data(x=data.x.clone().requires_grad_(), edge_index=data.edge_index),
    ]
    for given_graph in forms:
        predictor = Predictor(model, given_graph, cache=True)
        torch.testing.assert_close(predictor.predict(ids).prob, prob)


@pytest.mark.parametrize("rule", [{}, {"threshold": 2.0}, {"budget": 1.0}], ids=str)
@pytest.mark.parametrize("cache", [True, False])
def test_no_prediction_is_nan(rule, cache):
    model = model_with(build_expert("gcn", **SIZES))
    predictor = Predictor(model, graph(), cache=cache, **rule)
    before = predictor.predict(range(12))
    bias = model.strong.convs[0].bias.data.clone()
    model.strong.convs[0].bias.data[0] = torch.nan
    with pytest.raises(FloatingPointError, match="12 of 12 predictions are NaN"):
        predictor.predict(range(12))
    model.strong.convs[0].bias.data.copy_(bias)
    assert predictor.predict(range(12)).prob.equal(before.prob)


@pytest.mark.parametrize("weight", [torch.nan, torch.inf, -50.0])
@pytest.mark.parametrize("make", [lambda: build_expert("gcn", **SIZES), lambda: pyg.GCN(**SIZES)])
def test_a_weight_with_which_nothing_can_be_predicted_is_refused(make, weight):
    model, data = model_with(make()), graph(weighted=True)
    predictor, ids = Predictor(model, data, threshold=2.0), torch.arange(12)
    before = predictor.predict(ids).prob
    with pytest.raises(ValueError, match="edge_weight must be finite|cannot be normalized|NaN"):
        predictor.add_edges([[0, 2], [1, 3]], [1.0, weight])
    assert predictor.data.edge_index.equal(data.edge_index)
    assert predictor.predict(ids).prob.equal(before)
    predictor.add_edges([[0], [1]], -0.01)
    prob = expected(model, predictor.data, ids, threshold=2.0)
    torch.testing.assert_close(predictor.predict(ids).prob, prob)


def test_the_confidence_is_the_share_of_the_weak_expert():
    model, data, ids = model_with(build_expert("gcn", **SIZES)), graph(), torch.tensor([7, 2, 7])
    out = model(data.x, data.edge_index)
    for rule in ({}, {"threshold": 0.5}, {"budget": 0.3}):
        confidence = Predictor(model, data, **rule).predict(ids).confidence
        torch.testing.assert_close(confidence, out.confidence[ids])
    for model.route in ("weak", "strong"):
        confidence = model(data.x, data.edge_index).confidence
        assert Predictor(model, data).predict(ids).confidence.equal(confidence[ids])


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
        (lambda p: p.predict([2**40]), "node ids must lie"),
        (lambda p: p.predict([None]), "node ids must be a tensor, array or list of numbers"),
        (lambda p: p.predict({1, 2}), "the given set cannot be read as one"),
        (lambda p: p.predict([[1], [2]]), r"of shape \[n\], got torch.int64 of shape \[2, 1\]"),
        (lambda p: p.predict(MASK[:5]), "a mask of nodes must have 12 entries, got 5"),
        (lambda p: p.add_nodes([[1.0] * 4]), r"\[n, 5\], got torch.float64 of shape \[1, 4\]"),
        (lambda p: p.add_nodes([[2**30 + 1] * 5]), "integers are rounded as torch.float32"),
        (lambda p: p.add_nodes([[1e300] * 5]), "must be finite: 1 of 1 rows"),
        (lambda p: p.set_features(2, "text"), "features must be a tensor, array or list"),
        (lambda p: p.add_edges([[0.0], [1.0]]), "must be int64 or int32, got torch.float64"),
        (lambda p: p.add_edges([]), r"shape \[2, num_edges\], got \[0\]"),
        (lambda p: p.add_edges([[0], [-1]]), r"must lie in \[0, 12\)"),
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
    assert predictor.data.x.equal(data.x) and predictor.data.edge_index.equal(data.edge_index)


def test_invalid_arguments_are_refused():
    model = model_with(build_expert("gcn", **SIZES))
    for wrong in (Data(edge_index=torch.zeros(2, 1).long()), graph().x, None):
        with pytest.raises(ValueError, match="data must have x and edge_index"):
            Predictor(model, wrong)
    for field in ("x", "edge_weight"):
        nan = graph(weighted=True)
        nan[field].view(-1)[3] = torch.nan
        with pytest.raises(ValueError, match=f"{field} must be finite: 1 of "):
            Predictor(model, nan)
    with pytest.raises(ValueError, match="threshold is the least confidence .* got nan"):
        Predictor(model, graph(), threshold=float("nan"))
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
