import torch

from mowst import GraphSAGE, MonotoneConfidence, Mowst, fit, seed_everything
from mowst.nn.experts import MLP
from mowst.train import answers


def model_of(task):
    seed_everything(0)
    sizes = {"in_channels": task.num_features, "hidden_channels": 8, "out_channels": task.num_classes}
    return Mowst(MLP(**sizes), GraphSAGE(**sizes, num_layers=3), MonotoneConfidence())


def test_a_large_graph_is_answered_in_chunks_and_trains_as_before(task, monkeypatch):
    before, after = model_of(task), model_of(task)
    expected = fit(before, task, epochs=3, rounds=1, pretrain="none", gate_fit="train")
    monkeypatch.setattr(answers, "MAX_NODES", 1)
    monkeypatch.setattr(answers, "CHUNK", 7)
    found = fit(after, task, epochs=3, rounds=1, pretrain="none", gate_fit="train")
    assert len(found.history) == len(expected.history) > 0
    for one, other in zip(found.history, expected.history, strict=True):
        torch.testing.assert_close(one["val_loss"], other["val_loss"], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        logits = answers.expert_logits(after.eval(), 1, task)
        torch.testing.assert_close(logits, after.strong(task.data.x, task.data.edge_index))
