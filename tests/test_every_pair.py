r"""Every expert under every confidence in both losses: it trains, saves, and answers alike in any order and format."""

import pytest
import torch
from torch_geometric.typing import WITH_TORCH_SPARSE, SparseTensor
from torch_geometric.utils import to_torch_csr_tensor

from mowst import Mowst, fit, seed_everything
from mowst.nn import CONFIDENCES, EXPERTS
from mowst.nn.build import ModelConfig, build_model
from mowst.train import METHODS

SIZES = {"hidden_channels": 8, "num_layers": 2, "dropout": 0.0}


def transposed(kind, edge_index, num_nodes):
    if kind == "edge_index":
        return edge_index
    row, col = edge_index.flip(0)
    if kind == "SparseTensor":
        return SparseTensor(row=row, col=col, sparse_sizes=(num_nodes, num_nodes))
    return to_torch_csr_tensor(torch.stack([row, col]), size=(num_nodes, num_nodes))


@pytest.mark.parametrize("strong", EXPERTS.names())
@pytest.mark.parametrize("confidence", CONFIDENCES.names())
@pytest.mark.parametrize("method", [method for method in METHODS if method.startswith("mowst")])
def test_every_expert_under_every_confidence_in_both_losses(task, tmp_path, strong, confidence, method):
    data = task.data
    seed_everything(0)
    config = ModelConfig(strong=strong, confidence=confidence, **SIZES)
    model = build_model(config, in_channels=6, out_channels=3, num_nodes=30)
    result = fit(model, task, method=method, epochs=6, rounds=1, gate_folds=2, weight_decay=0.0)

    for turn in {record["turn"] for record in result.history}:
        losses = [record["loss"] for record in result.history if record["turn"] == turn]
        stuck = confidence == "step" and turn == "weak" and losses[-1] == losses[0]  # no slope where C = 0
        assert losses[-1] < losses[0] or stuck, turn
    assert result.scores.keys() == {"weak", "strong", "mixture"}

    model.route = "mixture"
    out = model(data.x, data.edge_index)
    assert out.prob.shape == out.weak.shape == out.strong.shape == (30, 3) and out.confidence.shape == (30,)
    names = [type(getattr(model, part)).__name__ for part in model.parts]
    assert [repr(model).startswith("Mowst(weak=MLP("), *(f"={name}(" in repr(model) for name in names)] == [True] * 4

    model.save(tmp_path / "model.safetensors")
    loaded = Mowst.load(tmp_path / "model.safetensors").eval()
    assert torch.equal(loaded(data.x, data.edge_index).prob, out.prob) and repr(loaded) == repr(model)

    if model.strong.inductive:
        order = torch.randperm(30)
        permuted = model(data.x[order], order.argsort()[data.edge_index])
        for ours, expected in zip(permuted, out, strict=True):
            torch.testing.assert_close(ours, expected[order], rtol=1e-4, atol=1e-5)

    for kind in ["csr", *(["SparseTensor"] if WITH_TORCH_SPARSE else [])]:
        graph = transposed(kind, data.edge_index, 30)
        torch.testing.assert_close(model(data.x, graph).prob, out.prob, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weak", EXPERTS.names())
def test_any_expert_may_be_the_weak_one(task, weak):
    seed_everything(0)
    config = ModelConfig(weak=weak, strong="sage", **SIZES)
    model = build_model(config, in_channels=6, out_channels=3, num_nodes=30)
    result = fit(model, task, epochs=4, rounds=1, gate_folds=2)
    assert {"weak alone", "strong alone", "weak", "strong"} == {record["turn"] for record in result.history}
    assert (model(task.data.x, task.data.edge_index).confidence >= 0).all()


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("mix", ["prob", "logit"])
@pytest.mark.parametrize("pretrain", ["none", "weak", "strong", "both"])
@pytest.mark.parametrize(
    "how",
    [
        {"method": "mowst"},
        {"method": "mowst", "normalize_weights": True},
        {"method": "mowst", "weight_floor": 0.1},
        {"method": "mowst", "normalize_weights": True, "weight_floor": 0.1},
        {"method": "mowst-star"},
        {"method": "mowst-star", "in_turns": True},
    ],
    ids=lambda how: "-".join(str(value) for value in how.values()),
)
@pytest.mark.parametrize("middle", [(), ("sage",)], ids=["two", "three"])
def test_every_combination_of_options_trains(task, detach, mix, pretrain, how, middle):
    seed_everything(0)
    config = ModelConfig(mix=mix, detach_dispersion=detach, middle=middle, **SIZES)
    model = build_model(config, in_channels=6, out_channels=3)
    result = fit(model, task, pretrain=pretrain, epochs=3, rounds=1, **{"gate_folds": 2} | how)
    expected = {"none": 0, "weak": 1, "strong": 1 + len(middle), "both": 2 + len(middle)}[pretrain]
    assert len(result.alone) == expected
    assert all(torch.isfinite(torch.tensor(record["loss"])) for record in result.history)
