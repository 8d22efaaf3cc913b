from dataclasses import replace

import pytest
import torch

from mowst import (
    GCN,
    MLP,
    FeatureGate,
    GraphTask,
    LearnedGate,
    MonotoneGate,
    Mowst,
    TrainConfig,
    build_expert,
    fit,
)
from mowst.train.evaluate import score_model

SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}
SHORT = {"epochs": 3, "patience": None, "rounds": 1, "lr": 0.03, "gate_folds": 2}
RUNS = [
    ("mowst", {}),
    ("mowst", {"gate_fit": "train"}),
    ("mowst-star", {}),
    ("mowst-star", {"gate_fit": "train"}),
]


def make_model(gate=None):
    torch.manual_seed(0)
    norm = {"norm": "batch_norm", "dropout": 0.3}
    return Mowst(MLP(**SIZES, **norm), GCN(**SIZES, **norm), gate or LearnedGate(4))


def train(model, task, method="mowst", **settings):
    return fit(model, task, method, TrainConfig(**SHORT | settings))


def get_weights(model):
    return {
        key: value for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)
    }


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def inductive(make_task) -> GraphTask:
    task = make_task(num_nodes=60)
    # Nodes of no split are visible.
    val = task.masks["val"] & (torch.arange(60) > 15)
    return replace(task, masks=task.masks | {"val": val}, inductive=True)


def change_test_nodes(task: GraphTask) -> GraphTask:
    r"""Returns the task with other features, labels and edges of the test nodes."""
    test, data = task.masks["test"], task.data.clone()
    data.x = torch.where(test.unsqueeze(1), 100 * torch.randn_like(data.x), data.x)
    data.y = torch.where(test, (data.y + 1) % 3, data.y)
    visible = ~test[data.edge_index].any(dim=0)
    first = task.index("test")[0].repeat(task.num_nodes)
    new = torch.stack([first, torch.arange(task.num_nodes)])
    data.edge_index = torch.cat([new, data.edge_index[:, visible]], dim=1)
    return replace(task, data=data)


@pytest.mark.parametrize(("method", "settings"), RUNS, ids=str)
def test_other_test_nodes_do_not_change_one_bit_of_what_is_learned_and_selected(
    inductive, method, settings
):
    models, results, histories = [], [], []
    for task in (inductive, change_test_nodes(inductive)):
        models.append(make_model())
        results.append(train(models[-1], task, method, **settings))
        histories.append(
            [{k: v for k, v in row.items() if k != "seconds"} for row in results[-1].history]
        )
    assert (
        equal(*map(get_weights, models))
        and models[0].get_extra_state() == models[1].get_extra_state()
    )
    one, other = results
    assert histories[0] == histories[1] and (one.train, one.val, one.route) == (
        other.train,
        other.val,
        other.route,
    )


def test_they_do_in_a_transductive_task(inductive):
    transductive, models = replace(inductive, inductive=False), []
    for task in (transductive, change_test_nodes(transductive)):
        models.append(make_model())
        train(models[-1], task, gate_fit="train")
    assert not equal(*map(get_weights, models))


def test_the_visible_graph_is_induced_by_all_other_nodes(inductive):
    inductive.data.edge_weight = torch.rand(inductive.data.num_edges)
    visible, keep = inductive.visible, (~inductive.masks["test"]).nonzero().view(-1)
    assert (
        visible.visible is visible
        and inductive.visible is visible
        and visible.masks.keys() == {"train", "val"}
    )
    assert visible.data.x.equal(inductive.data.x[keep]) and visible.labels("val").equal(
        inductive.labels("val")
    )
    adjacency = torch.zeros(60, 60).index_put_(
        tuple(inductive.data.edge_index), inductive.data.edge_weight
    )
    seen = torch.zeros(len(keep), len(keep)).index_put_(
        tuple(visible.data.edge_index), visible.data.edge_weight
    )
    assert seen.equal(adjacency[keep][:, keep])
    other = replace(inductive, inductive=False)
    assert other.visible is other


def test_test_nodes_are_scored_on_the_full_graph_and_others_on_the_visible_one(inductive):
    model = make_model()
    result = train(model, inductive)
    for split, task in (
        ("test", inductive),
        ("train", inductive.visible),
        ("val", inductive.visible),
    ):
        prob = model(task.data.x, task.data.edge_index).prob.detach()
        assert getattr(result, split) == task.evaluate(prob, split)
    again = score_model(model, inductive)
    assert all(
        getattr(result, key) == again[key]
        for key in ("train", "val", "test", "expected", "deferred_share")
    )
    assert again["scores"]["mixture"].keys() == {"train", "val", "test"}


def test_the_start_of_a_run_without_rounds_is_its_end(inductive):
    result = train(make_model(), inductive, rounds=0)
    assert result.start == {split: getattr(result, split) for split in ("train", "val", "test")}


def test_a_gate_that_reads_features_stays_inductive(inductive):
    models = []
    for task in (inductive, change_test_nodes(inductive)):
        torch.manual_seed(1)
        models.append(make_model(FeatureGate(in_channels=6, hidden_channels=8)))
        train(models[-1], task, "mowst-star", rounds=0)
    assert equal(*map(get_weights, models))


def test_experts_with_weights_for_each_node_are_refused(inductive):
    linkx = build_expert("linkx", in_channels=6, out_channels=3, num_nodes=60)
    model = Mowst(MLP(**SIZES), linkx, LearnedGate(8))
    with pytest.raises(
        ValueError,
        match="the strong expert LINKX has values for each node, and 'graph' is inductive",
    ):
        train(model, inductive)
    train(model, inductive, "weak")
    train(model, replace(inductive, inductive=False), rounds=0)


@pytest.mark.parametrize(("method", "settings"), [RUNS[0], RUNS[3]], ids=str)
def test_equal_class_weights_change_nothing_and_others_do(make_task, method, settings):
    task, losses = make_task(num_nodes=60), {}
    for key, weight in {"none": None, "equal": [2.0] * 3, "first": [50.0, 1.0, 1.0]}.items():
        weighted = replace(task, class_weight=weight)
        history = train(make_model(MonotoneGate()), weighted, method, epochs=2, **settings).history
        losses[key] = [[record[kind] for record in history] for kind in ("loss", "val_loss")]
    for kind in (0, 1):
        assert losses["none"][kind] == pytest.approx(losses["equal"][kind], rel=1e-3)
        assert losses["none"][kind] != pytest.approx(losses["first"][kind], rel=1e-2)


def test_a_class_of_large_weight_is_predicted_more_often(make_task):
    task, counts = make_task(num_nodes=60), []
    for weight in ([1.0, 1.0, 1.0], [30.0, 1.0, 1.0]):
        model = make_model()
        train(model, replace(task, class_weight=weight), "weak", epochs=8)
        counts.append(int((model.predict(task.data.x, task.data.edge_index) == 0).sum()))
    assert counts[1] > counts[0] + 6
