import pytest
import torch

from mowst import GCN, MLP, MonotoneGate, Mowst, TrainConfig, fit, seed_everything
from mowst.train.memory import check_precision

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SHORT = {"epochs": 3, "rounds": 1, "lr": 0.03, "gate_fit": "train"}


def train(task, method="mowst", dropout=0.0, **settings):
    seed_everything(0)
    sizes = SIZES | {"dropout": dropout}
    model = Mowst(MLP(**sizes), GCN(**sizes, norm="batch_norm"), MonotoneGate())
    history = fit(model, task, method, TrainConfig(**SHORT, **settings)).history
    return model, [record["loss"] for record in history]


@pytest.mark.parametrize("batches", ["full", "random"])
@pytest.mark.parametrize("method", ["mowst", "mowst-star", "strong"])
def test_recomputed_layers_give_the_same_run(task, method, batches):
    model, losses = train(task, method, 0.5, batches=batches)
    again, same = train(task, method, 0.5, batches=batches, checkpoint_activations=True)
    assert losses == same
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    assert not again.strong.checkpoint_activations


def test_checkpoint_activations_is_refused_where_it_has_no_effect(task):
    with pytest.raises(ValueError, match="MLP"):
        train(task, "weak", checkpoint_activations=True)


@pytest.mark.parametrize("batches", ["full", "random"])
def test_half_precision_is_near_single_precision(task, batches):
    (model, losses), (_, near) = (train(task, batches=batches, precision=p) for p in ("32", "bf16"))
    assert losses != near
    assert losses[0] == pytest.approx(near[0], rel=2e-2)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())


def test_experts_run_in_half_precision_and_their_losses_do_not(task):
    seen = set()
    seed_everything(0)
    model = Mowst(MLP(**SIZES), GCN(**SIZES), MonotoneGate())
    model.strong.register_forward_hook(
        lambda module, _, out: seen.add((module.training, out.dtype))
    )
    model.gate.register_forward_hook(lambda _, args, out: seen.add((args[0].dtype, out.dtype)))
    fit(model, task, "mowst-star", TrainConfig(precision="bf16", **SHORT))
    assert seen == {(True, torch.bfloat16), (False, torch.float32), (torch.float32, torch.float32)}


def test_a_device_without_half_precision_is_named():
    with pytest.raises(ValueError, match="'meta' has no bfloat16"):
        check_precision("bf16", torch.device("meta"))
