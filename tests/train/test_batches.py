import copy
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
    MonotoneConfidence,
    Mowst,
    TrainConfig,
    fit,
    seed_everything,
)
from mowst.loss import mowst_loss, mowst_star_loss
from mowst.train import METHODS
from mowst.train.batches import Batches
from mowst.train.objective import Objective
from mowst.train.turn import Turn

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SHORT = {"epochs": 4, "rounds": 1, "lr": 0.03, "gate_folds": 2}
SAMPLES = torch_geometric.typing.WITH_PYG_LIB or torch_geometric.typing.WITH_TORCH_SPARSE


def neighbor_sample(first, neighbours, seeds, num_neighbors, replace, directed):
    r"""What PyG calls of torch-sparse, in plain Python."""
    found, last = dict.fromkeys(seeds.tolist()), seeds.tolist()
    for size in num_neighbors:
        reached = []
        for node in last:
            row = neighbours[first[node] : first[node + 1]]
            keep = torch.randperm(row.numel())[: row.numel() if size < 0 else size]
            reached += [new for new in row[keep].tolist() if new not in found]
            found |= dict.fromkeys(reached)
        last = list(dict.fromkeys(reached))
    none = torch.empty(0, dtype=torch.long)
    return torch.tensor(list(found)), none, none, none


@pytest.fixture
def sampler(monkeypatch):
    if not SAMPLES:
        monkeypatch.setattr(torch_geometric.typing, "WITH_TORCH_SPARSE", True)
        op = SimpleNamespace(neighbor_sample=neighbor_sample)
        monkeypatch.setattr(torch.ops, "torch_sparse", op, raising=False)


def make_model(strong=GCN, seed=0, **kwargs):
    seed_everything(seed)
    return Mowst(MLP(**SIZES, **kwargs), strong(**SIZES, **kwargs), MonotoneConfidence())


def close(one, other, atol=1e-5):
    return all(torch.allclose(a, b, atol=atol) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def epoch_of(task, graph, **settings):
    batches = Batches(task, TrainConfig(**{"batches": "random", **settings}), graph)
    draws = [draw for step in batches.steps() for draw in step]
    for draw in draws:
        with draw.seeded():
            yield batches.make(draw)


@pytest.mark.parametrize(
    ("graph", "settings"),
    [
        (False, {"num_parts": 8}),
        (True, {"num_parts": 20}),
        (True, {"batches": "neighbor", "batch_size": 7}),
        (False, {"batches": "neighbor", "batch_size": 1}),
    ],
    ids=str,
)
def test_no_batch_has_a_single_training_node_whose_norm_has_no_variance(task, sampler, graph, settings):
    assert task.index("train").numel() % 7 == 1
    assert all(batch.rows.numel() >= 2 for _ in range(20) for batch in epoch_of(task, graph, **settings))


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("num_parts", [1, 3, 100])
def test_an_epoch_goes_once_through_the_training_nodes(task, graph, num_parts):
    index, rows, shares = task.index("train"), [], []
    for batch in epoch_of(task, graph, num_parts=num_parts):
        rows.append(batch.rows)
        shares.append(batch.share)
        assert torch.equal(batch.x, task.data.x[index[batch.rows]])
        if graph:
            assert torch.equal(batch.graph.x[batch.at], batch.x)
    assert torch.cat(rows).sort().values.equal(torch.arange(index.numel()))
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("class_weight", [None, [1.0, 2.0, 5.0]])
@pytest.mark.parametrize("trained", [("weak", "confidence"), ("weak",)])
@pytest.mark.parametrize("route", ["mixture", "weak"])
@pytest.mark.parametrize("name", ["mowst", "mowst-star"])
def test_the_losses_of_an_epoch_sum_up_to_the_loss(task, class_weight, trained, route, name):
    task = GraphTask(task.data, task.masks, 3, class_weight=class_weight)
    model = make_model()
    model.route = route

    def loss(*outputs):
        kind = {"mowst": mowst_loss, "mowst-star": mowst_star_loss}[name]
        return kind(*outputs, class_weight=task.class_weights)

    objective = Objective(model, task, trained, loss)
    assert not objective.reads_graph
    total = sum(float(objective.loss(batch).detach()) for batch in epoch_of(task, False, num_parts=4))
    assert total == pytest.approx(float(objective.loss().detach()), rel=1e-5)


def test_a_strong_turn_weighs_the_nodes_of_a_batch_by_what_the_weak_expert_leaves(task):
    model = make_model()
    for batch in epoch_of(task, True, num_parts=3):
        seen = []
        objective = Objective(model, task, ("strong",), lambda z, c, y, s=seen: s.append((z, c, y)) or z[1].sum())
        objective.loss(batch)
        (logits, (confidence,), y), nodes = seen[0], task.index("train")[batch.rows]
        out = model.eval()(task.data.x, task.data.edge_index)
        assert torch.allclose(confidence, out.confidence[nodes]) and torch.allclose(logits[0], out.weak[nodes])
        assert torch.equal(y, task.data.y[nodes])


@pytest.mark.parametrize("strong", [GCN, GraphSAGE, GIN, PyGGCN])
@pytest.mark.parametrize("method", METHODS)
def test_one_part_is_the_full_batch(task, method, strong):
    _check_one_part(task, strong, method=method, gate_fit="train")


@pytest.mark.parametrize("more", [{}, {"gate_fit": "folds"}, {"weight_floor": 0.5}])
@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_one_part_is_the_full_batch_with_every_gate(task, method, more):
    if method == "mowst-star" and "weight_floor" in more:
        more = {"in_turns": True}
    _check_one_part(task, GCN, method=method, **more)


def _check_one_part(task, strong, **settings):
    full = make_model(strong)
    expected = fit(full, task, **SHORT | settings)
    part = make_model(strong)
    result = fit(part, task, batches="random", num_parts=1, **SHORT | settings)
    losses = [[record["loss"] for record in r.history] for r in (expected, result)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert close(full, part, atol=1e-3) and result.test == pytest.approx(expected.test)


def test_gradients_of_an_epoch_are_accumulated(task):
    r"""All batches in one step are one step on the whole loss, where no expert reads the graph."""
    models = []
    for settings in ({}, {"batches": "random", "num_parts": 5, "batches_per_step": 5}):
        models.append(make_model())
        turn = Turn("test", models[-1], ("weak", "confidence"), mowst_loss, TrainConfig(epochs=3, **settings))
        losses = [record["loss"] for record in turn.run(task)]
        assert len(losses) == 3
    assert close(*models)


def test_batch_statistics_are_of_the_batch(task):
    expert = GCN(**SIZES, norm="batch_norm")
    seen = []
    expert.norms[0].register_forward_hook(lambda _, args, out: seen.append(args[0].size(0)))
    for batch in epoch_of(task, True, num_parts=3):
        expert(batch.graph.x, batch.graph.edge_index)
    assert seen == [10, 10, 10]


@pytest.mark.parametrize("strong", [GCN, PyGGCN])
def test_edge_weights_are_those_of_the_edges(task, strong):
    data = copy.copy(task.data)
    data.edge_weight = torch.rand(data.num_edges)
    task = GraphTask(data, task.masks, 3)
    _check_one_part(task, strong, method="strong")
    for batch in epoch_of(task, True, num_parts=2):
        assert batch.graph.edge_weight.shape == batch.graph.edge_index.shape[1:]


def test_what_is_random_in_a_batch_follows_its_seed_alone(task):
    batches = Batches(task, TrainConfig(batches="random"), graph=False)
    first, second = (draw for step in batches.steps(size=2)[:1] for draw in step)
    drawn = []
    for order in ((first, second), (second, first)):
        numbers = {}
        for draw in order:
            with draw.seeded():
                numbers[draw.seed] = float(torch.rand(()))
        drawn.append(numbers)
    assert drawn[0] == drawn[1] and first.seed != second.seed


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_parts": 2}, "num_parts changes nothing with batches='full'"),
        ({"batches": "neighbor", "num_parts": 2}, "num_parts changes nothing with batches='neighbor'"),
        ({"batches": "random", "batch_size": 8}, "batch_size changes nothing with batches='random'"),
        ({"batches": "random", "num_neighbors": (5,)}, "num_neighbors changes nothing"),
        ({"batches_per_step": 2}, "batches_per_step changes nothing"),
        ({"batches": "random", "num_parts": 0}, "num_parts must be a whole number of at least 1"),
        ({"batches": "neighbor", "num_neighbors": (5, 0)}, "num_neighbors must be numbers above zero, or -1"),
        ({"batches": "cluster"}, "batches must be one of"),
        ({"precision": "16"}, "precision must be one of"),
    ],
)
def test_settings_that_change_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_experts_with_weights_for_each_node_are_refused(task):
    model = Mowst(MLP(**SIZES), LINKX(**SIZES, num_nodes=30), MonotoneConfidence())
    with pytest.raises(ValueError, match="LINKX has weights for each node"):
        fit(model, task, batches="random")
    fit(model, task, method="weak", batches="random", epochs=2)


@pytest.mark.skipif(SAMPLES, reason="the sampler is here")
def test_a_missing_sampler_is_named_before_anything_runs(task, tmp_path):
    with pytest.raises(ImportError, match="pip install pyg-lib"):
        fit(make_model(), task, batches="neighbor", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", METHODS)
def test_all_neighbours_of_all_training_nodes_are_the_full_batch(task, sampler, method):
    full = make_model()
    fit(full, task, method=method, **SHORT)
    sampled = make_model()
    fit(sampled, task, method=method, batches="neighbor", num_neighbors=(-1, -1), **SHORT)
    assert close(full, sampled, atol=1e-3)


def test_sampled_neighbours(task, sampler):
    made = list(epoch_of(task, True, batches="neighbor", batch_size=4, num_neighbors=(2,)))
    assert [batch.rows.numel() for batch in made] == [4, 4, 4, 3]
    assert all(batch.graph.num_nodes <= 4 + 2 * 4 for batch in made)


@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_runs_on_sampled_neighbours(task, sampler, method):
    model, settings = make_model(), {"batches": "neighbor", "batch_size": 4, "num_neighbors": (3, 3)}
    result = fit(model, task, method=method, **SHORT | settings | {"epochs": 12})
    losses = [record["loss"] for record in result.history if record["turn"] == "strong alone"]
    assert losses[-1] < losses[0]
