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
    info = np.stack([STATUS, GENDER, constant, constant, constant, YEAR, constant], axis=1).astype(
        np.uint16
    )
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


@pytest.fixture(params=["genius", "pokec"])
def edge_list(request, tmp_path):
    r"""A name and a writer of its file: a directed ring of 20 nodes, the last without a label."""
    folder = tmp_path / "linkx" / request.param / "raw"
    folder.mkdir(parents=True)
    nodes = np.arange(20)
    variables = {
        "edge_index": np.stack([nodes, (nodes + 1) % 20]).astype(np.int32),
        "node_feat": np.stack([nodes / 3, nodes % 2], axis=1),
        "label": np.r_[nodes[:-1] // 2 % 2, -1][None],
        "num_nodes": 20,
    }

    def save(**changes: np.ndarray) -> None:
        scipy.io.savemat(folder / f"{request.param}.mat", variables | changes)

    return request.param, save


def test_edge_lists_become_undirected(edge_list, tmp_path):
    name, save = edge_list
    save()
    for _ in range(2):
        data = load_task(name, root=tmp_path, split="random-0").data
        assert data.num_edges == 40 and data.is_undirected() and data.is_coalesced()
        assert data.y.tolist() == [*(k // 2 % 2 for k in range(19)), -1]
        assert (
            data.x.equal(torch.tensor([[k / 3, k % 2] for k in range(20)]))
            and data.x.is_contiguous()
        )
    assert (tmp_path / "linkx" / name / "cache").exists() == (name == "pokec")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"edge_index": np.array([[0], [20]])}, "must hold pairs of node ids from 0 to 19"),
        ({"edge_index": np.array([[0], [-1]])}, "must hold pairs of node ids"),
        ({"edge_index": np.zeros((3, 4))}, "must hold pairs of node ids"),
        ({"edge_index": np.zeros((2, 0))}, "must hold pairs of node ids"),
        ({"node_feat": sp.eye(20, format="csc")}, "must hold arrays of numbers"),
        ({"label": np.zeros((1, 3))}, r"y must be int64 of shape \(20,\)"),
    ],
)
def test_damaged_edge_lists_are_refused(edge_list, tmp_path, change, problem):
    name, save = edge_list
    save(**change)
    with pytest.raises(ValueError, match=problem):
        load_task(name, root=tmp_path, split="random-0")


def test_a_college_outside_the_table_loads_by_its_name(raw, tmp_path):
    (tmp_path / "linkx" / "rutgers89").mkdir()
    raw.parent.rename(tmp_path / "linkx" / "rutgers89" / "raw")
    assert load_task("fb100-Rutgers89", root=tmp_path).name == "rutgers89"


def test_damaged_files_are_named(raw, tmp_path):
    raw.write_bytes(raw.read_bytes()[:300])
    with pytest.raises(ValueError, match="data.mat is not a readable MATLAB"):
        load_task("reed98", root=tmp_path)
    scipy.io.savemat(raw, {"A": sp.eye(3, format="csc")})
    with pytest.raises(ValueError, match="data.mat lacks local_info"):
        load_task("reed98", root=tmp_path)
