import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from mowst import load_task

NODES = 12
RING = sp.csr_matrix(sp.eye(NODES, k=1) + sp.eye(NODES, k=-1))
FEATURES = np.arange(NODES * 4).reshape(NODES, 4) / 3
ROLES = {"tr": [11, 0, 1, 2], "va": [3, 4], "te": [5, 6, 7]}


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "graphsaint" / "Flickr" / "raw"
    folder.mkdir(parents=True)
    sp.save_npz(folder / "adj_full.npz", RING)
    np.save(folder / "feats.npy", FEATURES)
    (folder / "class_map.json").write_text(
        json.dumps({str(k): k % 3 for k in reversed(range(NODES))})
    )
    (folder / "role.json").write_text(json.dumps(ROLES))
    return folder


def test_every_part_comes_from_its_file(raw, tmp_path):
    for _ in range(2):
        task = load_task("flickr", root=tmp_path)
        assert (
            task.data.x.equal(torch.from_numpy(FEATURES).float())
            and task.data.x.dtype == torch.float32
        )
        assert task.data.y.tolist() == [k % 3 for k in range(NODES)]
        assert task.data.num_edges == 22 and task.data.is_undirected() and task.data.is_coalesced()
        found = [task.index(split).tolist() for split in ("train", "val", "test")]
        assert found == [sorted(nodes) for nodes in ROLES.values()]


def test_nodes_without_class_are_unlabelled(raw, tmp_path):
    (raw / "class_map.json").write_text(json.dumps({str(k): k % 3 for k in range(NODES) if k != 8}))
    assert load_task("flickr", root=tmp_path).data.y[8] == -1


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("class_map.json", "[0, 1]", "class_map.json must hold a JSON object, found list"),
        (
            "class_map.json",
            '{"0": [0, 1]}',
            "class_map.json must hold whole numbers, one class per node",
        ),
        ("class_map.json", '{"12": 1}', "class_map.json names nodes 12 to 12, the graph has 12"),
        ("class_map.json", '{"0": 1', "class_map.json is not a readable JSON"),
        ("class_map.json", '{"0": 0}', "unlabelled|no label|a labelled node is 1"),
        ("role.json", json.dumps({"tr": [0]}), "role.json lacks va"),
        ("role.json", json.dumps(ROLES | {"te": [-1]}), "role.json names nodes -1 to -1"),
        ("role.json", json.dumps(ROLES | {"te": [0]}), "1 nodes are in both train and test"),
        ("feats.npy", "text", "feats.npy is not a readable NumPy array"),
        ("adj_full.npz", "text", "adj_full.npz is not a readable NumPy archive"),
    ],
)
def test_damaged_files_are_named(raw, tmp_path, file, content, problem):
    (raw / file).write_text(content)
    with pytest.raises(ValueError, match=problem):
        load_task("flickr", root=tmp_path)


def test_parts_of_another_graph_are_refused(raw, tmp_path):
    np.save(raw / "feats.npy", FEATURES[:7])
    with pytest.raises(
        ValueError, match=r"adj_full.npz is of shape \(12, 12\), but .*feats.npy has 7 rows"
    ):
        load_task("flickr", root=tmp_path)
    np.save(raw / "feats.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="feats.npy is not a readable NumPy array"):
        load_task("flickr", root=tmp_path)
