import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from mowst import Mowst, load_task
from mowst.cli.commands import COMMANDS, EXAMPLES, main, read_command
from mowst.cli.train import PLACES
from mowst.cli.train_options import EXAMPLES as TRAIN
from mowst.data import DATASETS
from mowst.io import read_json, read_yaml
from mowst.nn.registry import EXPERTS, GATES
from mowst.study.values import SETTINGS
from mowst.train import RunDir
from mowst.train.config import OVERRIDES
from mowst.train.methods import METHODS

README = (Path(__file__).parents[1] / "README.md").read_text()

QUICK = ["--epochs", "5", "--rounds", "1", "--hidden-channels", "8", "--gate-folds", "2"]
# Where it does not matter how the gate is fitted. A fit on validation nodes takes a second.
FAST = ["csbm", "--epochs", "3", "--rounds", "1", "--hidden-channels", "8", "--gate-fit", "train"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOWST_DATA", raising=False)
    return tmp_path


def test_train_writes_a_run_and_prints_one_table_and_evaluate_repeats_it(here, capsys):
    assert main(["train", *QUICK]) == 0
    trained = capsys.readouterr().out
    folder = here / "runs" / "digits-gcn-mowst-split0-seed0"
    assert {p.name for p in folder.iterdir() if not p.name.startswith(".")} == {
        "config.yaml",
        "env.json",
        "metrics.jsonl",
        "result.json",
        "best.safetensors",
    }
    assert main(["evaluate", str(folder)]) == 0
    evaluated = capsys.readouterr().out
    row = next(line for line in trained.splitlines() if line.startswith("mowst ("))
    assert row in evaluated
    for line in ("mlp alone", "gcn alone", "mlp in mowst", "gcn in mowst"):
        assert re.search(rf"^{line}( +\d+\.\d\d){{3}}$", trained, re.M)
    for line in (r"deferred to gcn: \S+ % of test nodes", r"expected test accuracy of .*: \S+ %"):
        assert re.search(f"^{line}$", trained, re.M)


def test_train_logs_for_other_tools(here, monkeypatch):
    steps = []
    writer = SimpleNamespace(add_scalar=lambda name, _, step: steps.append(step), flush=lambda: 0)
    module = SimpleNamespace(SummaryWriter=lambda log_dir: made.append(log_dir) or writer)
    made = []
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    assert main(["train", *FAST, "--log", "tensorboard", "--run-dir", "one"]) == 0
    rows = (here / "one" / "metrics.jsonl").read_text().splitlines()
    assert made == [str(Path("one", "tensorboard"))] and set(steps) == set(range(1, len(rows) + 1))
    assert main(["train", *FAST, "--log", "csv", "--run-dir", "two"]) == 0
    assert pd.read_csv(here / "two" / "log.csv")["step"].tolist() == sorted(set(steps))


def test_a_missing_tool_ends_train_before_the_folder_is_made(here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["train", *QUICK, "--log", "wandb"]) == 1
    assert capsys.readouterr().err == "mowst: wandb is missing: pip install wandb\n"
    assert not (here / "runs").exists()


def test_the_same_command_twice_gives_the_same_result_in_two_folders(here):
    for _ in range(2):
        main(["train", *FAST, "--seed", "3"])
    one, two = (
        json.loads(
            (here / "runs" / f"csbm-gcn-mowst-split0-seed3{suffix}" / "result.json").read_text()
        )
        for suffix in ("", "-2")
    )
    one.pop("seconds"), two.pop("seconds")
    assert one == two


def test_evaluate_tells_how_many_test_nodes_of_another_split_the_model_has_seen(here, capsys):
    assert main(["train", "csbm", "--run_dir", "run", "--method", "weak", *QUICK]) == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "--split", "0"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["evaluate", "run", "--split", "1"]) == 0
    own, other = (load_task("csbm", split=split) for split in (0, 1))
    seen = int((~own.masks["test"])[other.masks["test"]].sum())
    count = other.index("test").numel()
    told = f"{seen} of the {count} test nodes of split 1 trained or selected this model"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("method", ["weak", "strong", "mowst-star"])
def test_every_method_trains_and_evaluates(here, method, capsys):
    assert main(["train", "csbm", "--method", method, "--run_dir", "run", *QUICK]) == 0
    assert main(["evaluate", "run"]) == 0
    assert f"{method} (" in capsys.readouterr().out


def test_settings_come_from_flags_over_file_over_preset(here, monkeypatch):
    monkeypatch.setattr("mowst.cli.train.load_preset", lambda *_: {"mix": "logit"})
    settings = "lr: 0.02\nhidden_channels: 12\nepochs: 2\ngate_fit: train\nweak.lr: 0.04\n"
    (here / "my.yaml").write_text(settings + "strong.lr: 0.05\nweight_decay: 1e-3\n")
    typed = ["--lr", "0.03", "--weak.lr", "0.06", "--weak", "mlp", "--run-dir", "run"]
    assert main(["train", *typed, "--config", "my.yaml"]) == 0
    config = read_yaml(here / "run" / "config.yaml")
    expected = {"lr": 0.03, "weak.lr": 0.06, "strong.lr": 0.05, "weak": "mlp", "mix": "logit"}
    expected |= {"hidden_channels": 12, "weight_decay": 0.001}
    assert expected.items() <= config.items()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data: 2024", "data"),
        ("data: [cora]", "data"),
        ("weak.lr: high", "weak.lr"),
        ("lrs: 1", "unknown setting 'lrs'; did you mean 'lr'"),
        ("run_dir: here", "unknown setting 'run_dir'"),
        ("rows: [{lr: 0.1}, {lr: 0.2}]", "my.yaml has 2 rows, which are for 'mowst study'"),
        ("rows: [{data: csbm, seeds: 3}]", "unknown setting 'seeds'; did you mean 'seed'"),
    ],
)
def test_an_impossible_file_is_one_sentence(here, capsys, text, problem):
    (here / "my.yaml").write_text(text)
    assert main(["train", "--config", "my.yaml"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mowst: ") and problem in error and error.count("\n") == 1


def test_train_takes_what_best_wrote(here, capsys):
    settings = "{epochs: 2, rounds: 1, gate_fit: train, hidden_channels: 8}"
    place = ["--trials", "1", "--storage", "sweep.log"]
    assert main(["sweep", "csbm", "--strong", "sage", *place, "--settings", settings]) == 0
    out = capsys.readouterr().out
    assert "sweep.log --study_name 'csbm sage mowst' > best.yaml && mowst train" in out
    assert main(["best", "sweep.log"]) == 0
    (here / "best.yaml").write_text(capsys.readouterr().out)
    assert main(["train", "--config", "best.yaml", "--seed", "1", "--run_dir", "run"]) == 0
    (row,) = read_yaml(here / "best.yaml")["rows"]
    assert {"data", "strong", "lr", "weak.lr", "strong_args"} <= row.keys()
    assert {**row, "seed": 1}.items() <= read_yaml(here / "run" / "config.yaml").items()


@pytest.mark.parametrize("key", ["weak", "strong", "gate", "method"])
def test_import_paths_of_files_need_trust(here, capsys, key):
    (here / "evil.py").write_text("raise SystemExit('it ran')")
    (here / "my.yaml").write_text(f"{key}: evil.Thing")
    (here / "rows.yaml").write_text(f"rows: [{{data: digits, {key}: evil.Thing}}]")
    train, study = ["train", "--config"], ["study", "rows.yaml", "found"]
    for command in ([*train, "my.yaml"], [*train, "rows.yaml"], study):
        assert main(command) == 1
        assert "'evil.Thing' comes from a file" in capsys.readouterr().err


def test_a_method_of_ones_own_trains(here, capsys):
    own = "from mowst.train.methods import MowstMethod\nclass Own(MowstMethod): pass\n"
    (here / "own_rounds.py").write_text(own)
    assert main(["train", *FAST, "--method", "own_rounds.Own", "--run_dir", "run"]) == 0
    assert main(["evaluate", "run"]) == 0
    assert capsys.readouterr().out.count("own_rounds.Own (") == 2


def test_a_file_says_which_data_set_and_preset_and_a_typed_one_counts_more(here, monkeypatch):
    (here / "my.yaml").write_text("data: csbm\nepochs: 2\nrounds: 1\ngate_fit: train\n")
    rates = {"csbm": {"lr": 0.02}, "digits": {"lr": 0.03}}
    monkeypatch.setattr("mowst.cli.train.load_preset", lambda data, *_: rates[data])
    for typed, data, lr in (([], "csbm", 0.02), (["digits"], "digits", 0.03)):
        assert main(["train", "--config", "my.yaml", *typed, "--run-dir", data]) == 0
        config = read_yaml(here / data / "config.yaml")
        assert (config["data"], config["lr"]) == (data, lr)


def test_a_stopped_run_of_any_data_set_goes_on(here, monkeypatch):
    assert main(["train", *FAST, "--run_dir", "whole"]) == 0
    stop = RunDir.append

    def stopping(folder, record):
        stop(folder, record)
        folder.stop()

    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "append", stopping)
        assert main(["train", *FAST, "--run_dir", "run"]) == 128 + signal.SIGTERM
    assert main(["train", "--resume", "run"]) == 0
    whole, again = (read_json(here / folder / "result.json") for folder in ("whole", "run"))
    assert again["scores"] == whole["scores"]


def test_an_expert_by_import_path_needs_trust_to_be_loaded_again(here, capsys):
    (here / "their_gnn.py").write_text(
        "import torch\n"
        "class TheirGNN(torch.nn.Module):\n"
        "    def __init__(self, in_channels, out_channels):\n"
        "        super().__init__()\n"
        "        self.lin = torch.nn.Linear(in_channels, out_channels)\n"
        "    def forward(self, x, edge_index):\n"
        "        return self.lin(x).index_add(0, edge_index[1], self.lin(x)[edge_index[0]])\n"
    )
    assert main(["train", *FAST, "--strong", "their_gnn.TheirGNN", "--run_dir", "run"]) == 0
    assert main(["evaluate", "run"]) == 1
    assert "trust" in capsys.readouterr().err
    assert main(["evaluate", "run", "--trust"]) == 0


def test_predict_writes_the_predictions_of_the_model(here, capsys):
    assert main(["train", "csbm", "--run_dir", "run", *QUICK]) == 0
    capsys.readouterr()
    assert main(["predict", "run"]) == 0
    whole = pd.read_csv(io.StringIO(capsys.readouterr().out))
    model, data = Mowst.load(here / "run" / "best.safetensors"), load_task("csbm").data
    out = model.eval()(data.x, data.edge_index)
    assert whole["node"].tolist() == list(range(data.num_nodes))
    assert whole["label"].tolist() == out.prob.argmax(dim=1).tolist()
    columns = ["node", "label", "expert", "confidence"]
    probs = [f"prob_{label}" for label in range(out.prob.size(1))]
    assert whole.columns.tolist() == columns + probs
    assert whole[probs].to_numpy() == pytest.approx(out.prob.detach().numpy(), abs=1e-5)
    assert whole["confidence"].to_numpy() == pytest.approx(out.confidence.detach(), abs=1e-5)
    assert main(["predict", "run", "--nodes", "test", "--output", "predictions.csv"]) == 0
    test = pd.read_csv("predictions.csv")
    assert test["node"].tolist() == load_task("csbm").index("test").tolist()
    pd.testing.assert_frame_equal(test, whole.iloc[test["node"]].reset_index(drop=True))


def test_another_graph_may_lack_classes_but_has_the_features(here, capsys):
    write_pets(here / "pets", "0", "1", "2")
    write_pets(here / "fewer", "1", "0")
    assert (
        main(
            [
                "train",
                "./pets",
                "--split",
                "random-0",
                "--run_dir",
                "run",
                "--method",
                "weak",
                *QUICK,
            ]
        )
        == 0
    )
    for command in ("evaluate", "predict"):
        assert main([command, "run", "--data", "./fewer"]) == 0
        assert main([command, "run", "--data", "digits"]) == 1
        told = "the model of this run has 4 features, 'digits' has 32"
        assert told in capsys.readouterr().err
    write_pets(here / "more", "0", "1", "3")
    assert main(["evaluate", "run", "--data", "./more"]) == 1
    assert "the model of this run has 3 classes, 'more' has 4" in capsys.readouterr().err


@pytest.mark.parametrize(("threshold", "expert"), [("0", "mlp"), ("1.1", "gcn")])
def test_a_threshold_decides_which_expert_predicts_a_node(here, threshold, expert):
    assert main(["train", "csbm", "--gate_fit", "train", "--run_dir", "run", *QUICK]) == 0
    model, data = Mowst.load(here / "run" / "best.safetensors"), load_task("csbm").data
    model.route = "mixture"
    model.save(here / "run" / "best.safetensors")
    assert main(["predict", "run", "--threshold", threshold, "--output", "predictions.csv"]) == 0
    found = pd.read_csv("predictions.csv")
    assert set(found["expert"]) == {expert}
    labels = model.predict(data.x, data.edge_index, threshold=float(threshold))
    assert found["label"].tolist() == labels.tolist()


def write_pets(folder, *classes):
    r"""Twelve animals whose features tell their classes."""
    folder.mkdir()
    names, labels = list("abcdefghijkl"), (classes * 12)[:12]
    x = {name: [int(label == name) for label in labels] for name in ("ape", "bat", "cat", "dog")}
    pd.DataFrame({"id": names} | x).to_csv(folder / "features.csv", index=False)
    pd.DataFrame({"id": names, "label": labels}).to_csv(folder / "labels.csv", index=False)
    pd.DataFrame({"source": names[:-1], "target": names[1:]}).to_csv(
        folder / "edges.csv", index=False
    )


@pytest.fixture(scope="module")
def trained_pets(tmp_path_factory):
    r"""The folders of bats, cats and dogs, and of a run on them."""
    folder = tmp_path_factory.mktemp("trained")
    write_pets(folder / "pets", "bat", "cat", "dog")
    command = ["train", "pets", "--split", "random-0", "--run_dir", "run", "--method", "weak"]
    command += ["--epochs", "100", "--lr", "0.1", "--dropout", "0", "--num_layers", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(command) == 0
    return folder


@pytest.fixture
def pets(here, trained_pets):
    r"""A run on bats, cats and dogs."""
    shutil.copytree(trained_pets, here, dirs_exist_ok=True)
    return here


def test_predict_names_nodes_and_classes_as_the_folder_does(pets):
    assert main(["predict", "run", "--output", "predictions.csv"]) == 0
    found = pd.read_csv("predictions.csv")
    assert (
        "".join(found["node"]) == "abcdefghijkl"
        and found["label"].tolist() == ["bat", "cat", "dog"] * 4
    )
    assert set(found["expert"]) == {"mlp"}
    probs = found[["prob_bat", "prob_cat", "prob_dog"]]
    assert probs.idxmax(axis=1).tolist() == [f"prob_{label}" for label in found["label"]]
    assert probs.sum(axis=1).tolist() == pytest.approx([1] * 12)


@pytest.mark.parametrize("content", [None, "", "id,label\na,ant\n"])
def test_predict_needs_no_labels_and_no_splits(pets, capsys, content):
    write_pets(pets / "new", "dog", "cat")
    (pets / "new" / "labels.csv").unlink()
    if content is not None:
        (pets / "new" / "labels.csv").write_text(content)
    assert main(["predict", "run", "--data", "./new", "--output", "out/new.csv.gz"]) == 0
    assert capsys.readouterr().out == "12 nodes of './new': out/new.csv.gz\n"
    found = pd.read_csv("out/new.csv.gz")
    assert found["label"].tolist() == ["dog", "cat"] * 6
    assert [path.name for path in (pets / "out").iterdir()] == ["new.csv.gz"]
    assert main(["predict", "run", "--data", "./new", "--nodes", "test"]) == 1
    assert main(["evaluate", "run", "--data", "./new"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_features_by_name_come_in_any_order_and_others_are_refused(pets, capsys):
    write_pets(pets / "new", "dog", "cat", "bat")
    table = pd.read_csv(pets / "new" / "features.csv")
    table[["dog", "id", "bat", "ape", "cat"]].to_csv(pets / "new" / "features.csv", index=False)
    assert main(["predict", "run", "--data", "./new", "--output", "new.csv"]) == 0
    assert pd.read_csv("new.csv")["label"].tolist() == ["dog", "cat", "bat"] * 4
    assert main(["evaluate", "run", "--data", "./new"]) == 0
    assert "100.00 100.00 100.00" in capsys.readouterr().out
    table.rename(columns={"cat": "cow"}).to_csv(pets / "new" / "features.csv", index=False)
    for command in ("predict", "evaluate"):
        assert main([command, "run", "--data", "./new"]) == 1
        assert "missing: cat; unknown: cow" in capsys.readouterr().err


def test_predictions_as_parquet(pets):
    assert main(["predict", "run", "--output", "new.parquet"]) == 0
    assert main(["predict", "run", "--output", "new.csv"]) == 0
    found, expected = pd.read_parquet("new.parquet"), pd.read_csv("new.csv")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_a_parquet_file_needs_pyarrow(pets, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["predict", "run", "--output", "new.parquet"]) == 1
    told = "mowst: 'new.parquet' needs pyarrow: 'pip install pyarrow', or write it as .csv\n"
    assert capsys.readouterr().err == told and not (pets / "new.parquet").exists()


def test_a_run_without_test_nodes_trains_evaluates_and_predicts(here, capsys):
    write_pets(here / "pets", "cat", "dog")
    words = ["train", "train", "val", "val", "", ""] * 2
    pd.DataFrame({"split": words}).to_csv(here / "pets" / "splits.csv", index=False)
    assert main(["train", "pets", "--run_dir", "run", *QUICK]) == 0
    assert main(["evaluate", "run"]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("mowst ("))
    assert out.count(row) == 2 and "test" not in out
    assert main(["predict", "run", "--nodes", "val"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert "".join(table["node"]) == "cdij"
    assert main(["predict", "run", "--nodes", "test"]) == 1
    assert "'pets' has no split 'test'; known: train, val" in capsys.readouterr().err


def test_an_expert_with_weights_for_each_node_predicts_no_other_graph(here, capsys):
    assert main(["train", *FAST, "--strong", "linkx", "--run_dir", "run"]) == 0
    write_pets(here / "new", "cat", "dog")
    table = pd.DataFrame(0.0, index=range(12), columns=range(load_task("csbm").num_features))
    table.add_prefix("x").to_csv(here / "new" / "features.csv", index=False)
    pd.DataFrame({"source": [0], "target": [1]}).to_csv(here / "new" / "edges.csv", index=False)
    assert main(["predict", "run", "--threshold", "0.5"]) == 0
    capsys.readouterr()
    assert main(["predict", "run", "--data", "./new", "--threshold", "1.1"]) == 1
    assert "LINKX has weights for" in capsys.readouterr().err


def test_classes_keep_the_names_that_they_were_trained_with(pets, capsys):
    write_pets(pets / "more", "dog", "cat")
    assert main(["predict", "run", "--data", "./more", "--output", "predictions.csv"]) == 0
    assert pd.read_csv("predictions.csv")["label"].tolist() == ["dog", "cat"] * 6
    assert main(["evaluate", "run", "--data", "./more"]) == 0
    assert "100.00 100.00 100.00" in capsys.readouterr().out
    write_pets(pets / "zoo", "ape", "dog")
    assert main(["evaluate", "run", "--data", "./zoo"]) == 1
    assert "are bat, cat, dog, those of 'zoo' are ape, dog" in capsys.readouterr().err
    (pets / "run" / "classes.json").unlink()
    assert main(["predict", "run", "--data", "./zoo", "--output", "predictions.csv"]) == 0
    assert set(pd.read_csv("predictions.csv")["label"]) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "corra"], "did you mean 'cora'"),
        (["train", "cora", "--root", "nowhere"], "planetoid/Cora/raw/ind.cora.allx"),
        (["train", "--strong", "gnc"], "unknown expert 'gnc'"),
        (["train", "--method", "most"], "unknown method 'most'"),
        (["train", "--split", "-1"], "There is no split -1"),
        (["train", "--strong", "torch.nn.Linear"], "cannot be built by name"),
        (
            ["train", "--strong", "gat", "--hidden-channels", "12"],
            "multiple of the 8 attention heads",
        ),
        (["train", "--hidden-channels", "0"], "hidden_channels must be at least 1, got 0"),
        (["train", "--strong_args", "{norn: 1}"], "the strong expert 'gcn' cannot be built"),
        (["train", "--device", "foo"], "no device 'foo', choose from cpu"),
        (["train", "--device", "cuda:99"], "no device 'cuda:99', choose from cpu"),
        (["sweep", "digits", "--device", "foo"], "no device 'foo', choose from cpu"),
        (["study", "rows.yaml", "found", "--device", "foo"], "no device 'foo', choose from cpu"),
        (["evaluate", "nowhere", "--device", "foo"], "no device 'foo', choose from cpu"),
        (["predict", "nowhere", "--output", "new.txt"], "'new.txt' must end in .csv, .csv.gz"),
        (["predict", "nowhere"], "not the folder of a finished run"),
        (["evaluate", "."], "not the folder of a finished run"),
        (["evaluate", "nowhere"], "not the folder of a finished run"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(here, capsys, command, message):
    assert main(command) == 1
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert not list(here.iterdir())


def test_a_study_reports_why_runs_failed_until_they_are_fixed(here, capsys):
    (here / "rows.yaml").write_text(
        "rows: [{data: ./mine, method: weak, splits: 1, epochs: 2, hidden_channels: 8}]"
    )
    (here / "mine").mkdir()
    for command in (["study", "rows.yaml", "found"], ["study", "rows.yaml", "found"]):
        assert main(command) == 1
        captured = capsys.readouterr()
        assert "0 runs finished, 1 failed" in captured.out
        assert "./mine gcn weak, seed 0: FileNotFoundError: mine lacks features" in captured.err
        assert captured.err.endswith(
            "mowst: 1 of 1 runs failed; --retry_failed true runs them again\n"
        )
    (here / "mine").rmdir()
    write_pets(here / "mine", "cat", "dog")
    assert main(["study", "rows.yaml", "found", "--retry_failed", "true"]) == 0
    captured = capsys.readouterr()
    assert "1 runs finished, 0 failed" in captured.out and captured.err == ""


def test_a_study_counts_its_runs_and_names_their_scores(here, capsys):
    row = "{data: digits, method: weak, seeds: 2, epochs: 2, hidden_channels: 4}"
    (here / "rows.yaml").write_text(f"rows: [{row}]")
    assert main(["study", "rows.yaml", "found"]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    score = r"accuracy, validation \d+\.\d\d %, test \d+\.\d\d %"
    assert re.fullmatch(rf"\[1/2\] digits gcn weak, seed 0, split 0: {score}; 0:\S+ left", first)
    assert re.fullmatch(rf"\[2/2\] digits gcn weak, seed 1, split 1: {score}", second)


def test_a_sweep_counts_its_trials_and_best_prints_the_front_and_a_trial(here, capsys):
    settings = '{"epochs": 2, "rounds": 1, "gate_fit": "train", "hidden_channels": 4}'
    sweep = ["sweep", "digits", "--storage", "s.log", "--settings", settings, "--trials"]
    for trials in ("1", "2"):
        assert main([*sweep, trials, "--second-objective", "deferred_share"]) == 0
    lines = capsys.readouterr().out.splitlines()
    values = r"validation accuracy 0\.\d{4}, validation deferred share \d\.\d{4}"
    for number in (0, 1):
        counter = rf"\[{number + 1}/{number + 1}\] trial {number}: {values}"
        assert sum(re.fullmatch(counter, line) is not None for line in lines) == 1
    assert main(["best", "s.log", "--trial", "1"]) == 0
    best = capsys.readouterr().out
    assert re.search(rf"^# Pareto front.*\n# trial \d: {values}$", best, re.M)
    (row,) = yaml.safe_load(best)["rows"]
    assert row["data"] == "digits" and row["lr"] != 0.01  # trial 0 is the preset


def test_datasets_lists_what_can_be_typed(here, capsys):
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(DATASETS)
    assert max(map(len, lines)) <= 100


def test_a_data_set_is_compared_with_what_is_published(here, capsys, monkeypatch):
    assert main(["datasets", "digits"]) == 0
    out = capsys.readouterr().out
    assert "'digits' matches its published sizes" in out
    assert re.search(r"^preprocessing: left half as features", out, re.M)
    assert re.search(r"^ +published +found\nnodes +1797 +1797$", out, re.M)
    monkeypatch.setitem(
        DATASETS, "digits", replace(DATASETS["digits"], sizes=(1797, 7740, 32, None))
    )
    assert main(["datasets", "digits"]) == 1
    captured = capsys.readouterr()
    assert (
        captured.err == "mowst: 'digits' differs from its published sizes: 7740 edges, found 7738\n"
    )
    assert ["classes", "-", "10"] in [line.split() for line in captured.out.splitlines()]


def test_only_what_is_on_disk_is_compared(here, capsys, monkeypatch):
    monkeypatch.delenv("MOWST_OFFLINE")
    assert main(["datasets", "penn94", "--root", "."]) == 1
    error = capsys.readouterr().err
    assert "linkx/penn94/raw/data.mat  from https://" in error and "Nothing is downloaded" in error
    assert not list(here.iterdir())


def read_help(capsys, *command):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="0"):
        patch.setenv("COLUMNS", "80")
        main(command)
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_reads(capsys, command):
    out = read_help(capsys, command, "--help")
    assert not re.findall(r"`|:\w+:|None", out)
    assert ("sqlite:///FILE" in out) == (command in ("sweep", "best"))
    assert max(map(len, out.splitlines())) <= 80
    assert re.search(r"^examples?:\n  mowst ", out, re.M)


def test_help_of_train_begins_with_the_most_used_and_ends_with_names_and_examples(capsys):
    out = read_help(capsys, "train", "--help")
    assert len(out.splitlines()) < 80
    most, rest = re.search(r"^most used:\n(.*?)\n\n(.*)", out, re.M | re.S).groups()
    assert len(re.findall(r"^  --", most, re.M)) == 10 and "--lr FLOAT " in most
    listed = set(re.findall(r"--([\w.]+)", most + rest))
    assert {*SETTINGS, *PLACES} - {"data"} - set(OVERRIDES) <= listed
    names = rest[rest.index("\nnames:") : rest.index("\nexamples:")]
    known = [*DATASETS, *EXPERTS.names(), *GATES.names(), *METHODS.names()]
    assert set(known) <= set(re.findall(r"[\w-]+", names))


def test_help_all_explains_every_setting(capsys):
    out = read_help(capsys, "train", "--help-all")
    assert max(map(len, out.splitlines())) <= 80
    for name in {*SETTINGS, *PLACES} - {"data"}:
        assert re.search(rf"^  --{re.escape(name)} \S", out, re.M), name


def test_help_and_version_load_no_torch():
    code = "import sys; from mowst.cli import main; sys.argv = ['mowst', sys.argv[1]]\n"
    code += "try: main()\nexcept SystemExit: print({'torch', 'torch_geometric'} & {*sys.modules})"
    for option in ("--help", "--version"):
        shown = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True)
        assert shown.stdout.endswith("set()\n"), shown.stderr
    for options, begin in ((["--version"], b"mowst "), (["--help"], b"usage: mowst ")):
        module = subprocess.run([sys.executable, "-m", "mowst", *options], capture_output=True)
        assert module.stdout.startswith(begin)


WRITTEN = re.findall(r"^mowst (.+)$|`mowst ([a-z][^`]*)`", README, re.M)
WRITTEN += re.findall(r"^( *)mowst (.+)$", "\n".join([*EXAMPLES.values(), TRAIN]), re.M)


@pytest.mark.parametrize("command", sorted({"".join(pair).strip() for pair in WRITTEN}))
def test_commands_of_the_readme_and_of_the_help_parse(here, command):
    (here / "best.yaml").write_text("lr: 0.02")
    words = shlex.split(command.partition(" > ")[0], comments=True)
    if "--help" in words:
        with pytest.raises(SystemExit, match="0"):
            read_command(words)
    elif "--resume" in words:
        with pytest.raises(FileNotFoundError, match="not the folder of a run"):
            read_command(words)
    else:
        assert read_command(words)[0].__name__ == words[0]
