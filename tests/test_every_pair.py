r"""Every expert with every gate in both losses trains, saves, and predicts alike in any order and
format of the graph.
"""

import pytest
import torch
from torch_geometric.typing import WITH_TORCH_SPARSE, SparseTensor
from torch_geometric.utils import to_torch_csr_tensor

from mowst import Features, Graph, Mowst, TrainConfig, fit, seed_everything
from mowst.nn.build import ModelConfig, build_model
from mowst.nn.registry import EXPERTS, GATES
from mowst.train import METHODS, MixtureMethod

SIZES = {"hidden_channels": 8, "num_layers": 2, "dropout": 0.0}
MIXTURES = [name for name in METHODS.names() if issubclass(METHODS.find(name), MixtureMethod)]
FITS = ["validation", "train"]
# Every expert with one gate in one of the losses, every gate with one expert in both, and fitted to
# validation nodes in one of them.
RUNS = []
for number, name in enumerate(EXPERTS.names()):
    RUNS.append((name, "monotone", MIXTURES[number % len(MIXTURES)], "train"))
for number, name in enumerate(GATES.names()):
    for at, method in enumerate(MIXTURES):
        RUNS.append(("gcn", name, method, FITS[(number + at) % 2]))


def transpose(kind, edge_index, num_nodes):
    row, col = edge_index.flip(0)
    if kind == "SparseTensor":
        return SparseTensor(row=row, col=col, sparse_sizes=(num_nodes, num_nodes))
    return to_torch_csr_tensor(torch.stack([row, col]), size=(num_nodes, num_nodes))


@pytest.mark.parametrize(("strong", "gate", "method", "gate_fit"), RUNS)
def test_every_expert_and_every_gate_in_both_losses(task, tmp_path, strong, gate, method, gate_fit):
    data = task.data
    seed_everything(0)
    config = ModelConfig(strong=strong, gate=gate, **SIZES)
    model = build_model(config, in_channels=6, out_channels=3, num_nodes=30)
    settings = TrainConfig(epochs=4, rounds=1, gate_fit=gate_fit, gate_folds=2, weight_decay=0.0)
    result = fit(model, task, method, settings)

    for stage in {record["stage"] for record in result.history}:
        records = [record for record in result.history if record["stage"] == stage]
        losses = [record["loss"] for record in records]
        # A step gate has no slope, and no loss reaches the weak expert where C = 0.
        stuck = gate == "step" and records[0]["part"] == "weak" and losses[-1] == losses[0]
        assert losses[-1] < losses[0] or stuck, stage
    assert result.scores.keys() == {"weak", "strong", "mixture"}

    model.route = "mixture"
    out = model(data.x, data.edge_index)
    assert out.prob.shape == out.weak.shape == out.strong.shape == (
        30,
        3,
    ) and out.confidence.shape == (30,)
    assert repr(model).startswith("Mowst(weak=MLP(")
    for name in ("weak", "strong", "gate"):
        assert f"{name}={type(getattr(model, name)).__name__}(" in repr(model)

    model.save(tmp_path / "model.safetensors")
    loaded = Mowst.load(tmp_path / "model.safetensors")
    assert torch.equal(loaded(data.x, data.edge_index).prob, out.prob) and repr(loaded) == repr(
        model
    )

    if model.strong.inductive:
        order = torch.randperm(30)
        permuted = model(data.x[order], order.argsort()[data.edge_index])
        for ours, expected in zip(permuted, out, strict=True):
            torch.testing.assert_close(ours, expected[order], rtol=1e-4, atol=1e-5)

    graphs = [transpose("csr", data.edge_index, 30), Graph(data.edge_index, num_nodes=30)]
    if WITH_TORCH_SPARSE:
        graphs.append(transpose("SparseTensor", data.edge_index, 30))
    for graph in graphs:
        for x in (data.x, Features(data.x)):
            torch.testing.assert_close(model(x, graph).prob, out.prob, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weak", EXPERTS.names())
def test_any_expert_may_be_the_weak_one(task, weak):
    seed_everything(0)
    config = ModelConfig(weak=weak, strong="sage", **SIZES)
    model = build_model(config, in_channels=6, out_channels=3, num_nodes=30)
    result = fit(model, task, config=TrainConfig(epochs=2, rounds=1, gate_fit="train"))
    assert {record["part"] for record in result.history} == {"weak", "strong"}
    assert (model(task.data.x, task.data.edge_index).confidence >= 0).all()


@pytest.mark.parametrize("method", MIXTURES)
@pytest.mark.parametrize(
    ("detach", "mix", "gate_fit"), [(False, "logit", "validation"), (True, "prob", "train")]
)
@pytest.mark.parametrize(
    ("pretrain", "alone"), [("none", 0), ("weak", 1), ("strong", 1), ("both", 2)]
)
def test_every_combination_of_options_trains(task, method, detach, mix, gate_fit, pretrain, alone):
    seed_everything(0)
    config = ModelConfig(mix=mix, detach_dispersion=detach, **SIZES)
    model = build_model(config, in_channels=6, out_channels=3)
    settings = TrainConfig(pretrain=pretrain, epochs=2, rounds=1, gate_fit=gate_fit, gate_folds=2)
    result = fit(model, task, method, settings)
    assert len(result.alone) == alone
    assert all(torch.isfinite(torch.tensor(record["loss"])) for record in result.history)
