import numpy as np
import pytest
import torch
from torch_geometric.nn import GCN

from mowst import Mowst, Precomputed, TrainConfig, fit, seed_everything
from mowst.serve import Predictor

SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}
SHORT = TrainConfig(epochs=3, rounds=1, gate_folds=2)


def predict_elsewhere(data):
    r"""Probabilities as an XGBoost classifier returns them: a float32 array of numpy."""
    noise = np.random.default_rng(0).normal(size=(data.num_nodes, 3))
    scores = np.exp(noise + 2 * np.eye(3)[data.y.numpy()])
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def logits(data):
    return torch.from_numpy(predict_elsewhere(data)).log()


def test_predictions_of_another_library_are_a_weak_expert(data, logits, tmp_path, caplog):
    seed_everything(0)
    model = Mowst(weak=Precomputed(logits), strong=GCN(**SIZES))
    result = fit(model, data, config=SHORT)
    assert "the weak expert has no learnable parameters: its stages are skipped" in caplog.text
    assert {record["part"] for record in result.history} == {"strong"}
    right = (logits.argmax(dim=1) == data.y)[data.test_mask].float().mean()
    assert result.scores["weak"]["test"] == pytest.approx(float(right))

    model.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="Precomputed, which the file cannot rebuild.*weak="):
        Mowst.load(tmp_path / "model.safetensors")
    parts = {"weak": Precomputed(torch.zeros(30, 3)), "strong": GCN(**SIZES)}
    loaded = Mowst.load(tmp_path / "model.safetensors", **parts)
    assert torch.equal(loaded.weak.logits, logits)
    assert torch.equal(loaded.predict_proba(data), model.predict_proba(data))


@pytest.mark.parametrize("cache", [False, True])
def test_some_nodes_get_their_own_logits(data, logits, cache):
    model, nodes = Mowst(Precomputed(logits), GCN(**SIZES)).eval(), torch.tensor([7, 2, 29])
    assert torch.equal(model.logits("weak", data.x, data.edge_index, nodes=nodes), logits[nodes])
    labels = model.predict(data, threshold=0.0)
    assert torch.equal(labels, logits.argmax(dim=1))
    server = Predictor(model, data, threshold=0.0, cache=cache)
    assert torch.equal(server.predict(nodes).labels, labels[nodes])
    with pytest.raises(ValueError, match="accepts no new nodes"):
        server.add_nodes(data.x[:1])


def test_edge_weights_are_for_the_other_expert(data, logits):
    model = Mowst(Precomputed(logits.double()), GCN(**SIZES))
    out = model(data.x, data.edge_index, torch.rand(data.num_edges))
    assert torch.equal(out.weak, logits)


def test_what_does_not_fit_is_named(data, logits):
    for wrong in (data.y, logits[:, 0], logits.long()):
        with pytest.raises(ValueError, match=r"floating point of shape \[N, C\], got torch"):
            Precomputed(wrong)
    model = Mowst(Precomputed(logits[:29]), GCN(**SIZES))
    with pytest.raises(ValueError, match="has the logits of 29 nodes, got features of 30"):
        fit(model, data, config=SHORT)
    model = Mowst(Precomputed(logits), GCN(**SIZES))
    with pytest.raises(ValueError, match="Precomputed has values for each node and predicts all"):
        fit(model, data, config=TrainConfig(batches="random"))
    assert repr(model).startswith("Mowst(weak=Precomputed(num_nodes=30, num_classes=3)")
