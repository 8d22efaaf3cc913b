r"""Several labels per node: the two-class problem for each, from the loss to serving."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch_geometric.data import Data

from mowst import (
    GCN,
    MLP,
    GraphTask,
    LearnedGate,
    LogitGate,
    MonotoneGate,
    Mowst,
    MowstOutput,
    PowerGate,
    TrainConfig,
    fit,
    mowst_loss,
    mowst_star_loss,
    seed_everything,
)
from mowst.cli.predict import make_predictions
from mowst.estimator import MowstClassifier
from mowst.labels import average_labels, label_logits, mean_nll, node_nll
from mowst.metrics import METRICS, expected_score
from mowst.nn.dispersion import entropy_dispersion, variance_dispersion
from mowst.nn.mixture import mixture_prob
from mowst.serve import Predictor, choose_threshold, deferral_curves, deferral_report
from mowst.study import RunSpec, run_one
from mowst.train.calibration import calibrated_nll

N, F, L = 120, 6, 3
SIZES = {"in_channels": F, "hidden_channels": 16, "num_layers": 2, "out_channels": L}


@pytest.fixture(scope="module")
def task():
    r"""Each label is the sign of a feature; some are unknown."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, F, generator=generator)
    y = (x[:, :L] > 0).float()
    y[torch.rand(N, L, generator=generator) < 0.2] = torch.nan
    y[:, 0] = (x[:, 0] > 0).float()
    edge_index = torch.randint(N, (2, 3 * N), generator=generator)
    nodes = torch.randperm(N, generator=generator)
    splits = {"train": nodes[:60], "val": nodes[60:90], "test": nodes[90:110]}
    data = Data(x=x, y=y, edge_index=edge_index)
    return GraphTask.from_data(data, splits=splits, metric="rocauc")


def make_model(gate=None):
    seed_everything(0)
    return Mowst(MLP(**SIZES), GCN(**SIZES), gate or MonotoneGate(), multilabel=True)


@pytest.fixture(scope="module")
def trained(task):
    model = make_model()
    config = TrainConfig(epochs=30, rounds=1, gate_folds=2, lr=0.1)
    return model, fit(model, task, config=config)


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    weak, strong = 3 * torch.randn(2, 40, L, generator=generator)
    y = torch.randint(2, (40, L), generator=generator)
    return weak, strong, torch.rand(40, generator=generator), y


def make_output(weak, strong, confidence):
    weak, strong = label_logits(weak), label_logits(strong)
    return MowstOutput(mixture_prob(weak, strong, confidence), confidence, weak, strong)


def test_one_label_is_the_problem_of_two_classes(rows):
    weak, strong, confidence, y = (value[:, :1] if value.dim() == 2 else value for value in rows)
    one, two = label_logits(weak), torch.cat([torch.zeros_like(weak), weak], dim=1)
    other = torch.cat([torch.zeros_like(strong), strong], dim=1)
    for dispersion in (variance_dispersion, entropy_dispersion):
        assert torch.equal(dispersion(one), dispersion(two))
    out = make_output(weak, strong, confidence)
    classes = MowstOutput(mixture_prob(two, other, confidence), confidence, two, other)
    assert torch.equal(out.prob.squeeze(1), classes.prob)
    for loss in (mowst_loss, mowst_star_loss):
        torch.testing.assert_close(loss(out, y), loss(classes, y[:, 0]))
    torch.testing.assert_close(calibrated_nll(out.prob, y), calibrated_nll(classes.prob, y[:, 0]))
    for name in ("accuracy", "roc_auc"):
        score, known = METRICS[name](out.prob, y), METRICS[name](classes.prob, y[:, 0])
        torch.testing.assert_close(score, known)
        several = expected_score(
            name, one.softmax(dim=-1), label_logits(strong).softmax(dim=-1), confidence, y
        )
        assert several == pytest.approx(
            expected_score(name, two.softmax(dim=-1), other.softmax(dim=-1), confidence, y[:, 0])
        )


def test_one_label_trains_as_two_classes(make_task):
    task = make_task(num_nodes=60, num_classes=2)
    data = task.data.clone()
    data.y = data.y.unsqueeze(1)
    one = GraphTask(data, task.masks, num_classes=1)
    sizes = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 1}
    config, found = TrainConfig(epochs=5, rounds=1, gate_folds=2), []
    for given, multilabel in ((task, False), (one, True)):
        seed_everything(0)
        model = Mowst(MLP(**sizes), GCN(**sizes), multilabel=multilabel)
        result = fit(model, given, config=config)
        found.append((result.history, result.scores, model.predict(given.data).flatten()))
    (history, scores, labels), (other_history, other_scores, other_labels) = found
    assert len(history) == len(other_history) and torch.equal(labels, other_labels)
    for record, other in zip(history, other_history, strict=True):
        assert record["val_loss"] == pytest.approx(other["val_loss"], rel=1e-3)
    for part, by_split in scores.items():
        assert by_split == pytest.approx(other_scores[part])


def test_the_loss_of_a_node_is_its_mean_binary_cross_entropy(rows):
    weak, strong, confidence, y = rows
    out = make_output(weak, strong, confidence)
    both = [
        binary_cross_entropy_with_logits(z, y.float(), reduction="none").mean(dim=1)
        for z in (weak, strong)
    ]
    expected = (confidence * both[0] + (1 - confidence) * both[1]).mean()
    torch.testing.assert_close(mowst_loss(out, y), expected)
    torch.testing.assert_close(out.loss(y), expected)
    p = confidence.unsqueeze(1) * weak.sigmoid() + (1 - confidence).unsqueeze(1) * strong.sigmoid()
    mixed = torch.nn.functional.binary_cross_entropy(p, y.float())
    torch.testing.assert_close(mowst_star_loss(out, y), mixed)
    assert mixed < expected  # Jensen
    torch.testing.assert_close(out.prob[..., 1], p)


@pytest.mark.parametrize("unknown", [-1.0, float("nan")])
def test_unknown_labels_do_not_count(rows, unknown):
    weak, strong, confidence, y = rows
    out, hidden = make_output(weak, strong, confidence), y.float()
    hidden[::2, 1] = unknown
    hidden[5] = unknown  # no label of this node is known
    changed = torch.where(hidden >= 0, weak, 100.0)
    other = make_output(changed, strong, confidence)
    log_prob = out.weak.log_softmax(dim=-1)
    torch.testing.assert_close(
        node_nll(log_prob, hidden), node_nll(other.weak.log_softmax(dim=-1), hidden)
    )
    assert node_nll(log_prob, hidden)[5] == 0
    per_label = -log_prob.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(node_nll(log_prob, hidden)[0], per_label[0, [0, 2]].mean())
    ids = torch.where(hidden >= 0, hidden, -1).long()
    for name, metric in METRICS.items():
        assert float(metric(out.weak.softmax(dim=-1), ids)) == pytest.approx(
            float(metric(other.weak.softmax(dim=-1), ids))
        ), name


def test_roc_auc_is_the_mean_over_labels_of_both_sides(rows):
    from sklearn.metrics import roc_auc_score

    weak, _, _, y = rows
    y = y.clone()
    expected = [roc_auc_score(y[:, k], weak[:, k]) for k in range(2)]
    y[:, 2] = 1  # has one side only
    found = METRICS["roc_auc"](label_logits(weak).softmax(dim=-1), y)
    assert float(found) == pytest.approx(sum(expected) / 2)


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_the_expected_score_is_the_mean_over_many_draws(rows, metric):
    weak, strong, confidence, y = rows
    weak, strong = label_logits(weak).softmax(dim=-1), label_logits(strong).softmax(dim=-1)
    draws = torch.rand(300, 40, generator=torch.Generator().manual_seed(1)) < confidence
    scores = torch.stack(
        [METRICS[metric](torch.where(d.view(-1, 1, 1), weak, strong), y) for d in draws]
    )
    error = float(scores.std() / len(scores) ** 0.5)
    expected = expected_score(metric, weak, strong, confidence, y)
    assert abs(expected - float(scores.mean())) < 4 * error


def test_the_dispersion_has_its_limits_and_is_convex():
    generator = torch.Generator().manual_seed(0)
    one, two = 4 * torch.randn(2, 50, L, generator=generator)
    middle = ((one.sigmoid() + two.sigmoid()) / 2).logit()
    for dispersion in (variance_dispersion, entropy_dispersion):
        assert float(dispersion(label_logits(torch.zeros(1, L)))) == pytest.approx(0, abs=1e-6)
        assert float(dispersion(label_logits(torch.tensor([[1e4, -1e4, 1e4]])))) == 1
        ends = (dispersion(label_logits(one)) + dispersion(label_logits(two))) / 2
        assert (dispersion(label_logits(middle)) <= ends + 1e-6).all()


@pytest.mark.parametrize(
    "gate", [PowerGate(), LearnedGate(8), LogitGate(L, 8)], ids=lambda gate: type(gate).__name__
)
def test_gates_return_one_confidence_for_each_node(task, gate):
    model = make_model(gate).eval()
    out = model(task.data.x, task.data.edge_index)
    assert out.confidence.shape == (N,) and out.prob.shape == (N, L, 2)
    assert model.predict_proba(task.data).shape == (N, L)


@pytest.mark.parametrize("batches", ["full", "random"])
@pytest.mark.parametrize("method", ["mowst", "mowst-star", "strong"])
def test_every_method_trains(task, method, batches):
    config = TrainConfig(epochs=2, rounds=1, gate_folds=2, gate_fit="train", batches=batches)
    result = fit(make_model(LearnedGate(8)), task, method, config)
    assert 0 <= result.test <= 1 and len(result.history) > 1


def test_a_task_of_several_labels_is_learnt_and_served(task, trained, tmp_path):
    model, result = trained
    assert result.test > 0.9 and result.expected > 0.8
    assert result.val == pytest.approx(task.evaluate(model.predict_proba(task.data), "val"))
    labels = model.predict(task.data)
    assert labels.shape == (N, L)
    assert torch.equal(labels, (model.predict_proba(task.data) > 0.5).long())
    model.save(tmp_path / "model.safetensors")
    again = Mowst.load(tmp_path / "model.safetensors")
    assert again.multilabel and torch.equal(again.predict(task.data), labels)
    found = Predictor(again, task.data).predict([4, 2])
    assert torch.equal(found.labels, labels[[4, 2]]) and found.prob.shape == (2, L)
    routed = model.predict(task.data, budget=0.5)
    served = Predictor(model, task.data, budget=0.5).predict(range(N))
    assert torch.equal(served.labels, routed) and int(served.deferred.sum()) == N // 2
    assert choose_threshold(model, task, max_drop=0.5, delta=0.5).num_nodes == 10


def test_deferral_curves_end_at_the_experts(task, trained):
    model, _ = trained
    curves = deferral_curves(model, task, shares=(0.0, 1.0))
    out = model.outputs(task.data.x, task.data.edge_index)
    for share, logits in ((0.0, out.weak), (1.0, out.strong)):
        expected = 100 * task.evaluate(logits.softmax(dim=-1), "test")
        found = curves.loc[share].drop("mixture").to_list()
        assert found == pytest.approx([expected] * 6, abs=1e-4)
    report = deferral_report(model, replace(task, metric="accuracy"))
    assert report.loc["oracle", "area"] >= report["area"].drop("mixture").max() > 50


def test_a_mixture_of_several_labels_is_an_expert(task):
    inner = make_model()
    outer = Mowst(MLP(**SIZES), inner, multilabel=True)
    fit(outer, task, config=TrainConfig(epochs=2, rounds=0, gate_folds=2))
    assert outer.predict(task.data).shape == (N, L)
    with pytest.raises(ValueError, match="labels of one kind: multilabel=False, its expert Mowst"):
        Mowst(MLP(**SIZES), inner)


def test_a_metric_of_ones_own_gets_the_probability_of_each_label(task):
    seen = []

    def measure(prob, y):
        seen.append((prob.shape, y.shape))
        return 0.5

    own = GraphTask(task.data, task.masks, L, metric=measure)
    assert own.evaluate(torch.rand(N, L), "val") == 0.5
    assert seen == [((30, L), (30, L))]


def test_kinds_must_agree(task, make_task):
    config = TrainConfig(epochs=1, rounds=0)
    classes = make_task(num_nodes=30, num_classes=L)
    with pytest.raises(ValueError, match="have one class each: build the model with multilabel=F"):
        fit(make_model(), classes, config=config)
    model = Mowst(MLP(**SIZES), GCN(**SIZES), multilabel=False)
    with pytest.raises(ValueError, match="several labels each: build the model with multilabel=T"):
        fit(model, task, config=config)
    out = model(task.data.x, task.data.edge_index)
    with pytest.raises(ValueError, match=r"do not fit labels .*, which need .*multilabel=True"):
        mowst_loss(out, task.data.y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.full((N, L), 2)}, "120 nodes have labels that are not 0, 1, or -1"),
        ({"y": torch.randn(N)}, "y holds real numbers, of torch.float32; nodes are classified"),
        ({"y": torch.randn(N, 1)}, "y holds real numbers"),
        ({"y": -torch.ones(N, L).long()}, "no label is known"),
    ],
)
def test_odd_labels_are_named(task, change, message):
    data = task.data.clone()
    data.y = change["y"]
    splits = {"train": torch.arange(60), "val": torch.arange(60, 90)}
    with pytest.raises(ValueError, match=message):
        GraphTask.from_data(data, splits=splits)


def test_what_takes_one_class_per_node_says_so(task, trained, monkeypatch):
    with pytest.raises(ValueError, match="several labels per node: use mowst.fit"):
        MowstClassifier().fit(carry_masks(task))
    with pytest.raises(ValueError, match="use model.predict_proba"):
        make_predictions(trained[0], task.data, torch.arange(2), None, {})
    monkeypatch.setattr("mowst.study.run.load_run_task", lambda *_: task)
    with pytest.raises(ValueError, match="'graph' has several labels per node"):
        run_one(RunSpec("cora"))


def carry_masks(task):
    data = task.data.clone()
    for split, mask in task.masks.items():
        data[f"{split}_mask"] = mask
    return data


def test_an_inductive_task_and_sampled_batches(task):
    hidden = replace(task, inductive=True, metric="f1")
    config = TrainConfig(
        epochs=2, rounds=1, gate_folds=2, batches="neighbor", num_neighbors=(2,), batch_size=20
    )
    result = fit(make_model(), hidden, config=config)
    assert 0 <= result.test <= 1 and result.expected is None


def test_class_weights_and_remarks(task):
    with pytest.raises(ValueError, match="a task of several labels has none"):
        GraphTask(task.data, task.masks, L, class_weight=[1.0, 1.0, 1.0])
    assert any("labels are unknown" in line for line in task.report().remarks)
    data = task.data.clone()
    data.y = torch.eye(L).long()[torch.arange(N) % L]
    remarks = GraphTask(data, task.masks, L).report().remarks
    assert "each node has exactly one label; y.argmax(dim=1) makes them classes" in remarks


def test_means_are_over_known_labels():
    values, y = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[1, -1], [0, 1]])
    assert average_labels(values, y).tolist() == [1, 4]
    assert average_labels(values).tolist() == [1.5, 4]
    log_prob = torch.full((2, 2, 2), 0.5).log()
    assert float(mean_nll(log_prob, y)) == pytest.approx(0.6931, abs=1e-4)
