import pytest
import torch
from torch_geometric.nn import models

from mowst import MLP, MonotoneGate, Mowst, TrainConfig, fit, seed_everything

SIZES = {"in_channels": 6, "hidden_channels": 8, "out_channels": 3}
PNA_ARGS = {"aggregators": ["mean", "max"], "scalers": ["identity", "amplification"]}


def build_global_polynormer():
    polynormer = models.Polynormer(**SIZES, local_layers=2)
    polynormer._global = True  # its second phase, which reads the batch
    return polynormer


BUILDERS = {
    "Polynormer": lambda: models.Polynormer(**SIZES, local_layers=2),
    "Polynormer, global": build_global_polynormer,
    "SGFormer": lambda: models.SGFormer(**SIZES),
    "GraphUNet": lambda: models.GraphUNet(**SIZES, depth=2),
    "PNA": lambda: models.PNA(**SIZES, num_layers=2, deg=torch.arange(9), **PNA_ARGS),
    "GATv2": lambda: models.GAT(**SIZES, num_layers=2, v2=True, heads=2),
    "LINKX": lambda: models.LINKX(**SIZES, num_layers=2, num_nodes=30),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("name", BUILDERS)
def test_trains_saves_loads_and_predicts(task, tmp_path, name):
    x, edge_index, build = task.data.x, task.data.edge_index, BUILDERS[name]
    seed_everything(0)
    model = Mowst(weak=MLP(**SIZES), strong=build(), gate=MonotoneGate())
    before = [parameter.clone() for parameter in model.strong.parameters()]
    fit(model, task, config=TrainConfig(epochs=2, rounds=1, gate_folds=2))
    after = list(model.strong.parameters())
    assert not all(map(torch.equal, before, after)), "the expert has learned"

    model.save(tmp_path / "model.safetensors")
    loaded = Mowst.load(tmp_path / "model.safetensors", strong=build())
    with torch.no_grad():
        out = model(x, edge_index)
        confidence = model.confidence(out.weak, x)
    torch.testing.assert_close(loaded(x, edge_index).prob, out.prob)
    threshold = float(confidence.median()) + 1e-3
    label = loaded.predict(x, edge_index, threshold=threshold)
    expected = torch.where(confidence < threshold, out.strong.argmax(1), out.weak.argmax(1))
    assert torch.equal(label, expected)


def test_a_required_batch_is_one_graph_unless_it_is_given(task):
    x, edge_index = task.data.x, task.data.edge_index
    model = Mowst(weak=MLP(**SIZES), strong=models.SGFormer(**SIZES), gate=MonotoneGate()).eval()
    out = model(x, edge_index).strong
    zeros, parts = torch.zeros(30, dtype=torch.long), torch.arange(30) // 15
    assert torch.equal(out, model.strong(x, edge_index, zeros))
    given = model(x, edge_index, batch=parts).strong
    assert torch.equal(given, model.strong(x, edge_index, parts))
    assert not torch.allclose(out, given)
