import copy
import json
from dataclasses import asdict, replace

import pytest
import torch
from torch_geometric.nn import GCN as PyGGCN

from mowst import (
    GCN,
    MLP,
    GraphTask,
    LearnedGate,
    MonotoneGate,
    Mowst,
    PowerGate,
    TrainConfig,
    fit,
    seed_everything,
)
from mowst.data import load_task
from mowst.nn.build import ModelConfig, build_model
from mowst.train import GateFit, RunDir, StageResult, fit_gate
from mowst.train.calibration import calibrated_nll
from mowst.train.config import flatten_config
from mowst.train.environment import environment

METHODS = ("mowst", "mowst-star", "weak", "strong")
SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}
SHORT = TrainConfig(epochs=3, patience=3, rounds=2, lr=0.03, gate_folds=2)
TRAIN_GATE = replace(SHORT, gate_fit="train")


def make_model(seed=0, gate=None):
    seed_everything(seed)
    return Mowst(MLP(**SIZES, dropout=0.3), GCN(**SIZES, dropout=0.3), gate or MonotoneGate())


def get_tensors(model):
    return {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def drop_seconds(result):
    fields = asdict(result)
    fields.pop("seconds")
    return fields | {
        "history": [{k: v for k, v in r.items() if k != "seconds"} for r in fields["history"]]
    }


@pytest.fixture(scope="module")
def trained(make_task):
    r"""The task, and by method a trained model, its result and the records that a callback saw."""
    task, runs = make_task(), {}
    data = copy.deepcopy(task.data)
    for method in METHODS:
        model, seen = make_model(), []
        result = fit(model, task, method, SHORT, callbacks=[seen.append])
        runs[method] = model, result, seen
    assert all(torch.equal(data[key], task.data[key]) for key in ("x", "y", "edge_index")), (
        "the task is unchanged"
    )
    return task, runs


@pytest.mark.parametrize("method", METHODS)
def test_the_result_scores_what_the_selected_model_predicts(trained, method):
    task, (model, result, seen) = trained[0], trained[1][method]
    labels = model.predict(task.data.x, task.data.edge_index)
    for split in ("train", "val", "test"):
        right = (labels == task.data.y)[task.masks[split]].float().mean()
        assert getattr(result, split) == pytest.approx(float(right))
    out = model(task.data.x, task.data.edge_index)
    share = 1 - float(out.confidence.detach()[task.masks["test"]].mean())
    assert result.deferred_share == pytest.approx(share)
    assert not model.training and result.method == method
    assert seen == result.history
    keys = {
        "step",
        "stage",
        "round",
        "part",
        "epoch",
        "loss",
        "val_loss",
        "val_calibrated",
        "val",
        "confidence",
        "best",
    }
    assert all(record.keys() == keys | {"seconds"} for record in seen)
    names = {"weak", "strong", "mixture"} if method in ("mowst", "mowst-star") else {method}
    assert result.scores.keys() == names and result.alone.keys() == names - {"mixture"}


@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_the_same_seed_gives_the_same_run_after_any_other_run(trained, method):
    task, (model, result, _) = trained[0], trained[1][method]
    again = make_model()
    assert drop_seconds(fit(again, task, method, SHORT)) == drop_seconds(result)
    assert equal(get_tensors(again), get_tensors(model))


def test_weak_and_strong_methods_are_the_pretraining_of_mowst(trained):
    task, runs = trained
    for method in ("weak", "strong"):
        alone, mixed = (
            runs[method][1],
            fit(make_model(), task, config=replace(TRAIN_GATE, pretrain=method)),
        )
        assert mixed.alone[method] == alone.scores[method] == alone.alone[method]


@pytest.mark.parametrize("select", ["calibrated", "loss", "metric"])
@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_the_mixture_is_not_worse_on_validation_nodes_than_its_pretrained_experts(
    task, method, select
):
    model = make_model(gate=LearnedGate(8))
    result = fit(model, task, method, replace(TRAIN_GATE, select=select))
    prob = model(task.data.x, task.data.edge_index).prob.detach()
    calibrated = float(calibrated_nll(prob[task.masks["val"]], task.labels("val")))
    for expert in ("weak", "strong"):
        rows = [r for r in result.history if r["stage"] == f"pretrain {expert}"]
        if select == "calibrated":
            assert calibrated <= min(r["val_calibrated"] for r in rows) + 1e-6
        elif select == "loss":
            assert float(task.nll(prob, "val")) <= min(r["val_loss"] for r in rows) + 1e-6
        else:
            assert result.val >= max(r["val"] for r in rows) - 1e-6
    if select == "calibrated":
        assert calibrated <= min(r["val_calibrated"] for r in result.history if r["best"]) + 1e-6


@pytest.mark.parametrize(("method", "pretrain"), [("mowst", "both"), ("mowst-star", "none")])
def test_stages_are_accepted_where_the_cross_validated_loss_falls(task, method, pretrain):
    config, gates = replace(SHORT, pretrain=pretrain), {}
    start = fit(make_model(), task, method, replace(config, rounds=0))
    assert start.start == {split: getattr(start, split) for split in ("train", "val", "test")}
    model = make_model()

    def watch(record):
        gates.setdefault((record["round"], record["stage"]), []).append(get_tensors(model.gate))

    result = fit(model, task, method, config, callbacks=[watch])
    assert result.start == start.start
    assert result.chosen == (model.mix if result.route == "mixture" else result.route)
    assert result.choices[result.chosen] <= min(
        result.choices["strong"], start.choices[start.chosen]
    )
    assert any(round for round, _ in gates)
    assert all(equal(rows[0], row) for rows in gates.values() for row in rows), (
        "the gate is frozen in each stage"
    )
    again = fit_gate(model, task, folds=2).losses
    assert all(again[name] == pytest.approx(result.choices[name]) for name in ("weak", "strong"))


def test_stages_that_the_gate_fit_refuses_are_undone(task, monkeypatch):
    start = make_model()
    before = fit(start, task, config=replace(SHORT, rounds=0))
    for accepted in (True, False):
        monkeypatch.setattr(
            GateFit, "is_better_than", lambda _, other, accepted=accepted: other is None or accepted
        )
        model = make_model()
        after = fit(model, task, config=replace(SHORT, rounds=1))
        unchanged = (
            equal(get_tensors(model), get_tensors(start)) and after.choices == before.choices
        )
        assert unchanged is not accepted


@pytest.mark.parametrize(
    ("pretrain", "mixes"), [("both", {"prob", "logit"}), ("weak", {"prob"}), ("strong", {"prob"})]
)
def test_with_an_expert_that_was_not_pretrained_probabilities_are_mixed_first(
    task, pretrain, mixes
):
    result = fit(make_model(), task, config=replace(SHORT, pretrain=pretrain, rounds=0))
    assert set(result.choices) == {"weak", "strong"} | mixes


def test_joint_training_stops_early(task):
    config = replace(TRAIN_GATE, epochs=400, patience=4, lr=0.1, pretrain="none")
    assert 0 < len(fit(make_model(), task, "mowst-star", config).history) < 400


def test_reset_makes_a_second_run_like_the_first(task):
    model, results = make_model(), []
    for _ in range(2):
        seed_everything(3)
        results.append(drop_seconds(fit(model, task, config=TRAIN_GATE, reset=True)))
    assert results[0] == results[1]


def test_fit_continues_from_the_given_parameters(task):
    model = make_model()
    fit(model, task, "strong", SHORT)
    strong = get_tensors(model.strong)
    fit(model, task, "weak", SHORT)
    assert equal(strong, get_tensors(model.strong))


def test_a_second_fit_warns_unless_the_parameters_are_reset(task, caplog, tmp_path):
    model, message = make_model(), "the model was fitted before"
    fit(model, task, "weak", SHORT)
    fit(model, task, "weak", SHORT, reset=True)
    model.reset_parameters()
    fit(model, task, "weak", SHORT)
    model.save(tmp_path / "model.safetensors")
    fit(Mowst.load(tmp_path / "model.safetensors"), task, "weak", SHORT)
    assert message not in caplog.text
    fit(model, task, "weak", SHORT)
    assert caplog.text.count(message) == 1 and "reset=True" in caplog.text


@pytest.mark.parametrize("stage", ["pretrain strong", "round 1: weak", "round 1: strong"])
def test_an_interruption_leaves_the_best_state_in_evaluation_mode(task, stage):
    model, records, accepted = make_model(), [], []

    class Interrupt:
        def __call__(self, record):
            records.append(record)
            if record["stage"] == stage and record["epoch"] == 2:
                raise KeyboardInterrupt

        def on_stage_end(self, model, result):
            if result.accepted and result.predicts == "mixture":
                accepted.append(get_tensors(model))

    with pytest.raises(KeyboardInterrupt):
        fit(model, task, config=SHORT, callbacks=[Interrupt()])
    assert not any(part.training for part in model.modules())
    if stage == "pretrain strong":
        prob = model.predict_proba(task.data)[task.masks["val"]]
        least = min(record["val_calibrated"] for record in records)
        assert float(calibrated_nll(prob, task.labels("val"))) == pytest.approx(least, abs=1e-6)
    else:
        assert equal(get_tensors(model), accepted[-1])


def test_callbacks_are_called_after_each_stage(task):
    class Watch:
        def __init__(self):
            self.results, self.states = [], []

        def __call__(self, record):
            pass

        def on_stage_end(self, model, result):
            self.results.append(result)
            self.states.append(get_tensors(model))

    watch, model = Watch(), make_model()
    result = fit(
        model, task, config=replace(TRAIN_GATE, rounds=1), callbacks=[watch, lambda record: None]
    )
    names = ["pretrain weak", "pretrain strong", "start", "round 1: weak", "round 1: strong"]
    assert [found.name for found in watch.results] == names
    assert all(isinstance(found, StageResult) for found in watch.results)
    assert [found.scores for found in watch.results[:3]] == [
        result.alone["weak"],
        result.alone["strong"],
        result.start,
    ]


def test_star_may_be_spelled_as_in_the_paper(task):
    assert fit(make_model(), task, "mowst*", replace(TRAIN_GATE, rounds=0)).method == "mowst-star"


def test_a_gate_without_parameters_and_lazy_modules_train(task):
    model = Mowst(torch.nn.LazyLinear(3), PyGGCN(**{**SIZES, "in_channels": -1}), PowerGate())
    result = fit(model, task, config=TRAIN_GATE)
    assert {"round 1: weak", "round 1: strong"} <= {record["stage"] for record in result.history}


def test_without_git_a_run_has_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["commit"] is None


def test_a_run_folder_records_how_it_was_made(task, tmp_path):
    model = make_model()
    config = replace(TRAIN_GATE, strong={"lr": 0.01})
    result = fit(model, task, config=config, run_dir=tmp_path / "run")
    folder = RunDir.open(tmp_path / "run")
    assert folder.config == {"method": "mowst", **flatten_config(config)}
    rows = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.history
    env = json.loads((folder.path / "env.json").read_text())
    assert (
        env["versions"]["torch"] == torch.__version__
        and env["command"]
        and env["machine"]["threads"]
    )
    loaded = Mowst.load(folder.model_path)
    assert torch.equal(
        loaded(task.data.x, task.data.edge_index).prob,
        model(task.data.x, task.data.edge_index).prob,
    )
    with pytest.raises(FileExistsError, match="not empty"):
        fit(model, task, config=config, run_dir=tmp_path / "run")
    with pytest.raises(
        FileNotFoundError, match="not the folder of a finished run: it has no config.yaml"
    ):
        RunDir.open(tmp_path)


@pytest.mark.parametrize(
    ("method", "epochs", "rounds"),
    [
        ("mowst", 30, 0),
        pytest.param("mowst", 60, 2, marks=pytest.mark.slow),
        pytest.param("mowst-star", 60, 2, marks=pytest.mark.slow),
    ],
)
def test_on_two_populations_the_gate_splits_the_graph(method, epochs, rounds):
    task = load_task("csbm", split=0)
    seed_everything(0)
    sizes = {
        "in_channels": task.num_features,
        "hidden_channels": 32,
        "num_layers": 2,
        "out_channels": task.num_classes,
    }
    model = Mowst(MLP(**sizes), GCN(**sizes), MonotoneGate())
    result = fit(
        model, task, method, TrainConfig(epochs=epochs, patience=20, rounds=rounds, lr=0.02)
    )
    confidence = model(task.data.x, task.data.edge_index).confidence.detach()
    features, neighbours = (float(confidence[task.data.population == k].mean()) for k in (0, 1))
    assert features > neighbours + 0.3
    assert result.test > max(result.alone["weak"]["test"], result.alone["strong"]["test"]) + 0.05


def test_arguments_of_other_types_are_named(task):
    with pytest.raises(
        TypeError, match="fit trains a Mowst on a GraphTask, .*, got GCN and GraphTask"
    ):
        fit(GCN(**SIZES), task)
    with pytest.raises(
        TypeError, match="config must be a TrainConfig, such as .*, got {'lr': 0.1}"
    ):
        fit(make_model(), task, config={"lr": 0.1})
    with pytest.raises(ValueError, match=r"unknown method 'mowst\+'.*mowst-star"):
        fit(make_model(), task, "mowst+")


def test_fit_takes_a_graph_with_masks(data):
    results = []
    for task in (data, GraphTask.from_data(data)):
        model = make_model()
        results.append(drop_seconds(fit(model, task, config=TRAIN_GATE)))
    assert results[0] == results[1]
    assert results[0]["test"] == pytest.approx(
        float((model.predict(data) == data.y)[data.test_mask].float().mean())
    )


def test_an_expert_of_other_classes_is_named_before_training(task):
    model = Mowst(MLP(**SIZES), GCN(**{**SIZES, "out_channels": 4}), PowerGate())
    with pytest.raises(
        ValueError, match="the strong expert returns 4 classes, the task 'graph' has 3"
    ):
        fit(model, task)


def add_loops(edge_index):
    return torch.cat([edge_index, torch.arange(10).repeat(2, 1)], dim=1)


ODD_GRAPHS = {
    "without edges": lambda edge_index: edge_index[:, :0],
    "with isolated nodes": lambda edge_index: edge_index[:, (edge_index < 10).all(dim=0)],
    "directed": lambda edge_index: edge_index[:, edge_index[0] < edge_index[1]],
    "with repeated edges": lambda edge_index: edge_index.repeat(1, 2),
    "with self-loops": add_loops,
}


@pytest.mark.parametrize("strong", ["gcn", "sage", "gin", "gat"])
@pytest.mark.parametrize("graph", ODD_GRAPHS)
def test_odd_graphs_train(data, strong, graph):
    gate_fit = "validation" if (strong, graph) == ("gcn", "without edges") else "train"
    data.edge_index = ODD_GRAPHS[graph](data.edge_index)
    model = build_model(
        ModelConfig(strong=strong, hidden_channels=8), in_channels=6, out_channels=3
    )
    config = TrainConfig(epochs=2, rounds=1, gate_folds=2, gate_fit=gate_fit)
    result = fit(model, GraphTask.from_data(data), config=config)
    assert all(0 <= result.scores["mixture"][split] <= 1 for split in ("train", "val", "test"))


def test_a_task_without_a_test_split_trains(data):
    del data.test_mask
    task = GraphTask.from_data(data)
    for method, config in (
        ("mowst", replace(SHORT, rounds=1)),
        ("mowst-star", TRAIN_GATE),
        ("strong", SHORT),
    ):
        model = make_model()
        result = fit(model, task, method, config)
        assert result.test is None and result.expected is None
        assert all(scores.keys() == {"train", "val"} for scores in result.scores.values())
        confidence = model(task.data.x, task.data.edge_index).confidence.detach()
        assert result.deferred_share == pytest.approx(
            1 - float(confidence[task.masks["val"]].mean())
        )


def test_a_confidence_outside_its_interval_stops_the_run(task):
    class Twice(torch.nn.Module):
        def forward(self, logits):
            return 2 * logits.softmax(dim=-1).amax(dim=-1)

    with pytest.raises(ValueError, match=r"Twice must return .*confidence.* in \[0, 1\]"):
        fit(Mowst(MLP(**SIZES), GCN(**SIZES), Twice()), task)


def test_a_gnn_that_returns_other_rows_is_named_and_leaves_no_folder(task, tmp_path):
    class FirstFive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(6, 3)

        def forward(self, x, edge_index):
            return self.lin(x)[:5]

    with pytest.raises(ValueError, match=r"FirstFive must return .*30 nodes, got \[5, 3\]"):
        fit(Mowst(MLP(**SIZES), FirstFive(), PowerGate()), task, run_dir=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_experts_that_share_a_parameter_are_refused(task):
    mlp = MLP(**SIZES)
    with pytest.raises(ValueError, match=r"weak\.lins\.0\.weight is strong\.weak\.lins\.0\.weight"):
        fit(Mowst(mlp, Mowst(mlp, GCN(**SIZES))), task, config=SHORT)
    mlp.requires_grad_(False)  # frozen in both, it is no conflict
    fit(Mowst(mlp, Mowst(mlp, GCN(**SIZES))), task, config=SHORT)


def test_a_lazy_expert_that_is_not_trained_is_initialized_and_saved(task, tmp_path):
    model = Mowst(MLP(**SIZES), PyGGCN(**{**SIZES, "in_channels": -1}), PowerGate())
    fit(model, task, "weak", SHORT, run_dir=tmp_path / "run")
    assert model.strong.convs[0].lin.weight.shape == (
        SIZES["hidden_channels"],
        SIZES["in_channels"],
    )
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_one_validation_node_is_refused_before_training(task):
    val = torch.zeros_like(task.masks["val"]).index_fill(0, task.index("val")[:1], True)
    one = replace(task, masks={**task.masks, "val": val})
    seen = []
    with pytest.raises(
        ValueError, match="at least two validation nodes in two folds, got 1 nodes in 2"
    ):
        fit(make_model(), one, config=SHORT, callbacks=[seen.append])
    assert not seen


def test_a_model_predicts_on_another_graph_than_it_was_trained_on(make_task):
    seed_everything(0)
    model = Mowst(MLP(**SIZES), PyGGCN(**SIZES), MonotoneGate())
    config = TrainConfig(epochs=30, patience=15, rounds=0, lr=0.03, gate_folds=2)
    assert fit(model, make_task(num_nodes=200, seed=1), config=config).test > 0.6
    other = make_task(num_nodes=150, seed=7)
    labels = model.predict(other.data.x, other.data.edge_index)
    assert (labels == other.data.y).float().mean() > 0.6
