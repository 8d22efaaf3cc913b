from dataclasses import replace

import pytest
import torch

from mowst import GCN, MLP, FeatureConfidence, GraphTask, LearnedConfidence, Mowst, build_expert, fit
from mowst.train import METHODS
from mowst.train.scores import score_model

SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}
GATE_FITS = [{"gate_fit": "folds"}, {"gate_fit": "train", "calibrate": True}]
SHORT = {"epochs": 8, "patience": None, "rounds": 2, "lr": 0.03, "gate_folds": 2}


def make_model(confidence=None):
    torch.manual_seed(0)
    norm = {"norm": "batch_norm", "dropout": 0.3}
    return Mowst(MLP(**SIZES, **norm), GCN(**SIZES, **norm), confidence or LearnedConfidence(8))


def weights(model):
    return {key: value for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def inductive(make_task) -> GraphTask:
    task = make_task(num_nodes=90)
    # Nodes of no split are seen.
    val = task.masks["val"] & (torch.arange(90) > 30)
    return replace(task, masks=task.masks | {"val": val}, inductive=True)


def with_other_test_nodes(task: GraphTask) -> GraphTask:
    r"""The same task with other features, labels and edges of the test nodes."""
    test, data = task.masks["test"], task.data.clone()
    data.x = torch.where(test.unsqueeze(1), 100 * torch.randn_like(data.x), data.x)
    data.y = torch.where(test, (data.y + 1) % 3, data.y)
    seen = ~test[data.edge_index].any(dim=0)
    first = task.index("test")[0].repeat(task.num_nodes)
    data.edge_index = torch.cat([torch.stack([first, torch.arange(task.num_nodes)]), data.edge_index[:, seen]], dim=1)
    return replace(task, data=data)


@pytest.mark.parametrize("settings", [*({"method": m} for m in METHODS), *GATE_FITS], ids=str)
def test_other_test_nodes_change_not_one_bit_of_what_is_learned_and_selected(inductive, settings):
    models, results = [], []
    for task in (inductive, with_other_test_nodes(inductive)):
        models.append(make_model())
        results.append(fit(models[-1], task, **settings, **SHORT))
    assert same(*map(weights, models)) and models[0].temperatures == models[1].temperatures
    one, other = results
    drop = [[{k: v for k, v in row.items() if k != "seconds"} for row in result.history] for result in results]
    assert drop[0] == drop[1] and (one.train, one.val, one.route) == (other.train, other.val, other.route)


def test_they_do_where_test_nodes_are_seen(inductive):
    seen, models = replace(inductive, inductive=False), []
    for task in (seen, with_other_test_nodes(seen)):
        models.append(make_model())
        fit(models[-1], task, **SHORT)
    assert not same(*map(weights, models))


def test_the_visible_graph_is_induced_by_all_other_nodes(inductive):
    inductive.data.edge_weight = torch.rand(inductive.data.num_edges)
    visible, keep = inductive.visible, (~inductive.masks["test"]).nonzero().view(-1)
    assert visible.visible is visible and inductive.visible is visible and visible.masks.keys() == {"train", "val"}
    assert visible.data.x.equal(inductive.data.x[keep]) and visible.labels("val").equal(inductive.labels("val"))
    adjacency = torch.zeros(90, 90).index_put_(tuple(inductive.data.edge_index), inductive.data.edge_weight)
    seen = torch.zeros(len(keep), len(keep)).index_put_(tuple(visible.data.edge_index), visible.data.edge_weight)
    assert seen.equal(adjacency[keep][:, keep])
    other = replace(inductive, inductive=False)
    assert other.visible is other


def test_test_nodes_are_scored_on_the_full_graph_and_others_on_the_visible_one(inductive):
    model = make_model()
    result = fit(model, inductive, **SHORT)
    for split, task in (("test", inductive), ("train", inductive.visible), ("val", inductive.visible)):
        prob = model(task.data.x, task.data.edge_index).prob.detach()
        assert getattr(result, split) == task.evaluate(prob, split)
    again = score_model(model, inductive)
    assert all(getattr(result, key) == again[key] for key in ("train", "val", "test", "expected", "weak_share"))
    assert again["scores"]["mixture"].keys() == {"train", "val", "test"}


def test_the_start_of_a_run_without_turns_is_its_end(inductive):
    result = fit(make_model(), inductive, **SHORT | {"rounds": 0, "gate_fit": "validation"})
    assert result.start == {split: getattr(result, split) for split in ("train", "val", "test")}


def test_a_confidence_that_reads_features_stays_inductive(inductive):
    models = []
    for task in (inductive, with_other_test_nodes(inductive)):
        torch.manual_seed(1)
        models.append(make_model(FeatureConfidence(in_channels=6, hidden_channels=8)))
        fit(models[-1], task, method="mowst-star", **SHORT)
    assert same(*map(weights, models))


def test_experts_with_weights_for_each_node_are_refused(inductive):
    linkx = build_expert("linkx", in_channels=6, out_channels=3, num_nodes=90)
    model = Mowst(MLP(**SIZES), linkx, LearnedConfidence(8))
    with pytest.raises(ValueError, match="the strong expert LINKX has weights for each node, and 'graph' is inductive"):
        fit(model, inductive, **SHORT)
    fit(model, inductive, method="weak", **SHORT)
    fit(model, replace(inductive, inductive=False), **SHORT)


@pytest.mark.parametrize("settings", [*({"method": m} for m in METHODS), *GATE_FITS], ids=str)
def test_equal_class_weights_change_nothing_and_others_do(make_task, settings):
    task, states = make_task(num_nodes=90), {}
    for key, weight in {"none": None, "equal": [2.0] * 3, "balanced": "balanced", "first": [50.0, 1.0, 1.0]}.items():
        model = make_model()
        result = fit(model, replace(task, class_weight=weight), **settings, **SHORT)
        states[key] = [record["loss"] for record in result.history], [record["val_loss"] for record in result.history]
    for kind in (0, 1):
        assert states["none"][kind] == pytest.approx(states["equal"][kind], rel=1e-3)
        assert states["none"][kind] != pytest.approx(states["first"][kind], rel=1e-2)


def test_a_heavy_class_is_answered_more_often(make_task):
    task, answers = make_task(num_nodes=90), []
    for weight in ([1.0, 1.0, 1.0], [30.0, 1.0, 1.0]):
        model = make_model()
        fit(model, replace(task, class_weight=weight), method="weak", **SHORT)
        answers.append(int((model.predict(task.data.x, task.data.edge_index) == 0).sum()))
    assert answers[1] > answers[0] + 10
