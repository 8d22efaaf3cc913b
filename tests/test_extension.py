r"""A gate, an expert, a data set and a method of a user work by name."""

import importlib
import sys

import pytest
import torch
import yaml

from mowst import Mowst, TrainConfig, build_model, fit, load_task
from mowst.cli import main
from mowst.data.registry import DATASETS
from mowst.nn.build import ModelConfig
from mowst.nn.registry import EXPERTS, GATES
from mowst.study import read_runs, results_table, sweep
from mowst.train.methods import METHODS

MODULE = '''
import torch
from torch_geometric.data import Data

from mowst import register_expert, register_gate, register_method
from mowst.data.info import DatasetInfo
from mowst.data.registry import register_dataset
from mowst.nn.dispersion import entropy_dispersion
from mowst.nn.loss import mowst_loss
from mowst.train import MixtureMethod, Stage


class DegreeGate(torch.nn.Module):
    """Reads the dispersion of the weak prediction, and the degree in the last feature."""

    def __init__(self):
        super().__init__()
        self.lin = torch.nn.Linear(2, 1)

    def forward(self, logits, x):
        inputs = torch.stack([entropy_dispersion(logits), x[:, -1]], dim=-1)
        return self.lin(inputs).sigmoid().view(-1)


class NeighborSum(torch.nn.Module):
    def __init__(self, in_channels, out_channels, hops=2):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.hops = hops
        self.lin = torch.nn.Linear(in_channels, out_channels)

    def forward(self, x, edge_index):
        for _ in range(self.hops):
            x = x + torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]])
        return self.lin(x.tanh())


class StrongRounds(MixtureMethod):
    """After pretraining, only the strong expert learns on the loss of the mixture."""

    def round_stages(self, model, config):
        return [
            Stage(
                name="strong only",
                part="strong",
                predicts="mixture",
                learns=("strong",),
                loss=mowst_loss,
            )
        ]


def read_rings():
    num_nodes = 120
    y = torch.arange(num_nodes) % 2
    following = (torch.arange(num_nodes) + 2) % num_nodes
    edge_index = torch.stack([torch.arange(num_nodes), following])
    edge_index = torch.cat([edge_index, edge_index.flip(0), edge_index[:, ::3]], dim=1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_nodes, 4, generator=generator)
    x[:, 0] += y
    degree = edge_index[1].bincount(minlength=num_nodes)
    return Data(x=torch.cat([x, degree.view(-1, 1)], dim=1), edge_index=edge_index, y=y)


register_gate("degree", DegreeGate)
register_expert("neighbor-sum", NeighborSum)
register_method("strong-rounds", StrongRounds)
register_dataset(DatasetInfo(name="rings", family="mine", read=read_rings))
'''


@pytest.fixture
def extension(tmp_path, monkeypatch):
    r"""Imports the module of a user; what it registers is gone after the test."""
    for registry in (EXPERTS, GATES, METHODS):
        registry.names()  # imports those of the package, which must stay
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
        monkeypatch.setattr(registry, "_defaults", dict(registry._defaults))
    (tmp_path / "my_extension.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield importlib.import_module("my_extension")
    sys.modules.pop("my_extension")
    DATASETS.pop("rings")


CONFIG = TrainConfig(epochs=20, rounds=1, patience=10, gate_folds=2)


def train(task, path, method="mowst", **parts):
    torch.manual_seed(0)
    sizes = {"in_channels": task.num_features, "out_channels": task.num_classes}
    model = build_model(ModelConfig(hidden_channels=8, **parts), **sizes)
    result = fit(model, task, method=method, config=CONFIG)
    model.save(path)
    loaded = Mowst.load(path)
    x, edge_index = task.data.x, task.data.edge_index
    assert torch.equal(loaded.predict(x, edge_index), model.predict(x, edge_index))
    return model, result


def test_a_gate_an_expert_a_data_set_and_a_method_train_by_name(extension, tmp_path):
    task = load_task("rings")
    assert task.num_nodes == 120
    model, result = train(task, tmp_path / "a", gate="degree", strong="neighbor-sum")
    assert isinstance(model.gate, extension.DegreeGate)
    assert isinstance(model.strong, extension.NeighborSum)
    assert set(result.scores) == {"weak", "strong", "mixture"}

    confidence = model.outputs(task.data.x, task.data.edge_index).confidence
    more = task.data.x.clone()
    more[:, -1] += 5
    assert not torch.equal(model.confidence(model.logits("weak", task.data.x), more), confidence)

    _, result = train(task, tmp_path / "b", method="strong-rounds")
    assert result.method == "strong-rounds"
    assert {record["part"] for record in result.history if record["round"] > 0} == {"strong"}


def test_the_command_line_trains_and_evaluates_by_name(extension, capsys):
    names = ["--method", "strong-rounds", "--gate", "degree", "--strong", "neighbor-sum"]
    settings = ["--epochs", "5", "--rounds", "1", "--gate_folds", "2", "--device", "cpu"]
    assert main(["train", "rings", *names, *settings, "--run_dir", "run"]) == 0
    assert "strong-rounds" in capsys.readouterr().out
    assert isinstance(Mowst.load("run/best.safetensors").gate, extension.DegreeGate)
    assert main(["evaluate", "run"]) == 0


def test_a_study_in_worker_processes_tabulates_the_method(extension, tmp_path, capsys):
    row = {"data": "rings", "method": "strong-rounds", "strong": "neighbor-sum", "gate": "degree"}
    row |= {"seeds": 1, "epochs": 3, "rounds": 1, "gate_folds": 2}
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump({"rows": [row]}))
    assert main(["study", "rows.yaml", "found", "--device", "cpu"]) == 0
    assert "1 runs finished, 0 failed" in capsys.readouterr().out
    table = results_table(read_runs("found"))
    assert "strong-rounds" in table.to_string()


def test_a_sweep_in_worker_processes_knows_the_names(extension):
    settings = {"gate": "degree", "epochs": 3, "rounds": 1, "gate_folds": 2}
    study = sweep(
        "rings",
        strong="neighbor-sum",
        method="strong-rounds",
        settings=settings,
        trials=2,
        workers=2,
        storage="sqlite:///found.db",
        device="cpu",
    )
    assert len(study.trials) == 2
