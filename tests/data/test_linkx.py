import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import torch

from mowst import load_task

GENDER = np.arange(24) % 3
STATUS, YEAR = np.arange(24) // 12 + 1, 2000 + np.arange(24) % 4


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "linkx" / "reed98" / "raw"
    folder.mkdir(parents=True)
    ring = sp.eye(24, k=1, format="csc") + sp.eye(24, k=-1, format="csc")
    constant = np.zeros(24)
    info = np.stack([STATUS, GENDER, constant, constant, constant, YEAR, constant], axis=1).astype(np.uint16)
    scipy.io.savemat(folder / "data.mat", {"A": ring, "local_info": info})
    return folder / "data.mat"


def test_label_is_the_gender_and_0_is_unlabelled(raw, tmp_path):
    task = load_task("reed98", root=tmp_path)
    assert task.data.y.tolist() == (GENDER - 1).tolist() and task.num_classes == 2
    assert [task.index(split).numel() for split in ("train", "val", "test")] == [8, 4, 4]


def test_features_are_the_other_columns_one_hot(raw, tmp_path):
    x = load_task("reed98", root=tmp_path).data.x
    status = torch.nn.functional.one_hot(torch.from_numpy(STATUS - 1))
    year = torch.nn.functional.one_hot(torch.from_numpy(YEAR - 2000))
    one = torch.ones(24, 1)
    assert x.equal(torch.cat([status, one, one, one, year, one], dim=1))


def test_friendships_are_coalesced(raw, tmp_path):
    data = load_task("reed98", root=tmp_path).data
    assert data.num_edges == 46 and data.is_undirected() and data.is_coalesced()


def test_every_number_is_a_seed(raw, tmp_path):
    first, other = (load_task("reed98", root=tmp_path, split=seed) for seed in (0, 123))
    assert not first.index("train").equal(other.index("train"))


def test_damaged_files_are_named(raw, tmp_path):
    raw.write_bytes(raw.read_bytes()[:300])
    with pytest.raises(ValueError, match="data.mat is not a readable MATLAB"):
        load_task("reed98", root=tmp_path)
    scipy.io.savemat(raw, {"A": sp.eye(3, format="csc")})
    with pytest.raises(ValueError, match="data.mat lacks local_info"):
        load_task("reed98", root=tmp_path)
