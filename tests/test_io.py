import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from mowst.io import (
    atomic_write,
    load_csv,
    load_mat,
    load_npy,
    load_npz,
    read_json,
    read_yaml,
    write_json,
    write_yaml,
)
from mowst.pickles import safe_unpickle


class Call:
    r"""Pickles as the call of any function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(("mode", "content"), [("wb", b"\x00new"), ("w", "neu: ä")])
def test_atomic_write_replaces_the_file(tmp_path, mode, content):
    path = tmp_path / "folder" / "file"
    for _ in range(2):
        with atomic_write(path, mode=mode) as file:
            file.write(content)
    assert path.read_bytes() == (content if mode == "wb" else content.encode())
    assert list(path.parent.iterdir()) == [path]


def test_atomic_write_leaves_the_old_file_on_an_error(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_write(path, mode="w") as file:
        file.write("half of the ne")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_on_a_full_disk_names_the_path(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(OSError, match="No space.*file"), atomic_write(path):
        raise OSError(28, os.strerror(28))
    assert not path.exists()


def test_atomic_write_honours_the_umask(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    write_json(tmp_path / "atomic", 1)
    assert (tmp_path / "atomic").stat().st_mode == plain.stat().st_mode


def test_atomic_write_refuses_to_append(tmp_path):
    with (
        pytest.raises(ValueError, match="'wb' or 'w', got 'a'"),
        atomic_write(tmp_path / "file", mode="a"),
    ):
        pass


def test_yaml_round_trip(tmp_path):
    value = {"lr": 1e-3, "name": "cora", "layers": [1, 2], "patience": None, "z": True, "a": "1e-3"}
    write_yaml(tmp_path / "config.yaml", value)
    assert read_yaml(tmp_path / "config.yaml") == value
    assert list(read_yaml(tmp_path / "config.yaml")) == list(value)


def test_yaml_reads_exponents_as_numbers(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("lr: 1e-3\nepochs: 10\nsplit: random-7\nbig: 2E+4\n")
    assert read_yaml(path) == {"lr": 1e-3, "epochs": 10, "split": "random-7", "big": 2e4}


@pytest.mark.parametrize("text", ["!!python/object/apply:os.getcwd []", "a: [1", "- 1\n- 2", ""])
def test_yaml_refuses_all_but_plain_mappings(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="config.yaml"):
        read_yaml(path)


def test_npz_round_trip(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.arange(3), b=np.eye(2))
    assert list(load_npz(path)) == ["a", "b"]
    np.testing.assert_array_equal(load_npz(path, ["b"])["b"], np.eye(2))
    with pytest.raises(ValueError, match="arrays.npz lacks c"):
        load_npz(path, ["a", "c"])


def test_npz_skips_pickled_objects_that_nobody_asks_for(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.arange(3), names=np.array(["x", None], dtype=object))
    assert list(load_npz(path, ["a"])) == ["a"]
    with pytest.raises(ValueError, match="without pickled objects"):
        load_npz(path)


def test_mat_round_trip(tmp_path):
    path = tmp_path / "data.mat"
    scipy.io.savemat(path, {"A": sp.eye(3, format="csc"), "info": np.arange(4)})
    variables = load_mat(path, ["A", "info"])
    np.testing.assert_array_equal(variables["A"].toarray(), np.eye(3))
    np.testing.assert_array_equal(variables["info"].ravel(), np.arange(4))
    with pytest.raises(ValueError, match="data.mat lacks B"):
        load_mat(path, ["B"])


def write_npz(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, a=np.arange(1000))


def write_mat(path: Path) -> None:
    scipy.io.savemat(path, {"a": np.random.default_rng(0).random(1000)}, do_compression=True)


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(np.arange(1000)))


READERS = [
    (load_npz, write_npz),
    (lambda path: load_mat(path, ["a"]), write_mat),
    (safe_unpickle, write_pickle),
]


@pytest.mark.parametrize(("read", "write"), READERS, ids=["npz", "mat", "pickle"])
@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"<html>404</html>" * 20]
)
def test_damaged_files_are_named(tmp_path, read, write, damage):
    path = tmp_path / "file.mat"
    write(path)
    assert read(path) is not None
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="file.mat is not a readable"):
        read(path)


@pytest.mark.parametrize(("read", "write"), READERS, ids=["npz", "mat", "pickle"])
def test_missing_files_stay_missing_files(tmp_path, read, write):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere")


def test_a_lone_array_is_no_archive(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(ValueError, match="single array"):
        load_npz(tmp_path / "a.npy")


def test_json_round_trip_and_damage(tmp_path):
    write_json(tmp_path / "file.json", {"a": [1, 2.5, None]})
    assert read_json(tmp_path / "file.json") == {"a": [1, 2.5, None]}
    (tmp_path / "file.json").write_text('{"a": [1')
    with pytest.raises(ValueError, match="file.json is not a readable JSON file"):
        read_json(tmp_path / "file.json")


def test_npy_holds_one_array_without_objects(tmp_path):
    path = tmp_path / "file.npy"
    np.save(path, np.arange(6).reshape(2, 3))
    assert np.array_equal(load_npy(path), [[0, 1, 2], [3, 4, 5]])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="file.npy is not a readable NumPy array"):
        load_npy(path)
    np.save(path, np.array([Call(print)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="file.npy is not a readable NumPy array"):
        load_npy(path)


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("a,b\n1,2\n", {"header": True, "columns": ["a", "c"]}, "file.csv lacks c"),
        ("1,2\n3,\n", {"dtype": float}, "file.csv is not a readable table"),
        ("1,2\n3\n", {"dtype": float}, "file.csv is not a readable table"),
        ("1,2\n3,4,5\n", {}, "file.csv is not a readable table"),
        ("1.5\n", {"dtype": int}, "file.csv is not a readable table"),
        ("", {}, "file.csv is not a readable table"),
    ],
)
def test_damaged_tables_are_named(tmp_path, text, options, problem):
    (tmp_path / "file.csv").write_text(text)
    with pytest.raises(ValueError, match=problem):
        load_csv(tmp_path / "file.csv", **options)


def test_tables_keep_the_asked_columns_in_order_and_na_as_text(tmp_path):
    (tmp_path / "file.csv").write_text("a,b,c\nNA,2,3\n")
    table = load_csv(tmp_path / "file.csv", header=True, columns=["c", "a"])
    assert list(table) == ["c", "a"] and table.iloc[0].tolist() == [3, "NA"]
