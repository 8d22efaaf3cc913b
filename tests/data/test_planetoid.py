import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from mowst import load_task

CLASSES = np.eye(2, dtype=np.int32)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    r"""Nine nodes: 2 train, 3 val, 1 in no split, test nodes 6 and 8. Node 7 is missing."""
    monkeypatch.setattr("mowst.data.planetoid.NUM_VAL", 3)
    folder = tmp_path / "planetoid" / "CiteSeer" / "raw"
    folder.mkdir(parents=True)
    parts = {
        "y": CLASSES[[0, 1]],
        "allx": sp.csr_matrix(np.array([[1, 1, 0, 0]] * 6, dtype=np.float32)),
        "ally": CLASSES[[0, 1, 0, 1, 0, 1]],
        "tx": sp.csr_matrix(np.array([[0, 0, 0, 1], [0, 1, 1, 1]], dtype=np.float32)),
        "ty": CLASSES[[1, 0]],
        "graph": {0: [1, 2, 1], 1: [0], 2: [0], 3: [3], 6: [8], 8: [6]},
    }
    for part, value in parts.items():
        (folder / f"ind.citeseer.{part}").write_bytes(pickle.dumps(value))
    (folder / "ind.citeseer.test.index").write_text("8\n6\n")
    return folder


def test_nodes_are_put_in_order(raw, tmp_path):
    task = load_task("citeseer", root=tmp_path)
    assert task.num_nodes == 9 and task.num_classes == 2 and task.metric == "accuracy"
    assert task.data.y.tolist() == [0, 1, 0, 1, 0, 1, 0, -1, 1]
    assert task.data.x[8].tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(task.data.x[6], torch.tensor([0, 1, 1, 1]) / 3)
    assert task.data.x[7].tolist() == [0, 0, 0, 0]


def test_features_are_row_normalised(raw, tmp_path):
    x = load_task("citeseer", root=tmp_path).data.x
    torch.testing.assert_close(x.sum(dim=1), torch.tensor([1.0] * 7 + [0.0] + [1.0]))


def test_edges_are_coalesced_without_loops(raw, tmp_path):
    edges = load_task("citeseer", root=tmp_path).data.edge_index.t().tolist()
    assert edges == [[0, 1], [0, 2], [1, 0], [2, 0], [6, 8], [8, 6]]


def test_public_split(raw, tmp_path):
    task = load_task("citeseer", root=tmp_path)
    assert [task.index(split).tolist() for split in ("train", "val", "test")] == [
        [0, 1],
        [2, 3, 4],
        [6, 8],
    ]
    with pytest.raises(ValueError, match="no split 1; known: 0 to 0"):
        load_task("citeseer", root=tmp_path, split=1)


@pytest.mark.parametrize("part", ["y", "tx", "allx", "graph"])
def test_truncated_files_are_named(raw, tmp_path, part):
    path = raw / f"ind.citeseer.{part}"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=f"ind.citeseer.{part} is not a readable pickle"):
        load_task("citeseer", root=tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("8\n", "do not belong together"), ("8\nx\n", "one node id"), ("", "empty")],
)
def test_damaged_index_is_refused(raw, tmp_path, text, problem):
    (raw / "ind.citeseer.test.index").write_text(text)
    with pytest.raises(ValueError, match=problem):
        load_task("citeseer", root=tmp_path)
