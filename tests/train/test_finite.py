r"""A value that is not finite stops a run with an error that says where. The best state so far is
in the model.
"""

import pytest
import torch

from mowst import GCN, MLP, LearnedGate, Mowst, TrainConfig, fit, seed_everything
from mowst.nn.evaluating import evaluating
from mowst.train.calibration import calibrated_nll
from mowst.train.finite import find_not_finite

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
LONG = {"epochs": 14, "patience": None, "rounds": 1}


class Breaking(torch.nn.Module):
    r"""An expert that breaks in a training forward: its output, or the gradient of its last
    weight.
    """

    def __init__(self, what, at):
        super().__init__()
        self.gnn, self.what, self.at, self.count = GCN(**SIZES), what, at, 0

    def forward(self, x, edge_index):
        out = self.gnn(x, edge_index)
        self.count += self.training
        if self.training and self.count == self.at:
            if self.what == "output":
                return out * torch.nan
            self.gnn.convs[1].lin.weight.register_hook(
                lambda grad: grad.index_fill(0, torch.tensor([1]), torch.inf)
            )
        return out


def make_model(strong=None, **parts):
    return Mowst(
        **{"weak": MLP(**SIZES), "strong": strong or GCN(**SIZES), "gate": LearnedGate(8)} | parts
    )


def run_until_error(model, task, method="mowst", **settings):
    r"""Returns the message of a run that breaks off, and the records before."""
    history = []
    with pytest.raises(FloatingPointError) as error:
        fit(model, task, method, TrainConfig(**LONG | settings), callbacks=[history.append])
    return str(error.value), history


def compute_validation_loss(model, task):
    with torch.no_grad(), evaluating(model):
        prob = model(task.data.x, task.data.edge_index).prob
        return float(calibrated_nll(prob[task.index("val")], task.labels("val")))


@pytest.mark.parametrize("method", ["strong", "mowst", "mowst-star"])
@pytest.mark.parametrize("gate_fit", ["validation", "train"])
def test_an_output_of_nan_is_named_and_the_best_state_is_kept(task, method, gate_fit):
    seed_everything(0)
    model = make_model(Breaking("output", at=12))
    stage = "train strong" if method == "strong" else "pretrain strong"
    message, history = run_until_error(model, task, method=method, gate_fit=gate_fit)
    assert message.startswith(
        f"the loss became nan in epoch 12 of the stage '{stage}'; first not finite: the logits of "
        "the strong expert "
    )
    assert history[-1]["stage"] == stage and history[-1]["epoch"] == 11
    best = min(record["val_calibrated"] for record in history)
    assert compute_validation_loss(model, task) == pytest.approx(best, abs=1e-6)


def test_in_a_round_the_state_before_it_and_its_best_epoch_are_compared(task):
    seed_everything(0)
    model = make_model(Breaking("output", at=14 + 8))
    message, history = run_until_error(model, task, gate_fit="train")
    assert (
        "nan in epoch 8 of the stage 'round 1: strong'; first not finite: the logits of the strong "
        "expert" in message
    )
    best = min(record["val_calibrated"] for record in history)
    assert compute_validation_loss(model, task) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(
    ("eval_every", "noticed"), [(1, "validation loss became nan in epoch 5"), (3, "epoch 6")]
)
@pytest.mark.parametrize("select", ["calibrated", "loss", "metric"])
def test_an_infinite_gradient_is_named_before_its_step_can_be_selected(
    task, eval_every, noticed, select
):
    seed_everything(0)
    model = make_model(Breaking("gradient", at=5))
    message, history = run_until_error(
        model, task, method="strong", eval_every=eval_every, select=select
    )
    assert noticed in message
    assert (
        "first not finite: the gradient of strong.gnn.convs.1.lin.weight (8 of 24 values)"
        in message
    )
    assert [record["epoch"] for record in history] == ([1, 2, 3, 4] if eval_every == 1 else [3])
    assert torch.tensor(compute_validation_loss(model, task)).isfinite()


@pytest.mark.parametrize("select", ["calibrated", "loss", "metric"])
def test_a_first_epoch_that_breaks_leaves_the_start(task, select):
    seed_everything(0)
    model = make_model(Breaking("gradient", at=1))
    before = compute_validation_loss(model, task)
    message, history = run_until_error(model, task, method="strong", select=select)
    assert "in epoch 1 of the stage 'train strong'" in message and history == []
    assert compute_validation_loss(model, task) == before


def test_a_learning_rate_that_diverges_is_reported(task):
    seed_everything(0)
    model = make_model()
    message, history = run_until_error(model, task, method="mowst", lr=1e30)
    assert (
        "in epoch 1 of the stage 'pretrain weak'; first not finite: the logits of the weak expert"
        in message
    )
    assert "a lower lr may help" in message and history == []


def test_tensors_are_searched_in_the_order_in_which_they_are_computed():
    model = make_model(GCN(**SIZES, norm="batch_norm"))
    optimizer = torch.optim.Adam(model.parameters())
    model.strong(torch.randn(9, 6), torch.empty(2, 0, dtype=torch.long)).sum().backward()
    optimizer.step()
    outputs = {"the logits of the strong expert": torch.zeros(9, 3)}
    conv = model.strong.convs[0].lin.weight
    last_first = [
        (
            outputs["the logits of the strong expert"],
            "the logits of the strong expert (1 of 27 values)",
        ),
        (
            model.strong.norms[0].module.running_var,
            "the buffer strong.norms.0.module.running_var (1 of 8 values)",
        ),
        (conv.detach(), "the parameter strong.convs.0.lin.weight (1 of 48 values)"),
        (
            optimizer.state[conv]["exp_avg"],
            "the gradient of strong.convs.0.lin.weight (1 of 48 values)",
        ),
    ]
    assert find_not_finite(model, ("strong",), optimizer, outputs) is None
    for tensor, name in last_first:
        tensor.view(-1)[0] = torch.inf
        assert find_not_finite(model, ("strong",), optimizer, outputs) == name
    assert find_not_finite(model, ("weak",), optimizer, {}) is None


def test_a_gate_that_breaks_is_named_with_its_gradient(task):
    seed_everything(0)
    model = make_model()
    model.gate.mlp[0].weight.register_hook(lambda grad: grad * torch.inf)
    message, _ = run_until_error(model, task, gate_fit="train", pretrain="none")
    assert (
        "became NaN in epoch 1 of the stage 'round 1: weak'" in message and "LearnedGate" in message
    )
    assert "first not finite: the gradient of gate.mlp.0.weight" in message
    assert torch.tensor(compute_validation_loss(model, task)).isfinite()


def test_a_loss_that_breaks_by_itself_is_reported(task, monkeypatch):
    monkeypatch.setattr(
        "mowst.train.methods.mowst_star.mowst_star_loss", lambda *_, **__: torch.tensor(torch.inf)
    )
    message, _ = run_until_error(make_model(), task, method="mowst-star", pretrain="none")
    assert (
        message.startswith("the loss became inf in epoch 1 of the stage 'round 1: joint'")
        and "the loss itself" in message
    )


def test_an_expert_that_is_not_finite_before_training_is_named(task, tmp_path):
    broken = GCN(**SIZES)
    torch.nn.init.constant_(broken.convs[0].bias, torch.nan)
    with pytest.raises(
        FloatingPointError, match="90 logits of the strong expert are not finite before training"
    ):
        fit(make_model(broken), task, run_dir=tmp_path / "run")
    assert not list(tmp_path.iterdir())
