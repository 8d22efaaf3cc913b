r"""Invalid graphs, tasks and experts raise a one-line error, in :obj:`fit` and on the command line.
Odd but valid graphs train.
"""

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from mowst import GCN, MLP, GraphTask, Mowst, PowerGate, TrainConfig, fit, seed_everything
from mowst.cli import main

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SHORT = TrainConfig(epochs=3, rounds=1, gate_folds=2)


class Returning(torch.nn.Module):
    r"""A linear expert whose output is changed."""

    def __init__(self, change):
        super().__init__()
        self.lin, self.change = torch.nn.Linear(6, 3), change

    def forward(self, x, edge_index):
        return self.change(self.lin(x))


class FunctionGate(torch.nn.Module):
    r"""A gate that is a function of the logits."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, logits):
        return self.function(logits)


def train(task, **parts):
    seed_everything(0)
    model = Mowst(**{"weak": MLP(**SIZES), "strong": GCN(**SIZES), "gate": PowerGate()} | parts)
    return fit(model, task, config=SHORT)


REFUSED = {
    "rows": ({"strong": Returning(lambda z: z[:5])}, r"N = 30 nodes, got \[5, 3\]"),
    "three dimensions": ({"strong": Returning(lambda z: z.unsqueeze(0))}, r"got \[1, 30, 3\]"),
    "integers": ({"strong": Returning(lambda z: z.long())}, r"got \[30, 3\] of torch.int64"),
    "complex": ({"strong": Returning(lambda z: z.to(torch.complex64))}, "of torch.complex64"),
    "sparse": ({"strong": Returning(lambda z: z.to_sparse())}, "torch.sparse_coo"),
    "tuple": ({"strong": Returning(lambda z: (z, z))}, "got tuple"),
    "classes": (
        {"strong": Returning(lambda z: z[:, :2])},
        "returns 2 classes, the task 'graph' has 3",
    ),
    "no gradient": (
        {"strong": Returning(torch.Tensor.detach)},
        "the loss does not depend on strong",
    ),
    "flags": (
        {"gate": FunctionGate(lambda z: z[:, 0] > 0)},
        "floating point confidence .* of torch.bool",
    ),
    "column": (
        {"gate": FunctionGate(lambda z: z[:, :1].sigmoid())},
        r"of shape \[N\] = \[30\], got \[30, 1\]",
    ),
    "outside": (
        {"gate": FunctionGate(lambda z: z[:, 0] + 9)},
        r"must return confidences in \[0, 1\]",
    ),
}


@pytest.mark.parametrize(("parts", "message"), REFUSED.values(), ids=REFUSED)
def test_parts_that_are_none_are_named(task, parts, message):
    with pytest.raises(ValueError, match=message):
        train(task, **parts)


@pytest.mark.parametrize("precision", [torch.double, torch.half, torch.bfloat16])
def test_logits_in_another_precision_are_taken(task, precision):
    wide = train(task, strong=Returning(lambda z: z.to(precision)))
    same = train(task, strong=Returning(lambda z: z.to(precision).float()))
    assert wide.history[-1]["val_loss"] == same.history[-1]["val_loss"] and wide.route == same.route
    gated = train(task, gate=FunctionGate(lambda z: z.softmax(dim=-1)[:, 0].to(precision)))
    assert 0 <= gated.deferred_share <= 1


def test_what_is_no_task_or_model_is_refused(task, data):
    with pytest.raises(ValueError, match="from_data takes a .*Data, got list; give one of"):
        train([data])
    with pytest.raises(ValueError, match="data.train_mask is missing"):
        train(Data(x=data.x, y=data.y, edge_index=data.edge_index))
    with pytest.raises(TypeError, match="got GCN and GraphTask"):
        fit(GCN(**SIZES), task)


def test_an_error_inside_an_expert_says_whose_it_is_and_on_what(task):
    with pytest.raises(RuntimeError) as error:
        train(task, strong=GCN(**SIZES | {"in_channels": 5}))
    assert error.value.__notes__ == [
        "by the strong expert GCN(5, 3, num_layers=2) on x of [30, 6], torch.float32"
    ]


def test_predictions_of_nan_are_refused(data):
    model = Mowst(MLP(**SIZES), GCN(**SIZES), PowerGate())
    data.x[3] = torch.nan
    for choice in ({}, {"threshold": 0.5}, {"sample": True}):
        with pytest.raises(FloatingPointError, match="of 30 predictions are NaN"):
            model.predict(data.x, data.edge_index, **choice)
    model.route = "weak"
    with pytest.raises(FloatingPointError, match="1 of 30 predictions are NaN"):
        model.predict(data.x, data.edge_index)


def test_weights_that_no_gcn_can_normalize_are_refused(data):
    data.edge_weight = torch.full((data.num_edges,), -1.0)
    with pytest.raises(ValueError, match="edge weights cannot be normalized"):
        train(GraphTask.from_data(data))


def write(folder, data: Data, **changes):
    r"""A folder that the command line reads; `None` leaves a file out."""
    folder.mkdir()
    split = np.where(data.train_mask, "train", np.where(data.val_mask, "val", "test"))
    tables = {
        "features": data.x.numpy(),
        "edges": data.edge_index.t().numpy(),
        "labels": data.y.view(-1, 1).numpy(),
    }
    for stem, table in ({"splits": split.reshape(-1, 1)} | tables | changes).items():
        np.savetxt(folder / f"{stem}.csv", np.asarray(table), fmt="%s", delimiter=",")
    return str(folder)


REFUSED_FOLDERS = {
    "no nodes": ({"features": np.empty((0, 6))}, "features.csv is empty"),
    "one class": (
        {"labels": np.zeros((30, 1), int)},
        "the number of classes with a labelled node is 1; it must be 2 or more",
    ),
    "labels without sense": (
        {"labels": np.arange(30).reshape(-1, 1) - 3},
        "2 labels are outside 0 to 26",
    ),
    "nan": (
        {"features": np.full((30, 6), np.nan)},
        "features.csv, line 1: the first of 30 values of the column '1' are missing",
    ),
    "no edges, not even names": ({"edges": np.empty((0, 2))}, "edges.csv is empty"),
    "a node too far": ({"edges": [[0, 30]]}, "edges.csv, line 1: '30' is not a node"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED_FOLDERS.values(), ids=REFUSED_FOLDERS)
def test_the_command_line_refuses_in_one_sentence(
    tmp_path, monkeypatch, capsys, data, changes, message
):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "mine", data, **changes)
    assert main(["train", folder]) == 1
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


GOOD = {
    "no edges": {"edges": [["source", "target"]]},
    "isolated nodes and a loop": {"edges": [[0, 1], [1, 0], [2, 2]]},
    "directed": {"edges": [[k, k + 1] for k in range(29)]},
    "repeated": {"edges": [[0, 1]] * 5},
}


@pytest.mark.parametrize("changes", GOOD.values(), ids=GOOD)
def test_the_command_line_trains_on_odd_graphs(tmp_path, monkeypatch, capsys, data, changes):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "mine", data, **changes)
    assert main(["train", folder, "--epochs", "3", "--rounds", "1", "--gate_folds", "2"]) == 0
    assert "accuracy in %" in capsys.readouterr().out


GNN = """
import torch
class GNN(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.lin = torch.nn.Linear(in_channels, out_channels)
        self.steps = 0
    def forward(self, x, edge_index):
        self.steps += self.training
        return CHANGE
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("self.lin(x)[:4]", "GNN must return logits of shape [N, C] with N = 30 nodes, got [4, 3]"),
        ("self.lin(x).long()", "got [30, 3] of torch.int64"),
        (
            "self.lin(x) * float('nan')",
            "90 logits of the strong expert are not finite before training",
        ),
        (
            "self.lin(x) / (self.steps < 2)",
            "epoch 2 of the stage 'pretrain strong'; first not finite: the logits of the strong "
            "expert (45 of 45 values)",
        ),
    ],
)
def test_the_command_line_names_a_gnn_that_breaks(
    tmp_path, monkeypatch, capsys, data, change, message
):
    monkeypatch.chdir(tmp_path)
    name = f"gnn_{abs(hash(change))}"  # modules are imported once
    (tmp_path / f"{name}.py").write_text(GNN.replace("CHANGE", change))
    assert (
        main(["train", write(tmp_path / "mine", data), "--strong", f"{name}.GNN", "--epochs", "4"])
        == 1
    )
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
