r"""The lines of docs/habits.md run as shown."""

import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import pandas as pd
import pytest
import torch
import torch_geometric.nn as pyg
import torch_geometric.transforms as T
from sklearn.base import clone
from torch.optim.lr_scheduler import ExponentialLR
from torch_geometric.data import InMemoryDataset
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.utils import from_networkx
from torchmetrics.classification import MulticlassCohenKappa

import mowst
from mowst.cli.commands import main
from mowst.data import stratified_split
from mowst.estimator import MowstClassifier
from mowst.train import CSV, TensorBoard

PAGE = (Path(__file__).parents[1] / "docs" / "habits.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SETTINGS = {"epochs": 2, "rounds": 0, "gate_fit": "train"}
QUICK = {
    "train": "--epochs 2 --rounds 1 --hidden-channels 8 --gate-fit train",
    "sweep": f"--settings '{json.dumps(SETTINGS)}'",
}


class GINE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = pyg.GINEConv(torch.nn.Linear(6, 3), edge_dim=2)

    def forward(self, x, edge_index, edge_attr):
        return self.conv(x, edge_index, edge_attr)


class OneGraph(InMemoryDataset):
    def __init__(self, data):
        super().__init__()
        self.data, self.slices = self.collate([data])


def fit(model, data, config=None, **kwargs):
    r"""mowst.fit with few epochs."""
    config = config or mowst.TrainConfig(**SETTINGS)
    return mowst.fit(model, data, config=config, **kwargs)


def stop_after_two(record):
    if record["step"] == 2:
        raise mowst.StopTraining


def write_ogb(folder):
    r"""A graph in the files of ogbn-arxiv."""
    tables = {
        "raw/num-node-list": [30],
        "raw/num-edge-list": [30],
        "raw/node-feat": torch.randn(30, 6).numpy(),
        "raw/edge": [[node, (node + 1) % 30] for node in range(30)],
        "raw/node-label": [node % 3 for node in range(30)],
        "raw/node_year": [2000] * 30,
    }
    for at, part in enumerate(("train", "valid", "test")):
        tables[f"split/time/{part}"] = range(at, 30, 3)
    for name, table in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(table).to_csv(path, header=False, index=False)


def read_lines(section):
    return re.findall(r"^\| [^|]+ \| `(.+)` \|$", SECTIONS[section], re.M)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = SimpleNamespace(add_scalar=lambda *args: None, flush=lambda: None)
    board = SimpleNamespace(SummaryWriter=lambda **options: writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    write_ogb(tmp_path / "dataset" / "ogbn_arxiv")
    return tmp_path


@pytest.fixture
def names(data):
    r"""The names that the lines use."""
    mlp, gnn = mowst.MLP(**SIZES), pyg.GraphSAGE(**SIZES)
    model = mowst.Mowst(mlp, gnn)
    graph = nx.path_graph(30)
    for node, y in enumerate(data.y.tolist()):
        split = {f"{key}_mask": node % 3 == at for at, key in enumerate(("train", "val", "test"))}
        graph.nodes[node].update(x=data.x[node].tolist(), y=y, **split)
    edge_data = data.clone()
    edge_data.edge_attr = torch.randn(data.num_edges, 2)
    sparse_features = data.clone()
    sparse_features.x = data.x.to_sparse()
    several_labels = data.clone()
    several_labels.y = torch.nn.functional.one_hot(data.y, 3)
    unsplit = data.clone()
    for key in ("train_mask", "val_mask", "test_mask"):
        del unsplit[key]
    ids = {key: data[f"{key}_mask"].nonzero().view(-1) for key in ("train", "val", "test")}
    return {
        **{name: getattr(mowst, name) for name in mowst.__all__},
        **{"fit": fit, "mlp": mlp, "gnn": gnn, "model": model, "data": data, "torch": torch},
        **{"GINE": GINE, "GATv2": pyg.GAT(**SIZES, v2=True, edge_dim=2), "T": T},
        **{"CSV": CSV, "TensorBoard": TensorBoard, "stop_after_two": stop_after_two},
        **{"Explainer": Explainer, "GNNExplainer": GNNExplainer, "losses": []},
        **{"MowstClassifier": MowstClassifier, "clone": clone, "SGFormer": pyg.SGFormer},
        **{"ExponentialLR": ExponentialLR, "MulticlassCohenKappa": MulticlassCohenKappa},
        "several_labels": several_labels,
        "dataset": OneGraph(data),
        "edge_data": edge_data,
        "from_networkx": from_networkx,
        "logits": torch.randn(30, 3),
        "networkx_graph": graph,
        "result": fit(model, data),
        "sparse_features": sparse_features,
        "split_idx": {"train": ids["train"], "valid": ids["val"], "test": ids["test"]},
        "stratified_split": stratified_split,
        "unsplit": unsplit,
    }


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "Command line"])
def test_python_lines_run(section, names, here):
    lines = read_lines(section)
    assert lines
    for line in lines:
        exec(line, names)


def test_commands_run(here, capsys):
    x = pd.DataFrame(torch.randn(40, 6).numpy()).add_prefix("x")
    edges = pd.DataFrame({"source": range(39), "target": range(1, 40)})
    for folder in (here / "old", here / "new"):
        folder.mkdir()
        x.to_csv(folder / "features.csv", index=False)
        edges.to_csv(folder / "edges.csv", index=False)
    pd.DataFrame({"label": [0, 1] * 20}).to_csv(here / "old" / "labels.csv", index=False)
    for line in read_lines("Command line"):
        for command in line.split(" && "):
            command, _, file = command.partition(" > ")
            name, *arguments = shlex.split(command.removeprefix("python -m "))
            assert name == "mowst"
            if arguments[0] in QUICK:
                arguments += shlex.split(QUICK[arguments[0]])
            assert main(arguments) == 0, line
            printed = capsys.readouterr().out
            if file:
                Path(file).write_text(printed)
    assert len(pd.read_parquet("new.parquet")) == len(pd.read_csv("new.csv")) == 40
