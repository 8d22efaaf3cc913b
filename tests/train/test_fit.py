import copy
import json
from dataclasses import asdict

import pytest
import torch
import torch_geometric.typing
from torch_geometric.nn import GCN as PyGGCN

from mowst import (
    GCN,
    MLP,
    GraphTask,
    LearnedConfidence,
    MonotoneConfidence,
    Mowst,
    PowerConfidence,
    fit,
    seed_everything,
)
from mowst.data import load_task
from mowst.nn.build import ModelConfig, build_model
from mowst.train import METHODS, RunFolder, TrainConfig, alternation, stack
from mowst.train.alternation import Training
from mowst.train.calibration import calibrated_nll
from mowst.train.config import make_config

SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}
SHORT = {"epochs": 12, "patience": 5, "rounds": 2, "lr": 0.03, "gate_folds": 2}


def make_model(seed=0):
    seed_everything(seed)
    return Mowst(MLP(**SIZES, dropout=0.3), GCN(**SIZES, dropout=0.3), LearnedConfidence(8))


def tensors(model):
    return {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pretrain", ["none", "weak", "strong", "both"])
def test_result_is_what_the_selected_model_answers(task, method, pretrain):
    model = make_model()
    result = fit(model, task, method=method, pretrain=pretrain, **SHORT)
    labels = model.predict(task.data.x, task.data.edge_index)
    for split in ("train", "val", "test"):
        right = (labels == task.data.y)[task.masks[split]].float().mean()
        assert getattr(result, split) == pytest.approx(float(right))
    out = model(task.data.x, task.data.edge_index)
    assert result.weak_share == pytest.approx(float(out.confidence.detach()[task.masks["test"]].mean()))
    assert not model.training
    trained = fit(model, task, method=method, pretrain=pretrain, gate_fit="train", reset=True, **SHORT)
    prob = model(task.data.x, task.data.edge_index).prob.detach()
    best = min([r["val_calibrated"] for r in trained.history if r["best"]], default=float("inf"))
    assert float(calibrated_nll(prob[task.masks["val"]], task.labels("val"))) <= best + 1e-6


@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
@pytest.mark.parametrize("select", ["calibrated", "loss", "metric"])
@pytest.mark.parametrize("seed", range(3))
def test_never_worse_on_validation_than_its_own_pretrained_experts(task, method, select, seed):
    model = make_model(seed)
    result = fit(model, task, method=method, select=select, gate_fit="train", **SHORT)
    prob = model(task.data.x, task.data.edge_index).prob.detach()
    for expert in ("weak", "strong"):
        rows = [r for r in result.history if r["turn"] == f"{expert} alone"]
        if select == "calibrated":
            found = float(calibrated_nll(prob[task.masks["val"]], task.labels("val")))
            assert found <= min(r["val_calibrated"] for r in rows) + 1e-6
        elif select == "loss":
            assert float(task.nll(prob, "val")) <= min(r["val_loss"] for r in rows) + 1e-6
        else:
            assert result.val >= max(r["val"] for r in rows) - 1e-6


@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
@pytest.mark.parametrize("pretrain", ["none", "both"])
def test_turns_are_kept_where_the_cross_validated_loss_falls(task, method, pretrain):
    settings, gates = {"method": method, "pretrain": pretrain, **SHORT}, {}
    start = fit(make_model(), task, **settings | {"rounds": 0})
    assert start.start == {split: getattr(start, split) for split in ("train", "val", "test")}
    model = make_model()

    def watch(record):
        gates.setdefault((record["round"], record["turn"]), []).append(tensors(model.confidence))

    result = fit(model, task, callbacks=[watch], **settings)
    assert result.start == start.start
    assert result.chosen == (model.mix if result.route == "mixture" else result.route)
    assert result.choices[result.chosen] <= min(result.choices["strong"], start.choices[start.chosen])
    assert any(round for round, _ in gates) and all(same(rows[0], row) for rows in gates.values() for row in rows)
    again = stack(model, task, folds=2).losses
    assert all(again[name] == pytest.approx(result.choices[name]) for name in ("weak", "strong"))


def test_turns_whose_gain_is_within_its_standard_error_are_undone(task, monkeypatch):
    start = make_model()
    before = fit(start, task, **SHORT | {"rounds": 0})
    for error, undone in ((torch.inf, True), (torch.nan, True), (-torch.inf, False)):
        monkeypatch.setattr("mowst.train.alternation.standard_error", lambda _, error=error: error)
        model = make_model()
        after = fit(model, task, **SHORT)
        assert (same(tensors(model), tensors(start)) and after.choices == before.choices) is undone


@pytest.mark.parametrize(("pretrain", "mixes"), [("both", {"prob", "logit"}), ("weak", {"prob"}), ("strong", {"prob"})])
def test_beside_an_expert_that_was_not_pretrained_probabilities_are_mixed_first(task, pretrain, mixes):
    result = fit(make_model(), task, **SHORT | {"pretrain": pretrain, "rounds": 0})
    assert set(result.choices) == {"weak", "strong"} | mixes


def test_weak_and_strong_methods_are_the_pretraining_of_mowst(task):
    for method in ("weak", "strong"):
        result = fit(make_model(), task, method=method, **SHORT)
        mixed = fit(make_model(), task, method="mowst", pretrain=method, **SHORT)
        assert mixed.alone[method] == result.scores[method] == result.alone[method]


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_run_and_no_leak_from_one_run_into_the_next(task, method):
    def run():
        model = make_model()
        return model, fit(model, task, method=method, **SHORT)

    one, first = run()
    fit(make_model(seed=5), task, method="strong", **SHORT)
    other, second = run()
    assert same(tensors(one), tensors(other))
    assert strip(first) == strip(second)


def strip(result):
    fields = asdict(result)
    fields.pop("seconds")
    return fields | {"history": [{k: v for k, v in r.items() if k != "seconds"} for r in fields["history"]]}


CHANGES = {
    "lr": 0.01,
    "weight_decay": 0.1,
    "optimizer": "adamw",
    "epochs": 3,
    "patience": 1,
    "rounds": 1,
    "round_patience": None,
    "pretrain": "none",
    "select": "metric",
    "eval_every": 2,
    "in_turns": True,
    "normalize_weights": True,
    "weight_floor": 1.0,
    "gate_fit": "train",
    "gate_folds": 3,
    "calibrate": True,
    "batches": "random",
    "num_parts": 7,
    "batch_size": 13,
    "num_neighbors": (2,),
    "batches_per_step": 2,
    "precision": "bf16",
}
BESIDE = {
    "gate_folds": {"gate_fit": "folds"},
    "calibrate": {"gate_fit": "train"},
    "num_parts": {"batches": "random"},
    "batch_size": {"batches": "neighbor"},
    "num_neighbors": {"batches": "neighbor"},
    "batches_per_step": {"batches": "random"},
}
SAMPLES = torch_geometric.typing.WITH_PYG_LIB or torch_geometric.typing.WITH_TORCH_SPARSE


def test_every_setting_is_tried_below():
    only_memory = {"checkpoint_activations"}
    assert CHANGES.keys() | only_memory == asdict(TrainConfig()).keys()


@pytest.mark.parametrize("field", CHANGES)
def test_every_setting_changes_something(make_task, field):
    if "neighbor" in BESIDE.get(field, {}).values() and not SAMPLES:
        pytest.skip("neither pyg-lib nor torch-sparse is here")
    method, task = "mowst-star" if field == "in_turns" else "mowst", make_task(num_nodes=200)
    settings = {"epochs": 12, "patience": 3, "rounds": 15, "round_patience": 1, "lr": 0.1, "gate_folds": 2}
    settings |= BESIDE.get(field, {})
    before = fit(make_model(), task, method=method, **settings)
    after = fit(make_model(), task, method=method, **settings | {field: CHANGES[field]})
    assert strip(before)["history"] != strip(after)["history"]


def test_joint_training_stops_early(task):
    result = fit(make_model(), task, method="mowst-star", epochs=400, patience=4, lr=0.1)
    assert 0 < len([r for r in result.history if r["turn"] == "joint"]) < 400


def test_mowst_star_in_turns_alternates_and_jointly_does_not(task):
    turns = [r["turn"] for r in fit(make_model(), task, method="mowst-star", in_turns=True, **SHORT).history]
    assert {"weak", "strong"} <= set(turns) and "joint" not in turns
    turns = [r["turn"] for r in fit(make_model(), task, method="mowst-star", **SHORT).history]
    assert "joint" in turns and not {"weak", "strong"} & set(turns)


def test_star_is_spelled_in_python_as_in_the_paper_too(task):
    assert fit(make_model(), task, method="mowst*", **SHORT).method == "mowst-star"


def test_reset_makes_a_second_run_like_the_first(task):
    model, results = make_model(), []
    for _ in range(2):
        seed_everything(3)
        results.append(fit(model, task, method="mowst", reset=True, **SHORT))
    assert strip(results[0]) == strip(results[1])


def test_fit_continues_from_the_given_parameters(task):
    model = make_model()
    fit(model, task, method="strong", **SHORT)
    trained = tensors(model.strong)
    fit(model, task, method="weak", **SHORT)
    assert same(trained, tensors(model.strong))


def test_callbacks_see_every_record(task):
    seen = []
    result = fit(make_model(), task, callbacks=[seen.append], **SHORT)
    assert seen == result.history
    scores = {"loss", "val_loss", "val_calibrated", "val", "confidence", "best"}
    assert {"round", "turn", "epoch", "seconds"} | scores == seen[0].keys()


def test_task_and_unused_expert_are_left_alone(task):
    model, data = make_model(), copy.deepcopy(task.data)
    fit(model, task, **SHORT)
    assert all(torch.equal(data[key], task.data[key]) for key in ("x", "y", "edge_index"))


def test_pyg_gcn_is_trained_as_well(make_task):
    seed_everything(0)
    model = Mowst(MLP(**SIZES), PyGGCN(**SIZES), MonotoneConfidence())
    assert fit(model, make_task(num_nodes=200), **SHORT).test > 0.6


def test_a_fixed_confidence_and_lazy_modules_train(task):
    lazy = {**SIZES, "in_channels": -1}
    model = Mowst(torch.nn.LazyLinear(3), PyGGCN(**lazy), PowerConfidence())
    result = fit(model, task, **SHORT)
    assert {"weak", "strong"} <= {r["turn"] for r in result.history}


def test_run_folder_tells_what_made_it(task, tmp_path):
    model = make_model()
    result = fit(model, task, run_dir=tmp_path / "run", **SHORT)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.config == {"method": "mowst", **asdict(TrainConfig(**SHORT))}
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.history
    env = json.loads((folder.path / "env.json").read_text())
    assert env["versions"]["torch"] == torch.__version__ and env["command"] and env["machine"]["threads"]
    loaded = Mowst.load(folder.model_path).eval()
    assert torch.equal(loaded(task.data.x, task.data.edge_index).prob, model(task.data.x, task.data.edge_index).prob)
    with pytest.raises(FileExistsError, match="not empty"):
        fit(model, task, run_dir=tmp_path / "run", **SHORT)
    with pytest.raises(FileNotFoundError, match="not the folder of a finished run: no config.yaml"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_on_two_populations_the_gate_splits_the_graph_the_right_way(method):
    task = load_task("csbm", split=0)
    seed_everything(0)
    sizes = {"in_channels": task.num_features, "hidden_channels": 32, "num_layers": 2, "out_channels": task.num_classes}
    model = Mowst(MLP(**sizes), GCN(**sizes), MonotoneConfidence())
    result = fit(model, task, method=method, epochs=60, patience=20, rounds=2, lr=0.02)
    confidence = model(task.data.x, task.data.edge_index).confidence.detach()
    features, neighbours = (float(confidence[task.data.population == k].mean()) for k in (0, 1))
    assert features > neighbours + 0.3
    assert result.test > max(result.alone["weak"]["test"], result.alone["strong"]["test"]) + 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "mowst+"}, r"unknown method 'mowst\+'.*mowst-star"),
        ({"learning_rate": 0.1}, r"\['learning_rate'\].*'lr'"),
        ({"lr": 0.0}, "lr must be above zero, got 0.0"),
        ({"pretrain": "all"}, "pretrain must be one of"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"gate_folds": 1}, "gate_folds must be a whole number of at least 2, got 1"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"in_turns": True}, "in_turns changes nothing in 'mowst'"),
    ],
)
def test_impossible_settings_are_named(task, settings, message):
    with pytest.raises(ValueError, match=message):
        fit(make_model(), task, **settings)


def test_an_expert_of_other_classes_is_named_before_training(task):
    model = Mowst(MLP(**SIZES), GCN(**{**SIZES, "out_channels": 4}), PowerConfidence())
    with pytest.raises(ValueError, match="the strong expert returns 4 classes, the task 'graph' has 3"):
        fit(model, task)


def loops(edge_index):
    return torch.cat([edge_index, torch.arange(10).repeat(2, 1)], dim=1)


ODD_GRAPHS = {
    "without edges": lambda edge_index: edge_index[:, :0],
    "with isolated nodes": lambda edge_index: edge_index[:, (edge_index < 10).all(dim=0)],
    "directed": lambda edge_index: edge_index[:, edge_index[0] < edge_index[1]],
    "with repeated edges": lambda edge_index: edge_index.repeat(1, 2),
    "with self-loops": loops,
}


@pytest.mark.parametrize("strong", ["gcn", "sage", "gin", "gat"])
@pytest.mark.parametrize("graph", ODD_GRAPHS)
def test_odd_graphs_train(data, strong, graph):
    data.edge_index = ODD_GRAPHS[graph](data.edge_index)
    model = build_model(ModelConfig(strong=strong, hidden_channels=8), in_channels=6, out_channels=3)
    result = fit(model, GraphTask.from_data(data), epochs=3, rounds=1)
    assert all(0 <= result.scores["mixture"][split] <= 1 for split in ("train", "val", "test"))


def test_a_confidence_outside_its_interval_stops_the_run(task):
    class Twice(torch.nn.Module):
        def forward(self, logits):
            return 2 * logits.softmax(dim=-1).amax(dim=-1)

    with pytest.raises(ValueError, match=r"Twice must return confidences in \[0, 1\]"):
        fit(Mowst(MLP(**SIZES), GCN(**SIZES), Twice()), task)


def test_a_gnn_that_returns_other_rows_is_named_and_leaves_no_folder(task, tmp_path):
    class FirstFive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(6, 3)

        def forward(self, x, edge_index):
            return self.lin(x)[:5]

    with pytest.raises(ValueError, match=r"FirstFive must return .* with N = 30 nodes, got \[5, 3\]"):
        fit(Mowst(MLP(**SIZES), FirstFive(), PowerConfidence()), task, run_dir=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_lazy_expert_that_is_not_asked_gets_its_shapes_so_that_the_model_can_be_saved(task, tmp_path):
    model = Mowst(MLP(**SIZES), PyGGCN(**{**SIZES, "in_channels": -1}), PowerConfidence())
    fit(model, task, method="weak", run_dir=tmp_path / "run", **SHORT)
    assert model.strong.convs[0].lin.weight.shape == (SIZES["hidden_channels"], SIZES["in_channels"])
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_one_validation_node_is_refused_before_any_training(task):
    val = torch.zeros_like(task.masks["val"]).index_fill(0, task.index("val")[:1], True)
    one = task.with_masks(train=task.masks["train"], val=val, test=task.masks["test"])
    model, seen = make_model(), []
    with pytest.raises(ValueError, match="two validation nodes or more in two folds or more, got 1 in 2"):
        fit(model, one, callbacks=[seen.append], gate_fit="validation", **SHORT)
    assert not seen


def test_a_turn_that_the_choice_refuses_leaves_the_optimiser_as_it_was(task, monkeypatch):
    def only_the_first_is_good(*args):
        found.append(stack(*args))
        return found[-1]._replace(held=found[-1].held + len(found))

    found = []
    monkeypatch.setattr(alternation, "stack", only_the_first_is_good)
    training = Training(make_model(), task, "mowst", make_config(rounds=2, round_patience=None, epochs=30, lr=0.05))
    records = iter(training)
    next(record for record in records if record["round"] == 2)
    assert len(found) > 1  # a turn reached something better, and was refused
    _, _, weak, strong = training.state()["optimizers"]
    assert {int(state["step"]) for state in weak["state"].values()} == {1} and not strong["state"]
    records.close()


def test_nothing_to_train_is_said(task):
    class Zeros(torch.nn.Module):
        def forward(self, x):
            return x.new_zeros(x.size(0), 3)

    with pytest.raises(ValueError, match="nothing to train: weak of"):
        fit(Mowst(Zeros(), GCN(**SIZES), PowerConfidence()), task, method="weak")


def test_a_model_predicts_on_another_graph_than_it_was_trained_on(make_task):
    model = make_model()
    fit(model, make_task(num_nodes=200, seed=1), epochs=100, patience=30, rounds=2)
    other = make_task(num_nodes=150, seed=7)
    labels = model.predict(other.data.x, other.data.edge_index)
    assert (labels == other.data.y).float().mean() > 0.6
