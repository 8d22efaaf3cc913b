r"""Folders of runs that are incomplete, damaged, or written by another version of the package: each
command works, or ends with one sentence that names the file, and changes nothing.
"""

import json
import shutil

import pytest
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from mowst.cli import main
from mowst.train import RunDir

QUICK = ["--epochs", "2", "--rounds", "0", "--gate-folds", "2", "--hidden-channels", "4"]
NAMES = ["ant", "bee", "cow"]


def write_folder(path, names):
    path.mkdir()
    rows = range(60)
    (path / "features.csv").write_text(
        "age,size\n" + "".join(f"{k % 3},{-(k % 3)}\n" for k in rows)
    )
    (path / "edges.csv").write_text(
        "source,target\n" + "".join(f"{k},{(k + 3) % 60}\n" for k in rows)
    )
    (path / "labels.csv").write_text("label\n" + "".join(f"{names[k % 3]}\n" for k in rows))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    r"""The folder of a finished run, and that of one that was killed before its end."""
    root = tmp_path_factory.mktemp("runs")
    write_folder(root / "data", NAMES)
    assert main(["train", str(root / "data"), *QUICK, "--run_dir", str(root / "done")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDir, "finish", interrupt)
        assert main(["train", str(root / "data"), *QUICK, "--run_dir", str(root / "killed")]) == 130
    return root


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.fixture
def run(runs, tmp_path, monkeypatch):
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(capsys, folder, *argv):
    r"""Returns the one sentence with which a command ends, which changes no file."""
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    capsys.readouterr()
    assert main([*argv, str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mowst: ") and error.count("\n") == 1, error
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    return error


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def set_version(folder, version):
    change_json(folder / "env.json", versions={"mowst": version})


def test_a_run_has_its_names_before_it_ends(run, capsys):
    assert json.loads((run / "killed" / "classes.json").read_text()) == NAMES
    assert json.loads((run / "killed" / "features.json").read_text()) == ["age", "size"]
    assert main(["train", "--resume", "killed"]) == 0
    write_folder(run / "other", NAMES[::-1])
    assert main(["evaluate", "done"]) == main(["evaluate", "killed"]) == 0
    assert main(["predict", "killed", "--data", "other", "--output", "out.csv"]) == 0


@pytest.mark.parametrize("content", [b"", b"[1]", b"3", b'{"scores": nul', b'{"scores": null}'])
@pytest.mark.parametrize("name", ["result.json", "classes.json", "features.json"])
def test_a_damaged_file_is_named(run, capsys, name, content):
    (run / "done" / name).write_bytes(content)
    assert f"done/{name}" in refuse(capsys, run / "done", "evaluate")


def test_a_missing_result_names_what_helps(run, capsys):
    (run / "done" / "result.json").unlink()
    assert "has no result.json" in refuse(capsys, run / "done", "evaluate")
    assert main(["predict", "done", "--output", "out.csv"]) == 0
    (run / "killed" / "result.json").write_text("")
    assert "it has a result.json" in refuse(capsys, run / "killed", "train", "--resume")


@pytest.mark.parametrize("name", ["env.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", [None, b"", b'{"a'])
def test_a_run_works_without_what_nothing_reads(run, name, content):
    for folder in ("done", "killed"):
        (run / folder / name).unlink()
        if content is not None:
            (run / folder / name).write_bytes(content)
    assert main(["evaluate", "done"]) == 0
    assert main(["predict", "done", "--output", "out.csv"]) == 0
    assert main(["train", "--resume", "killed"]) == 0
    lines = (run / "killed" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, len(lines) + 1))


def test_settings_cut_anywhere_are_refused(run, capsys):
    path = run / "done" / "config.yaml"
    whole = path.read_bytes()
    for size in (0, 30, 300, len(whole) - 60, len(whole) - 20, len(whole) - 4):
        path.write_bytes(whole[:size])
        assert "config.yaml" in refuse(capsys, run / "done", "evaluate")


@pytest.mark.parametrize(
    ("key", "value"),
    [("split", None), ("split", [1]), ("transforms", None), ("transforms", 3), ("metric", [1])],
)
def test_settings_of_another_type_are_named(run, capsys, key, value):
    path = run / "done" / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), key: value}))
    assert f"config.yaml: {key} must be" in refuse(capsys, run / "done", "evaluate")


def test_a_run_of_a_newer_version_works_or_names_the_version(run, capsys):
    for folder in ("done", "killed"):
        set_version(run / folder, "99.0")
        with open(run / folder / "config.yaml", "a") as file:
            file.write("brand_new: 3\n")
    change_json(run / "done" / "result.json", brand_new={"a": 1})
    assert main(["evaluate", "done"]) == 0
    assert main(["predict", "done", "--output", "out.csv"]) == 0
    error = refuse(capsys, run / "killed", "train", "--resume")
    assert "config.yaml: unknown setting 'brand_new'" in error and "; mowst 99.0 wrote it" in error


def test_files_of_another_format_name_the_version(run, capsys):
    names = {"done": "best.safetensors", "killed": "checkpoint.safetensors"}
    commands = {"done": ["evaluate"], "killed": ["train", "--resume"]}
    for folder, name in names.items():
        path = run / folder / name
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        form = metadata["format"].rpartition("-")[0] + "-99"
        save_file(tensors, path, metadata={**metadata, "format": form})
        set_version(run / folder, "0.0.1")
        error = refuse(capsys, run / folder, *commands[folder])
        assert f"{folder}/{name} is of the format '{form}'" in error
        assert "mowst 0.0.1 wrote it, this is mowst" in error
