from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_info, threadpool_limits
from torch.nn.functional import nll_loss
from torch_geometric.data import Data

from mowst import GraphTask, LearnedGate, MonotoneGate, Mowst, TrainConfig
from mowst.train import Trainer, fit_gate
from mowst.train.calibration import minimise_nll
from mowst.train.gate_fit import GateFit, standard_error
from mowst.train.methods import find_method


def temperature(logits, y, weight=None):
    return 1 / float(minimise_nll(logits.double(), y, weight, tolerance=1e-6)[0])


class Columns(torch.nn.Module):
    r"""An expert whose logits are three columns of the features."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.first : self.first + 3]


def make_task(*scales: float, num_nodes: int = 600) -> GraphTask:
    r"""For each scale the logits of an expert: independent evidence of the class, exact but for the
    scale.
    """
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(num_nodes) % 3
    evidence = torch.randn(len(scales), num_nodes, 3, generator=generator)
    evidence[:, torch.arange(num_nodes), y] += (
        1  # of unit normals, shifted by one: log-odds are their differences
    )
    x = torch.cat([scale * part for scale, part in zip(scales, evidence, strict=True)], dim=1)
    turn = torch.randperm(num_nodes, generator=generator) % 3
    masks = {f"{name}_mask": turn == k for k, name in enumerate(("train", "val", "test"))}
    return GraphTask.from_data(
        Data(x=x, y=y, edge_index=torch.empty(2, 0, dtype=torch.long), **masks)
    )


def make_model(**settings) -> Mowst:
    return Mowst(Columns(0), Columns(3), MonotoneGate(), **settings)


def predict(model: Mowst, task: GraphTask) -> torch.Tensor:
    return model(task.data.x, task.data.edge_index).prob.log().detach()


def test_independent_evidence_is_a_product_of_experts():
    task, model = make_task(1.0, 1.0), make_model()
    found = fit_gate(model, task)
    assert (model.mix, model.route, found.chosen) == ("logit", "mixture", "logit")
    assert min(found.losses, key=found.losses.get) == "logit"
    assert float(found.held_out.mean()) == pytest.approx(found.losses["logit"])
    exact = sum(task.data.x.split(3, dim=1)).log_softmax(dim=-1)  # Bayes' rule
    test, y = task.index("test"), task.labels("test")
    reached, best = (float(nll_loss(found[test], y)) for found in (predict(model, task), exact))
    alone = float(nll_loss(task.data.x[test, :3].log_softmax(dim=-1), y))
    assert best < reached < best + 0.1 * (alone - best)


@pytest.mark.parametrize("scales, expert", [((1.0, 0.0), "weak"), ((0.0, 1.0), "strong")])
def test_an_expert_without_information_is_left_out(scales, expert):
    task, model = make_task(*scales), make_model()
    fit_gate(model, task, folds=4)
    assert model.route == expert


def test_the_temperature_of_an_expert_alone_is_the_calibrated_one():
    task, model = make_task(0.0, 4.0), make_model()
    fit_gate(model, task, folds=4)
    logits = task.data.x[task.index("val"), 3:]
    inverse, _ = minimise_nll(logits, task.labels("val"), None, tolerance=1e-6)
    assert model.temperatures["strong"] == pytest.approx(1 / float(inverse), rel=0.05)


def test_the_fit_is_stationary_in_what_forward_predicts():
    task, model = make_task(1.0, 1.0), make_model()
    fit_gate(model, task, folds=4)
    val, y, gate = task.index("val"), task.labels("val"), model.gate

    def objective(name: str, step: float) -> float:
        with torch.no_grad():
            moved = getattr(gate, name)
            moved += step
            shift = sum(float(p) ** 2 for p in gate.parameters())
            shift += sum(torch.tensor(t).log().item() ** 2 for t in model.temperatures.values())
            value = float(nll_loss(predict(model, task).double()[val], y)) + shift / (2 * y.numel())
            moved -= step
        return value

    for name in ("log_a", "log_b"):
        here = objective(name, 0.0)
        assert here < min(objective(name, -0.3), objective(name, 0.3))
        assert abs(objective(name, 0.05) - objective(name, -0.05)) < 2e-4


def test_only_labels_of_validation_nodes_are_read():
    task, models = make_task(1.0, 1.0, num_nodes=240), [make_model(), make_model()]
    data = task.data.clone()
    data.y = torch.where(task.masks["val"], data.y, (data.y + 1) % 3)
    assert (
        fit_gate(models[0], task, 4).losses
        == fit_gate(models[1], replace(task, data=data), 4).losses
    )
    assert models[0].temperatures == models[1].temperatures


def test_a_second_call_on_the_same_start_and_a_saved_model_agree(tmp_path):
    task, models = make_task(1.0, 1.0, num_nodes=240), [make_model(), make_model()]
    for model in models:
        fit_gate(model, task, folds=4)
    models[0].save(tmp_path / "model.safetensors")
    loaded = Mowst.load(tmp_path / "model.safetensors", weak=Columns(0), strong=Columns(3))
    for other in (models[1], loaded):
        assert torch.equal(predict(models[0], task), predict(other, task))


def test_unchanged_experts_get_the_same_fit_again_which_is_not_accepted():
    task = make_task(1.0, 1.0, num_nodes=120)
    for gate in (MonotoneGate(), LearnedGate(4)):
        model = Mowst(Columns(0), Columns(3), gate)
        trainer = Trainer(model, task, find_method("mowst"), TrainConfig(gate_folds=2))
        first, second = trainer.fit_gate(), trainer.fit_gate()
        assert first.is_better_than(None) and not second.is_better_than(first)
        assert torch.equal(first.held_out, second.held_out) and first.losses == second.losses


def test_a_gain_must_exceed_its_standard_error():
    loss = torch.rand(40, generator=torch.Generator().manual_seed(0))
    before = GateFit({"strong": float(loss.mean())}, "strong", loss)
    noise = torch.arange(40) % 2 - 0.5
    error = standard_error(noise)
    assert error == pytest.approx(float(noise.std()) / 40**0.5)
    for gain, accepted in ((0.9 * error, False), (1.1 * error, True), (torch.nan, False)):
        assert before._replace(held_out=loss - noise - gain).is_better_than(before) is accepted


def test_few_nodes_are_one_fold_each_and_a_given_mix_is_kept():
    task, model = make_task(1.0, 1.0, num_nodes=12), make_model(mix="prob")
    assert fit_gate(model, task, folds=10).losses == fit_gate(model, task, folds=4).losses
    assert set(fit_gate(model, task).losses) == {"strong", "weak", "prob"} and model.mix == "prob"


def test_problems_are_named_and_temperatures_stay():
    task, model = make_task(1.0, 1.0), make_model()
    with pytest.raises(
        ValueError, match="at least two validation nodes in two folds, got 200 nodes in 1"
    ):
        fit_gate(model, task, folds=1)
    model.strong.register_forward_hook(lambda *call: call[-1] / 0)
    model.temperatures = {"weak": 2.0, "strong": 3.0}
    with pytest.raises(
        FloatingPointError, match="the logits of the strong expert on the validation nodes"
    ):
        fit_gate(model, task)
    assert model.temperatures == {"weak": 2.0, "strong": 3.0}


def test_a_mixture_like_the_strong_expert_leaves_the_prediction_to_it():
    chosen = []
    for strength in (0.02, 1.0):
        task, model = make_task(strength, 1.0), make_model()
        assert fit_gate(model, task, folds=4).chosen == (
            model.mix if model.route == "mixture" else model.route
        )
        chosen.append(model.route)
    assert chosen == ["strong", "mixture"]


def test_a_gain_within_its_standard_error_leaves_the_prediction_to_the_strong_expert():
    task, model = make_task(1.0, 1.0), make_model()
    x = task.data.x
    x[:, :3] = 0.2 * x[:, :3] + torch.randn(
        x[:, :3].shape, generator=torch.Generator().manual_seed(1)
    )
    found = fit_gate(model, task)
    assert min(found.losses, key=found.losses.get) != "strong" and found.chosen == "strong"


def test_the_search_uses_one_blas_thread_and_restores_the_number(monkeypatch):
    def blas():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def watched(*args, **kwargs):
        seen.append(blas())
        return minimize(*args, **kwargs)

    seen = []
    monkeypatch.setattr("scipy.optimize.minimize", watched)
    with threadpool_limits(2, user_api="blas"):
        fit_gate(make_model(), make_task(1.0, 1.0, num_nodes=90), folds=2)
        assert blas() == {2}
    assert seen and all(threads == {1} for threads in seen)


def test_an_unknown_mixture_is_refused():
    with pytest.raises(ValueError, match="unknown mix 'sum', choose from"):
        fit_gate(make_model(), make_task(1.0, 1.0), mix="sum")
