import os
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from mowst import pickles
from mowst.pickles import load_dicts, safe_unpickle

PLAIN = [
    "numpy\nndarray",
    "numpy\ndtype",
    "numpy._core.multiarray\n_reconstruct",
    "scipy.sparse._csr\ncsr_matrix",
]


class Call:
    r"""Pickles as the call of any function, and perhaps a state for what it returns."""

    def __init__(self, function, *args, state=None):
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.call


def test_unpickle_reads_arrays_and_containers(tmp_path):
    path = tmp_path / "file.pkl"
    graph = defaultdict(list, {0: [1, 2]})
    arrays = [np.eye(3, dtype=kind) for kind in ("f4", ">f8", "i2", "?", ">i4", "S3", "U3", "O")]
    arrays += [np.asfortranarray(np.arange(6).reshape(2, 3)), np.array(3), np.zeros((0, 2))]
    path.write_bytes(pickle.dumps([2.5, graph, *arrays]))
    number, edges, *found = safe_unpickle(path)
    assert number == 2.5 and edges == graph
    for one, other in zip(found, arrays, strict=True):
        assert one.dtype == other.dtype.newbyteorder("=") and np.array_equal(one, other)


@pytest.mark.parametrize("protocol", [3, 4])
def test_unpickle_reads_a_matrix(tmp_path, protocol):
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(sp.csr_matrix(np.eye(3)), protocol=protocol))
    matrix = safe_unpickle(path)
    assert type(matrix) is sp.csr_matrix
    np.testing.assert_array_equal(matrix.toarray(), np.eye(3))


def test_unpickle_reads_python_2_strings(tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(b"c__builtin__\nlist\n(lp0\nS'caf\\xe9'\na\x85R.")
    assert safe_unpickle(path) == ["café"]


def test_unpickle_executes_nothing(tmp_path):
    path, victim = tmp_path / "file.pkl", tmp_path / "executed"
    attacks = {
        "system": Call(os.system, f"touch {victim}"),
        "eval": Call(eval, f"open({str(victim)!r}, 'w')"),
        "getattr": Call(getattr, "text", "upper"),
        "touch": Call(Path.touch, victim),
        "defaultdict": {"nested": [Call(os.mkdir, str(victim))]},
    }
    for attack in attacks.values():
        path.write_bytes(pickle.dumps(attack))
        with pytest.raises(ValueError, match="it asks for '.*', which is refused"):
            safe_unpickle(path)
        assert not victim.exists()


def test_unpickle_refuses_matrices_that_point_outside(tmp_path):
    matrix = sp.csr_matrix(np.eye(3))
    matrix.indices[0] = 10**6
    matrix.check_format = (
        dict  # what a pickle says of its matrix shall not decide on how that is checked
    )
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(matrix))
    with pytest.raises(ValueError, match="file.pkl"):
        safe_unpickle(tmp_path / "file.pkl")


@pytest.mark.parametrize("target", [*PLAIN, "collections\ndefaultdict", "builtins\ndict"])
def test_unpickle_changes_no_class(tmp_path, target):
    # Names a class, and asks to set an attribute of it.
    (tmp_path / "file.pkl").write_bytes(
        f"c{target}\n(N}}S'check_format'\ncbuiltins\ndict\nstb.".encode()
    )
    before = [vars(kind).copy() for kind in vars(pickles).values() if isinstance(kind, type)]
    with pytest.raises(ValueError, match="file.pkl"):
        safe_unpickle(tmp_path / "file.pkl")
    assert [vars(kind) for kind in vars(pickles).values() if isinstance(kind, type)] == before
    assert sp.csr_matrix.check_format is not dict


def test_numbers_do_not_pass_for_objects(tmp_path):
    # Eight bytes of the file would be the address of an object.
    fields = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)
    address = (1, (1,), Call(np.dtype, "V8", False, True, state=fields), False, b"A" * 8)
    attack = Call(np.zeros(0).__reduce__()[0], np.ndarray, (0,), b"b", state=address)
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(attack))
    with pytest.raises(ValueError, match="file.pkl .* it holds values of the type 'V8'"):
        safe_unpickle(tmp_path / "file.pkl")


def test_dicts_in_an_array_are_read_and_nothing_else(tmp_path):
    path, victim = tmp_path / "file.npy", tmp_path / "executed"
    splits = [{"train": np.arange(3), "test": [4, 5]}, {"train": np.arange(2)}]
    np.save(path, np.array(splits, dtype=object))
    read = load_dicts(path)
    assert [list(split) for split in read] == [["train", "test"], ["train"]] and read[0][
        "train"
    ].tolist() == [0, 1, 2]
    np.save(path, np.array([{"train": Call(os.mkdir, str(victim))}], dtype=object))
    with pytest.raises(ValueError, match="it asks for '.*mkdir', which is refused"):
        load_dicts(path)
    assert not victim.exists()
    for content in (np.array([[1, 2]], dtype=object), np.arange(3)):
        np.save(path, content)
        with pytest.raises(
            ValueError, match="file.npy is not a readable NumPy array \\(.npy\\) of dictionaries"
        ):
            load_dicts(path)
