import numpy as np
import pytest
import scipy.sparse as sp
import torch

from mowst import load_task


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    adjacency = sp.csr_matrix(
        (np.ones(22), (np.r_[np.arange(20), 0, 5], np.r_[np.arange(1, 20), 0, 0, 4]))
    )
    features = sp.csr_matrix(np.tile([0.0, 3.0, 0.5], (20, 1)))
    matrices = {"adj": adjacency, "attr": features}
    arrays = {
        f"{key}_{part}": getattr(m, part)
        for key, m in matrices.items()
        for part in ("data", "indices", "indptr")
    }
    shapes = {f"{key}_shape": np.array(m.shape) for key, m in matrices.items()}
    return (
        arrays
        | shapes
        | {"labels": np.arange(20) % 2, "attr_names": np.array(["a", None], dtype=object)}
    )


@pytest.fixture
def save(tmp_path):
    def save(family: str, folder: str, file: str, arrays: dict[str, np.ndarray]) -> None:
        raw = tmp_path / family / folder / "raw"
        raw.mkdir(parents=True)
        np.savez(raw / file, **arrays)

    return save


PHOTO = ("amazon", "Photo", "amazon_electronics_photo.npz")
COMPUTERS = ("amazon", "Computers", "amazon_electronics_computers.npz")


def test_graph_is_undirected_without_loops_and_features_are_binary(save, arrays, tmp_path):
    save(*PHOTO, arrays)
    task = load_task("photo", root=tmp_path, split=3)
    assert task.data.x.equal(torch.tensor([[0.0, 1.0, 1.0]]).expand(20, 3))
    assert task.data.is_undirected() and task.data.is_coalesced() and not task.data.has_self_loops()
    assert task.data.num_edges == 40 and task.split == 3
    assert [task.index(split).numel() for split in ("train", "val", "test")] == [12, 4, 4]


def test_counts_stay_counts_where_they_are_asked_for(save, arrays, tmp_path):
    save("coauthor", "CS", "ms_academic_cs.npz", arrays)
    counted, binary = (
        load_task(name, root=tmp_path, split="random-0") for name in ("cs-counts", "cs")
    )
    assert counted.data.x.equal(torch.tensor([[0.0, 3.0, 0.5]]).expand(20, 3))
    assert binary.data.x.equal(counted.data.x.sign()) and binary.data.edge_index.equal(
        counted.data.edge_index
    )


def test_published_split_comes_from_its_file(save, arrays, tmp_path):
    save(*COMPUTERS, arrays)
    with pytest.raises(FileNotFoundError, match="splits/computers-60-20-20.npz"):
        load_task("computers", root=tmp_path)
    assert load_task("computers", root=tmp_path, split="random-0").index("train").numel() == 12
    (tmp_path / "splits").mkdir()
    np.savez(tmp_path / "splits" / "computers-60-20-20.npz", train=[19, 0], valid=[2], test=[1, 4])
    assert load_task("computers", root=tmp_path).index("train").tolist() == [0, 19]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("adj_indices", np.full(22, 99), "adj is not a CSR matrix"),
        ("attr_indptr", np.arange(3), "attr is not a CSR matrix"),
        ("attr_shape", np.array(3), "attr is not a CSR matrix"),
        ("labels", np.arange(3), r"y must be int64 of shape \(20,\)"),
    ],
)
def test_damaged_arrays_are_refused(save, arrays, tmp_path, key, value, problem):
    save(*PHOTO, arrays | {key: value})
    with pytest.raises(ValueError, match=problem):
        load_task("photo", root=tmp_path)


def test_lacking_arrays_are_named(save, arrays, tmp_path):
    arrays.pop("adj_indptr")
    save(*PHOTO, arrays)
    with pytest.raises(ValueError, match="photo.npz lacks adj_indptr"):
        load_task("photo", root=tmp_path)
