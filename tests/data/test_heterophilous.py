import numpy as np
import pytest
import torch

from mowst import load_task


@pytest.fixture
def save(tmp_path):
    def save(name: str, **changes: np.ndarray) -> None:
        raw = tmp_path / "heterophilous" / name / "raw"
        raw.mkdir(parents=True)
        part = (np.arange(12) // 2 + np.arange(10)[:, None]) % 3
        masks = {f"{key}_masks": part == k for k, key in enumerate(("train", "val", "test"))}
        edges = np.stack([np.arange(11), np.arange(1, 12)], axis=1)
        arrays = dict(
            node_features=np.eye(12, dtype=np.float32),
            node_labels=np.arange(12) % 2,
            edges=edges,
            **masks,
        )
        np.savez(raw / f"{name}.npz", **(arrays | changes))

    return save


def test_edges_go_both_ways(save, tmp_path):
    save("minesweeper")
    task = load_task("minesweeper", root=tmp_path)
    assert task.data.num_edges == 22 and task.data.is_undirected() and task.data.is_coalesced()
    assert task.metric == "roc_auc" and task.data.x.equal(torch.eye(12))


def test_splits_are_inside(save, tmp_path):
    save("chameleon_filtered")
    tasks = [load_task("chameleon-filtered", root=tmp_path, split=k) for k in range(10)]
    assert tasks[0].index("train").tolist() == [0, 1, 6, 7] and tasks[1].index(
        "train"
    ).tolist() == [4, 5, 10, 11]
    assert "train_mask" not in tasks[0].data
    with pytest.raises(ValueError, match="no split 10; known: 0 to 9"):
        load_task("chameleon-filtered", root=tmp_path, split=10)


def test_a_drawn_split_keeps_the_published_shares(save, tmp_path):
    save("roman_empire")
    task = load_task("Roman_Empire", root=tmp_path, split="random-1")
    assert [task.index(split).numel() for split in ("train", "val", "test")] == [6, 2, 4]


def test_edges_out_of_range_are_refused(save, tmp_path):
    save("texas", edges=np.array([[0, 40]]))
    with pytest.raises(ValueError, match="2 edges leave the nodes 0 to 11"):
        load_task("texas", root=tmp_path)


def test_truncated_archive_is_named(save, tmp_path):
    save("actor")
    path = tmp_path / "heterophilous" / "actor" / "raw" / "actor.npz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="actor.npz is not a readable NumPy archive"):
        load_task("actor", root=tmp_path)
