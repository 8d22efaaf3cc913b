import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch_geometric.typing
from torch_geometric.nn import GCN as PyGGCN

from mowst import (
    GCN,
    GIN,
    LINKX,
    MLP,
    GraphSAGE,
    GraphTask,
    MonotoneGate,
    Mowst,
    TrainConfig,
    fit,
    seed_everything,
)
from mowst.nn.loss import mowst_loss, mowst_star_loss
from mowst.train import Stage, Trainer
from mowst.train.batches import Batches
from mowst.train.forward import StageForward
from mowst.train.inputs import TaskInputs
from mowst.train.methods import find_method
from mowst.train.methods.method import compute_expert_loss

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SHORT = {"epochs": 3, "rounds": 1, "lr": 0.03, "gate_folds": 2}


def make_model(strong=GCN, seed=0, **kwargs):
    seed_everything(seed)
    return Mowst(MLP(**SIZES, **kwargs), strong(**SIZES, **kwargs), MonotoneGate())


def make_stage(learns, predicts="mixture", loss=None):
    return Stage(name="test", part=learns[0], predicts=predicts, learns=learns, loss=loss)


def close(one, other, atol=1e-5):
    return all(
        torch.allclose(a, b, atol=atol)
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def make_batches(task, reads_graph, **settings):
    return Batches(
        task,
        TrainConfig(**{"batches": "random", **settings}),
        TaskInputs(make_model(), task),
        reads_graph,
    )


def iterate_epoch(task, reads_graph, **settings):
    batches = make_batches(task, reads_graph, **settings)
    for step in batches.draw_steps():
        for draw in step:
            with draw.seed_generators():
                yield batches.make_batch(draw)


@pytest.mark.parametrize(
    ("reads_graph", "settings"),
    [
        (False, {"num_parts": 8}),
        (True, {"num_parts": 20}),
        (True, {"batches": "neighbor", "batch_size": 7}),
        (False, {"batches": "neighbor", "batch_size": 1}),
    ],
    ids=str,
)
def test_every_batch_has_at_least_two_training_nodes(task, reads_graph, settings):
    assert task.index("train").numel() % 7 == 1
    for _ in range(10):
        assert all(
            batch.rows.numel() >= 2 for batch in iterate_epoch(task, reads_graph, **settings)
        )


@pytest.mark.parametrize("reads_graph", [False, True])
@pytest.mark.parametrize("num_parts", [1, 3, 100])
def test_an_epoch_goes_once_through_the_training_nodes(task, reads_graph, num_parts):
    index, rows, shares = task.index("train"), [], []
    for batch in iterate_epoch(task, reads_graph, num_parts=num_parts):
        rows.append(batch.rows)
        shares.append(batch.share)
        assert torch.equal(batch.x.x, task.data.x[index[batch.rows]])
        if reads_graph:
            assert torch.equal(batch.graph_x.x[batch.at], batch.x.x)
    assert torch.cat(rows).sort().values.equal(torch.arange(index.numel()))
    assert sum(shares) == pytest.approx(1)


LOSSES = {"mowst": mowst_loss, "mowst-star": partial(mowst_star_loss, mix="prob")}


@pytest.mark.parametrize("class_weight", [None, [1.0, 2.0, 5.0]])
@pytest.mark.parametrize(
    ("learns", "predicts", "loss"),
    [
        (("weak", "gate"), "mixture", LOSSES["mowst"]),
        (("weak", "gate"), "mixture", LOSSES["mowst-star"]),
        (("weak",), "mixture", LOSSES["mowst"]),
        (("weak",), "weak", partial(compute_expert_loss, "weak")),
    ],
)
def test_the_losses_of_the_batches_add_up_to_the_loss(task, class_weight, learns, predicts, loss):
    task = GraphTask(task.data, task.masks, 3, class_weight=class_weight)
    forward = StageForward(
        make_model(), task, make_stage(learns, predicts, loss), TaskInputs(make_model(), task)
    )
    assert not forward.reads_graph
    total = sum(
        float(forward.compute_loss(batch).detach())
        for batch in iterate_epoch(task, False, num_parts=4)
    )
    assert total == pytest.approx(float(forward.compute_loss().detach()), rel=1e-5)


def test_a_strong_stage_reads_the_frozen_weak_expert_and_gate_on_the_nodes_of_the_batch(task):
    model, seen = make_model(), []

    def record(out, y, class_weight):
        seen.append((out, y))
        return out.strong.sum()

    forward = StageForward(
        model, task, make_stage(("strong",), loss=record), TaskInputs(model, task)
    )
    assert forward.reads_graph
    whole = model.eval()(task.data.x, task.data.edge_index)
    for batch in iterate_epoch(task, True, num_parts=3):
        forward.compute_loss(batch)
        (out, y), nodes = seen.pop(), task.index("train")[batch.rows]
        assert torch.allclose(out.confidence, whole.confidence[nodes])
        assert torch.allclose(out.weak, whole.weak[nodes])
        assert not (out.weak.requires_grad or out.confidence.requires_grad)
        assert torch.equal(y, task.data.y[nodes])


def check_same_run(task, strong, one, other, **settings):
    full, part = make_model(strong), make_model(strong)
    method = settings.pop("method")
    expected = fit(full, task, method, TrainConfig(**SHORT, **settings, **one))
    result = fit(part, task, method, TrainConfig(**SHORT, **settings, **other))
    losses = [[record["loss"] for record in r.history] for r in (expected, result)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert close(full, part, atol=1e-3) and result.test == pytest.approx(expected.test)


@pytest.mark.parametrize(
    ("method", "strong", "gate_fit"),
    [
        ("mowst", GCN, "train"),
        ("mowst", GCN, "validation"),
        ("mowst", PyGGCN, "train"),
        ("mowst-star", GIN, "train"),
        ("strong", GraphSAGE, "train"),
        ("weak", GCN, "train"),
    ],
)
def test_one_part_is_the_full_batch(task, method, strong, gate_fit):
    check_same_run(
        task, strong, {}, {"batches": "random", "num_parts": 1}, method=method, gate_fit=gate_fit
    )


@pytest.mark.parametrize("method", ["mowst", "mowst-star", "weak", "strong"])
def test_all_neighbours_of_all_training_nodes_are_the_full_batch(task, method):
    sampled = {"batches": "neighbor", "num_neighbors": (-1, -1)}
    check_same_run(task, GCN, {}, sampled, method=method, gate_fit="train")


def test_gradients_of_batches_are_accumulated(task):
    r"""All batches in one step are one step on the whole loss, where no expert reads the graph."""
    models = []
    for settings in ({}, {"batches": "random", "num_parts": 5, "batches_per_step": 5}):
        models.append(make_model())
        trainer = Trainer(models[-1], task, find_method("mowst"), TrainConfig(epochs=3, **settings))
        trainer.run_stage(make_stage(("weak", "gate"), loss=mowst_loss))
        assert len(trainer.history) == 3
    assert close(*models)


def test_batch_statistics_are_those_of_the_batch(task):
    model = make_model(partial(GCN, norm="batch_norm"))
    seen = []
    model.strong.norms[0].register_forward_hook(lambda _, args, out: seen.append(args[0].size(0)))
    for batch in iterate_epoch(task, True, num_parts=3):
        model.logits("strong", batch.graph_x, batch.graph)
    assert seen == [10, 10, 10]


@pytest.mark.parametrize("strong", [GCN, PyGGCN])
def test_edge_weights_are_those_of_the_edges(task, strong):
    data = copy.copy(task.data)
    data.edge_weight = torch.rand(data.num_edges)
    task = GraphTask(data, task.masks, 3)
    check_same_run(task, strong, {}, {"batches": "random", "num_parts": 1}, method="strong")
    weights = torch.zeros(30, 30).index_put_(tuple(data.edge_index), data.edge_weight)
    for batch in iterate_epoch(task, True, num_parts=2):
        source, target = batch.graph.nodes[batch.graph.edge_index]
        assert torch.equal(batch.graph.edge_weight, weights[source, target])


def test_random_numbers_in_a_batch_follow_its_seed_alone(task):
    first, second = make_batches(task, False).draw_steps(size=2)[0]
    drawn = []
    for order in ((first, second), (second, first)):
        numbers = {}
        for draw in order:
            with draw.seed_generators():
                numbers[draw.seed] = float(torch.rand(()))
        drawn.append(numbers)
    assert drawn[0] == drawn[1] and first.seed != second.seed


def test_experts_with_weights_for_each_node_are_refused(task):
    model = Mowst(MLP(**SIZES), LINKX(**SIZES, num_nodes=30), MonotoneGate())
    with pytest.raises(ValueError, match="LINKX has values for each node"):
        fit(model, task, config=TrainConfig(batches="random"))
    fit(model, task, method="weak", config=TrainConfig(batches="random", epochs=2))


def test_pyg_samples_where_pyg_lib_is_installed(task, monkeypatch):
    seen = []

    def neighbor_sample(first, neighbours, seeds, num_neighbors, *args):
        r"""The function of pyg-lib that PyG calls: it returns all nodes."""
        seen.append((seeds, num_neighbors))
        none, nodes = torch.empty(0, dtype=torch.long), torch.arange(30).flip(0)
        return none, none, nodes, none, [len(seeds)], [0]

    op = SimpleNamespace(neighbor_sample=neighbor_sample)
    monkeypatch.setattr(torch_geometric.typing, "WITH_PYG_LIB", True)
    monkeypatch.setattr(torch.ops, "pyg", op, raising=False)
    (batch,) = iterate_epoch(task, True, batches="neighbor", num_neighbors=(2,))
    ((seeds, num_neighbors),) = seen
    assert seeds.sort().values.equal(task.index("train")) and num_neighbors == [2]
    assert batch.graph.nodes.equal(torch.arange(30))


def test_the_number_of_neighbours_is_sampled(task):
    made = list(iterate_epoch(task, True, batches="neighbor", batch_size=4, num_neighbors=(2,)))
    assert [batch.rows.numel() for batch in made] == [4, 4, 4, 3]
    assert all(batch.graph.num_nodes <= 4 + 2 * 4 for batch in made)


def test_training_on_sampled_neighbours_lowers_the_loss(task):
    settings = {"batches": "neighbor", "batch_size": 4, "num_neighbors": (3, 3)}
    result = fit(make_model(), task, "strong", TrainConfig(**SHORT | settings | {"epochs": 8}))
    losses = [record["loss"] for record in result.history]
    assert losses[-1] < losses[0]
