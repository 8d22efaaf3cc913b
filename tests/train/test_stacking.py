from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_info, threadpool_limits
from torch.nn.functional import nll_loss
from torch_geometric.data import Data

from mowst import Cascade, GraphTask, MonotoneConfidence, Mowst, TrainConfig
from mowst.train import alternation, stack, stacking
from mowst.train.calibration import temperature


class Columns(torch.nn.Module):
    r"""An expert whose logits are three columns of the features."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.first : self.first + 3]


def make_task(*scales: float, num_nodes: int = 600) -> GraphTask:
    r"""For each scale the logits of an expert: independent evidence of the class, exact but for the scale."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(num_nodes) % 3
    evidence = torch.randn(len(scales), num_nodes, 3, generator=generator)
    evidence[:, torch.arange(num_nodes), y] += 1  # of unit normals, shifted by one: log-odds are their differences
    x = torch.cat([scale * part for scale, part in zip(scales, evidence, strict=True)], dim=1)
    turn = torch.randperm(num_nodes, generator=generator) % 3
    masks = {f"{name}_mask": turn == k for k, name in enumerate(("train", "val", "test"))}
    return GraphTask.from_data(Data(x=x, y=y, edge_index=torch.empty(2, 0, dtype=torch.long), **masks))


def make_model(count: int = 2, **settings) -> Cascade:
    experts = [Columns(3 * k) for k in range(count)]
    if count == 2:
        return Mowst(*experts, MonotoneConfidence(), **settings)
    return Cascade(experts, [MonotoneConfidence() for _ in range(count - 1)], **settings)


def answer(model: Cascade, task: GraphTask) -> torch.Tensor:
    return model(task.data.x, task.data.edge_index).prob.log().detach()


@pytest.mark.parametrize("count", [2, 3])
def test_independent_evidence_is_a_product_of_experts(count):
    task, model = make_task(*[1.0] * count), make_model(count)
    found = stack(model, task)
    assert (model.mix, model.route, found.chosen) == ("logit", "mixture", "logit")
    assert min(found.losses, key=found.losses.get) == "logit"
    assert float(found.held.mean()) == pytest.approx(found.losses["logit"])
    exact = sum(task.data.x.split(3, dim=1)).log_softmax(dim=-1)  # Bayes' rule
    test, y = task.index("test"), task.labels("test")
    reached, best = (float(nll_loss(found[test], y)) for found in (answer(model, task), exact))
    alone = float(nll_loss(task.data.x[test, :3].log_softmax(dim=-1), y))
    assert best < reached < best + 0.1 * (alone - best)


@pytest.mark.parametrize("scales, expert", [((1.0, 0.0), "weak"), ((0.0, 1.0), "strong")])
def test_an_expert_that_knows_nothing_is_not_asked(scales, expert):
    task, model = make_task(*scales), make_model()
    stack(model, task)
    assert model.route == expert


def test_the_temperature_of_an_expert_alone_is_the_calibrated_one():
    task, model = make_task(0.0, 4.0), make_model()
    stack(model, task)
    val = task.index("val")
    assert model.temperatures[1] == pytest.approx(temperature(task.data.x[val, 3:], task.labels("val")), rel=0.05)


def test_the_fit_is_stationary_in_what_forward_answers():
    task, model = make_task(1.0, 1.0), make_model()
    stack(model, task)
    val, y, gate = task.index("val"), task.labels("val"), model.confidence

    def objective(name: str, step: float) -> float:
        with torch.no_grad():
            moved = getattr(gate, name)
            moved += step
            shift = sum(float(p) ** 2 for p in gate.parameters())
            shift += sum(torch.tensor(t).log().item() ** 2 for t in model.temperatures)
            value = float(nll_loss(answer(model, task).double()[val], y)) + shift / (2 * y.numel())
            moved -= step
        return value

    for name in ("log_a", "log_b"):
        here = objective(name, 0.0)
        assert here < min(objective(name, -0.3), objective(name, 0.3))
        assert abs(objective(name, 0.05) - objective(name, -0.05)) < 2e-4


def test_only_labels_of_validation_nodes_are_read():
    task, models = make_task(1.0, 1.0), [make_model(), make_model()]
    data = task.data.clone()
    data.y = torch.where(task.masks["val"], data.y, (data.y + 1) % 3)
    assert stack(models[0], task).losses == stack(models[1], replace(task, data=data)).losses
    assert models[0].temperatures == models[1].temperatures


def test_a_second_call_on_the_same_start_and_a_saved_model_agree(tmp_path):
    task, models = make_task(1.0, 1.0), [make_model(), make_model()]
    for model in models:
        stack(model, task)
    models[0].save(tmp_path / "model.safetensors")
    loaded = Mowst.load(tmp_path / "model.safetensors", weak=Columns(0), strong=Columns(3))
    for other in (models[1], loaded):
        assert torch.equal(answer(models[0], task), answer(other, task))


def test_experts_that_no_turn_has_changed_are_judged_as_before(monkeypatch):
    task, model, found = make_task(1.0, 1.0), make_model(), []
    monkeypatch.setattr(alternation, "stack", lambda *args: found.append(stack(*args)) or found[-1])
    training = alternation.Training(model, task, "mowst", TrainConfig())
    assert [training._stack(), training._stack()] == [True, False]
    assert torch.equal(found[0].held, found[1].held) and found[0].losses == found[1].losses


def test_few_nodes_are_a_fold_each_and_a_given_mix_is_kept():
    task, model = make_task(1.0, 1.0, num_nodes=12), make_model(mix="prob")
    assert stack(model, task, folds=10).losses == stack(model, task, folds=4).losses
    assert set(stack(model, task).losses) == {"strong", "weak", "prob"} and model.mix == "prob"


def test_what_cannot_be_fitted_is_said():
    task, model = make_task(1.0, 1.0), make_model()
    with pytest.raises(ValueError, match="two validation nodes or more in two folds or more, got 200 in 1"):
        stack(model, task, folds=1)
    model.strong.register_forward_hook(lambda *call: call[-1] / 0)
    model.temperatures = [2.0, 3.0]
    with pytest.raises(FloatingPointError, match="the logits of the strong expert on the validation nodes"):
        stack(model, task)
    assert model.temperatures == [2.0, 3.0]


def test_what_cannot_be_told_from_the_last_expert_leaves_the_answer_to_it():
    chosen = []
    for strength in (0.02, 1.0):
        task, model = make_task(strength, 1.0), make_model()
        assert stack(model, task).chosen == (model.mix if model.route == "mixture" else model.route)
        chosen.append(model.route)
    assert chosen == ["strong", "mixture"]


def test_a_gain_within_its_standard_error_leaves_the_answer_to_the_last_expert():
    task, model = make_task(1.0, 1.0), make_model()
    x = task.data.x
    x[:, :3] = 0.2 * x[:, :3] + torch.randn(x[:, :3].shape, generator=torch.Generator().manual_seed(1))
    found = stack(model, task)
    assert min(found.losses, key=found.losses.get) != "strong" and found.chosen == "strong"


def test_the_search_leaves_the_cores_to_torch(monkeypatch):
    def blas():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def watched(*args, **kwargs):
        seen.append(blas())
        return minimize(*args, **kwargs)

    seen = []
    monkeypatch.setattr(stacking, "minimize", watched)
    with threadpool_limits(2, user_api="blas"):
        stack(make_model(), make_task(1.0, 1.0))
        assert blas() == {2}
    assert seen and all(threads == {1} for threads in seen)


def test_an_unknown_mixture_is_refused():
    with pytest.raises(ValueError, match="unknown mix 'sum', choose from"):
        stack(make_model(), make_task(1.0, 1.0), mix="sum")
