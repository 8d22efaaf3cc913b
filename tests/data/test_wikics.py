import json

import pytest
import torch

from mowst import load_task

NODES, SPLITS = 10, 20
CONTENT = {
    "features": [[k / 4, -1.5] for k in range(NODES)],
    "labels": [k % 2 for k in range(NODES)],
    "links": [[1, 2, 2], [0], [], *([[0]] * 6), [9]],
    "train_masks": [
        [node == split % 3 or node == 3 for node in range(NODES)] for split in range(SPLITS)
    ],
    "val_masks": [[node in (4, 5) for node in range(NODES)]] * SPLITS,
    "stopping_masks": [[node == 6 for node in range(NODES)]] * SPLITS,
    "test_mask": [node >= 7 for node in range(NODES)],
}


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "wikics" / "WikiCS" / "raw" / "data.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(CONTENT))
    return path


def test_twenty_splits_share_their_test_nodes(raw, tmp_path):
    tasks = [load_task("wikics", root=tmp_path, split=k) for k in range(SPLITS)]
    for k, task in enumerate(tasks):
        found = [task.index(split).tolist() for split in ("train", "val", "test")]
        assert found == [sorted({k % 3, 3}), [4, 5], [7, 8, 9]]
    with pytest.raises(ValueError, match="no split 20; known: 0 to 19"):
        load_task("wikics", root=tmp_path, split=20)


def test_links_go_both_ways_fresh_and_cached(raw, tmp_path, monkeypatch):
    fresh = load_task("wikics", root=tmp_path).data
    monkeypatch.setattr(
        "mowst.data.wikics.read_json", lambda path: pytest.fail("the file was read again")
    )
    for data in (fresh, load_task("wikics", root=tmp_path).data):
        assert (
            data.x.equal(torch.tensor(CONTENT["features"])) and data.y.tolist() == CONTENT["labels"]
        )
        assert data.num_edges == 17 and data.is_undirected() and data.is_coalesced()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"links": [[40], *CONTENT["links"][1:]]}, "names nodes 0 to 40, the graph has 10"),
        ({"links": CONTENT["links"][1:]}, "does not hold the features, labels, links and masks"),
        ({"features": [[1.0], [1.0, 2.0]]}, "does not hold the features, labels, links and masks"),
        ({"labels": None}, "does not hold the features, labels, links and masks"),
        ({"test_mask": [True]}, "2 nodes are in both val and test"),
    ],
)
def test_damaged_content_is_named_and_leaves_no_cache(raw, tmp_path, change, problem):
    raw.write_text(json.dumps(CONTENT | change))
    with pytest.raises(ValueError, match=problem):
        load_task("wikics", root=tmp_path)


def test_a_truncated_file_is_named(raw, tmp_path):
    raw.write_text(raw.read_text()[:-9])
    with pytest.raises(ValueError, match="data.json is not a readable JSON file"):
        load_task("wikics", root=tmp_path)
    raw.write_text("{}")
    with pytest.raises(ValueError, match="data.json does not hold the features"):
        load_task("wikics", root=tmp_path)
    assert not (tmp_path / "wikics" / "WikiCS" / "cache").exists()
