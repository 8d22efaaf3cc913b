r"""Untrusted files: nothing in them is executed, and every reader reports that they are invalid."""

import ast
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from mowst import Mowst, load_task
from mowst.cli import main
from mowst.data import DATASETS
from mowst.data.cache import read_cached
from mowst.data.splits import read_split_file
from mowst.data.wikics import WIKICS
from mowst.io import load_csv, load_mat, load_npy, load_npz, read_json, read_yaml
from mowst.pickles import load_dicts, safe_unpickle
from mowst.study import read_lines
from mowst.train import RunDir
from mowst.train.checkpoint import read_checkpoint

SOURCES = sorted((Path(__file__).parents[2] / "mowst").rglob("*.py"))


class Trap:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def write_object_array(path, trap):
    with open(path, "wb") as file:
        np.save(file, np.array([trap, {"train": trap}], dtype=object), allow_pickle=True)


def write_object_archive(path, trap):
    with open(path, "wb") as file:
        np.savez(file, train=np.array([trap], dtype=object), valid=np.arange(2), test=np.arange(2))


TRAPS = {
    "pickle of Python 1": lambda path, trap: path.write_bytes(pickle.dumps(trap, protocol=0)),
    "pickle": lambda path, trap: path.write_bytes(pickle.dumps({"state": [trap]})),
    "torch": lambda path, trap: torch.save({"state": trap}, path),
    "old torch": lambda path, trap: torch.save(
        {"state": trap}, path, _use_new_zipfile_serialization=False
    ),
    "npy": write_object_array,
    "npz": write_object_archive,
}
READERS = {
    "model": Mowst.load,
    "checkpoint": read_checkpoint,
    "yaml": read_yaml,
    "json": read_json,
    "npy": load_npy,
    "npz": load_npz,
    "csv": lambda path: load_csv(path, dtype=float),
    "mat": lambda path: load_mat(path, ["A"]),
    "publisher's pickle": safe_unpickle,
    "split of LINKX": load_dicts,
    "splits": lambda path: read_split_file(path, num_nodes=9),
    "results": read_lines,
}


@pytest.fixture
def trap(tmp_path):
    yield (trap := Trap(tmp_path / "executed"))
    assert not Path(trap.marker).exists(), "the file was executed"


@pytest.mark.parametrize("kind", TRAPS)
def test_the_traps_work(tmp_path, kind):
    # Else the tests below could not fail.
    TRAPS[kind](tmp_path / "file", trap := Trap(tmp_path / "executed"))
    readers = (
        lambda path: pickle.loads(path.read_bytes()),
        lambda path: np.load(path, allow_pickle=True)["train"],
        lambda path: torch.load(path, weights_only=False),
    )
    for read in readers:
        try:
            read(tmp_path / "file")
        except Exception:
            continue
    assert Path(trap.marker).exists()


@pytest.mark.parametrize("kind", TRAPS)
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_executes_a_pickle(tmp_path, trap, reader, kind):
    path = tmp_path / "file"
    TRAPS[kind](path, trap)
    with pytest.raises(ValueError) as error:
        READERS[reader](path)
    assert str(path) in str(error.value) or reader == "results"


@pytest.mark.parametrize("kind", ["pickle", "npy", "npz"])
@pytest.mark.parametrize("name", [name for name, info in DATASETS.items() if info.files])
def test_no_file_of_a_data_set_is_executed(tmp_path, trap, name, kind):
    info = DATASETS[name]
    for path in (*info.paths(tmp_path), *info.split_paths(tmp_path, 0)):
        path.parent.mkdir(parents=True, exist_ok=True)
        TRAPS[kind](path, trap)
    with pytest.raises(ValueError) as error:
        load_task(name, root=tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("kind", TRAPS)
@pytest.mark.parametrize(
    "file",
    [
        f"{stem}{end}"
        for stem in ("features", "edges", "labels", "splits")
        for end in (".npy", ".csv")
    ],
)
def test_no_file_of_a_folder_is_executed(tmp_path, trap, file, kind):
    (folder := tmp_path / "graph").mkdir()
    texts = {
        "features": "1,2\n3,4\n5,6\n",
        "edges": "0,1\n1,2\n",
        "labels": "0\n1\n0\n",
        "splits": "train\nval\ntest\n",
    }
    for stem, text in texts.items():
        (folder / f"{stem}.csv").write_text(text)
    assert load_task(folder).num_nodes == 3
    (folder / f"{Path(file).stem}.csv").unlink()
    TRAPS[kind](folder / file, trap)
    with pytest.raises(ValueError) as error:
        load_task(folder)
    assert str(folder / file) in str(error.value)


@pytest.mark.parametrize("kind", TRAPS)
def test_a_cache_is_not_executed_but_made_again(tmp_path, trap, kind):
    (info,) = WIKICS
    (path,) = info.paths(tmp_path)
    path.parent.mkdir(parents=True)
    masks = {
        "train_masks": [[True, False]],
        "val_masks": [[False, True]],
        "test_mask": [False, False],
    }
    path.write_text(
        json.dumps({"features": [[1.0], [2.0]], "labels": [0, 1], "links": [[1], []], **masks})
    )
    first = read_cached(info, tmp_path)
    (cache,) = (tmp_path / "wikics" / "WikiCS" / "cache").iterdir()
    TRAPS[kind](cache, trap)
    again = read_cached(info, tmp_path)
    assert again.x.equal(first.x) and again.edge_index.equal(first.edge_index)


@pytest.mark.parametrize("kind", TRAPS)
@pytest.mark.parametrize("name", ["config.yaml", "best.safetensors", "checkpoint.safetensors"])
def test_no_file_of_a_run_is_executed(tmp_path, trap, name, kind, capsys):
    (run := tmp_path / "run").mkdir()
    RunDir(
        run, {"data": "digits", "method": "mowst", "split": 0, "weak": "mlp", "strong": "gcn"}
    ).start()
    (run / "best.safetensors").touch()
    TRAPS[kind](run / name, trap)
    with pytest.raises(ValueError, match=name):
        if name == "checkpoint.safetensors":
            RunDir(run, read_yaml(run / "config.yaml")).resume()
        else:
            Mowst.load(RunDir.open(run).model_path)
    if name == "config.yaml":
        assert main(["evaluate", str(run)]) == 1


LIES = {
    "a tag": "data: !!python/object/apply:os.mkdir [executed]",
    "strong": "strong: stranger.Net",
    "weak": "weak: stranger.Net",
    "middle": "middle: [stranger.Net]",
    "confidence": "confidence: stranger.Net",
    "an argument": "gate_args: {a: {class_path: stranger.Net}}",
    "an argument's name": "gate_args.a.class_path: stranger.Net",
    "text in an argument": "strong_args: {a: ['{class_path: stranger.Net, init_args: {}}']}",
    "another field": "class_weight: [{class_path: stranger.Net}]",
}


@pytest.mark.parametrize(
    ("way", "lie"), [*(("--config", lie) for lie in LIES), ("--resume", "strong")]
)
def test_no_settings_file_leads_to_an_import(tmp_path, lie, way, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger.py").write_text("import os\nos.mkdir('executed')\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(LIES[lie])
    with pytest.raises((SystemExit, TypeError)):
        raise SystemExit(
            main(["train", way, "run" if way == "--resume" else "run/config.yaml", "--epochs", "1"])
        )
    assert not (tmp_path / "executed").exists()


def test_rows_of_a_study_lead_to_an_import_on_trust_only(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger_in_rows.py").write_text("import os\nos.mkdir('executed')\n")
    (tmp_path / "rows.yaml").write_text("rows: [{data: digits, strong: stranger_in_rows.Net}]")
    assert main(["study", "rows.yaml", "out"]) == 1 and "needs --trust" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists() and not (tmp_path / "out").exists()
    assert main(["study", "rows.yaml", "out", "--trust"]) == 1  # a failed run is a line
    assert (tmp_path / "executed").exists()


def test_trust_follows_the_import_path_of_a_settings_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stranger_too.py").write_text("import os\nos.mkdir('executed')\n")
    (tmp_path / "my.yaml").write_text("strong: stranger_too.Net")
    assert main(["train", "--config", "my.yaml", "--trust"]) == 1  # it has no Net
    assert (tmp_path / "executed").exists()


ALLOWED = {
    ("pickle", "Unpickler"): {"pickles.py"},
    ("yaml", "load"): {"io.py"},
    ("importlib", "import_module"): {"nn/registry.py", "study/space.py"},
    (None, "import_module"): {"cli/commands.py"},
    ("signal", "signal"): {"cli/train.py", "study/runner.py"},
}
FORBIDDEN = {
    *[("pickle", name) for name in ("load", "loads")],
    *[("torch", "load"), ("pd", "read_pickle"), ("yaml", "unsafe_load"), ("yaml", "full_load")],
    *[(None, name) for name in ("eval", "exec", "compile", "__import__")],
}


def test_the_sources_name_no_other_way_to_run_a_file():
    used: dict[tuple, set[str]] = {}
    for path in SOURCES:
        name = str(path.relative_to(SOURCES[0].parent)).replace(os.sep, "/")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used.setdefault((node.value.id, node.attr), set()).add(name)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                used.setdefault((None, node.func.id), set()).add(name)
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert node.value.value is False, name
    assert not FORBIDDEN & used.keys()
    assert {key: used[key] for key in ALLOWED} == ALLOWED
