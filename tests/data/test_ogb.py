import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from mowst import load_task

NODES, EDGES = 20, np.array([[0, 1], [1, 0], [2, 3], [2, 3], [4, 4], [19, 5]])
FEATURES = (np.arange(60).reshape(NODES, 3) / 7).round(6)
YEARS = 2000 + np.arange(NODES) // 2
PARTS = {"train": np.arange(0, 10), "valid": np.arange(10, 15), "test": np.array([19, 15, 17])}


def write(folder, name, table):
    path = folder / f"{name}.csv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(table).to_csv(path, header=False, index=False)


@pytest.fixture(params=["ogbn-arxiv", "ogbn-products"])
def name(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    for folder, split in (("ogbn_arxiv", "time"), ("ogbn_products", "sales_ranking")):
        tables = {
            "raw/num-node-list": [NODES],
            "raw/num-edge-list": [len(EDGES)],
            "raw/node-feat": FEATURES,
            "raw/edge": EDGES,
            "raw/node-label": np.arange(NODES) % 4,
            "raw/node_year": YEARS,
            **{f"split/{split}/{part}": nodes for part, nodes in PARTS.items()},
        }
        for table, values in tables.items():
            write(tmp_path / "ogb" / folder, table, values)
    return tmp_path / "ogb" / "ogbn_arxiv"


def test_the_graph_becomes_undirected_and_the_split_is_the_publishers(name, folder, tmp_path):
    task = load_task(name, root=tmp_path)
    assert task.data.edge_index.t().tolist() == [
        [0, 1],
        [1, 0],
        [2, 3],
        [3, 2],
        [4, 4],
        [5, 19],
        [19, 5],
    ]
    assert task.data.x.equal(torch.from_numpy(FEATURES).float()) and task.num_classes == 4
    assert [task.index(split).tolist() for split in ("train", "val", "test")] == [
        list(range(10)),
        list(range(10, 15)),
        [15, 17, 19],
    ]
    with pytest.raises(ValueError, match="no split 1; known: 0 to 0"):
        load_task(name, root=tmp_path, split=1)


def test_the_second_load_is_the_same_from_the_cache(name, folder, tmp_path, monkeypatch):
    first = load_task(name, root=tmp_path)
    monkeypatch.setattr(
        "mowst.data.ogb.load_csv", lambda *args, **kwargs: pytest.fail("the tables were read again")
    )
    second = load_task(name, root=tmp_path)
    for key, value in first.data.to_dict().items():
        assert value.equal(second.data[key]) and value.dtype == second.data[key].dtype
    assert all(mask.equal(second.masks[key]) for key, mask in first.masks.items())


def test_years_become_five_classes_of_equal_size_and_citations_keep_their_direction(
    folder, tmp_path
):
    task = load_task("arxiv-year", root=tmp_path, split="random-0")
    assert task.data.y.tolist() == [k // 4 for k in range(NODES)]
    assert task.data.edge_index.t().tolist() == [[0, 1], [1, 0], [2, 3], [4, 4], [19, 5]]
    with pytest.raises(
        FileNotFoundError, match="splits/arxiv-year-splits.npy(?s:.*)split='random-0' needs no such"
    ):
        load_task("arxiv-year", root=tmp_path)


def test_a_year_on_a_quantile_belongs_above_it(folder, tmp_path):
    write(folder, "raw/node_year", np.repeat([2000, 2001, 2002, 2003, 2004], 4))
    assert (
        load_task("arxiv-year", root=tmp_path, split="random-0").data.y.bincount().tolist()
        == [4] * 5
    )


@pytest.mark.parametrize(
    ("table", "values", "problem"),
    [
        (
            "raw/edge",
            EDGES[:5],
            "edge.csv.gz has 5 rows, but num-edge-list.csv.gz says .6.: is it truncated",
        ),
        (
            "raw/node-feat",
            FEATURES[:9],
            "node-feat.csv.gz has 9 rows, but num-node-list.csv.gz says .20.",
        ),
        (
            "raw/num-node-list",
            [9, 11],
            "node-feat.csv.gz has 20 rows, but num-node-list.csv.gz says .9, 11.",
        ),
        (
            "raw/node-label",
            np.arange(19),
            r"node-label.csv.gz must hold one column of 20 rows, got \(19, 1\)",
        ),
        ("raw/edge", np.full((6, 2), 20), "edge.csv.gz must hold pairs of node ids from 0 to 19"),
        ("raw/edge", np.zeros((6, 3), dtype=int), "edge.csv.gz must hold pairs of node ids"),
        ("raw/edge", FEATURES[:6], "edge.csv.gz is not a readable table"),
        ("split/time/test", [3, 20], "test.csv.gz names nodes 3 to 20, the graph has 20"),
        ("split/time/test", [3], "1 nodes are in both train and test"),
        ("raw/node-feat", [["a", 1, 2]] * NODES, "node-feat.csv.gz is not a readable table"),
        ("raw/node-feat", [[None, 1, 2]] * NODES, "node-feat.csv.gz is not a readable table"),
    ],
)
def test_swapped_and_incomplete_tables_are_named(folder, tmp_path, table, values, problem):
    write(folder, table, values)
    with pytest.raises(ValueError, match=problem):
        load_task("ogbn-arxiv", root=tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "not gzip", "a byte", "empty"])
def test_damaged_tables_are_named_and_leave_no_cache(folder, tmp_path, damage):
    path = folder / "raw" / "edge.csv.gz"
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncated": content[:-12],
            "not gzip": gzip.decompress(content),
            "a byte": content[:-8] + bytes([content[-8] ^ 1]) + content[-7:],
            "empty": gzip.compress(b""),
        }[damage]
    )
    with pytest.raises(ValueError, match="edge.csv.gz is not a readable table"):
        load_task("ogbn-arxiv", root=tmp_path)
    assert not (folder / "cache").exists()


def test_a_row_that_ends_early_is_refused(folder, tmp_path):
    (folder / "raw" / "node-feat.csv.gz").write_bytes(
        gzip.compress(b"1.0,2.0,3.0\n" * 19 + b"1.0,2.")
    )
    with pytest.raises(ValueError, match="node-feat.csv.gz"):
        load_task("ogbn-arxiv", root=tmp_path)


@pytest.fixture
def ogb_root(folder, tmp_path):
    r"""The folders as OGB's own package lays them out."""
    root = tmp_path / "dataset"
    (folder.parent / "ogbn_arxiv" / "RELEASE_v1.txt").touch()
    folder.parent.rename(root)
    return root


@pytest.mark.parametrize("named", ["ogbn-arxiv", "ogbn-products", "arxiv-year"])
def test_the_layout_of_the_ogb_package_is_read(named, ogb_root, tmp_path):
    split = "random-0" if named == "arxiv-year" else 0
    options = {"split": split, "fetch": False}
    read = load_task(named, root=ogb_root, **options)
    ogb_root.rename(tmp_path / "ogb")
    ours = load_task(named, root=tmp_path, **options)
    for key in ("x", "edge_index", "y"):
        assert read.data[key].equal(ours.data[key])


def test_the_layout_of_this_package_is_preferred(folder, tmp_path):
    other = tmp_path / "ogbn_arxiv"
    shutil.copytree(folder, other)
    write(other, "raw/node-label", np.zeros(NODES, dtype=int))
    assert load_task("ogbn-arxiv", root=tmp_path).num_classes == 4


def test_incomplete_folders_of_both_layouts_are_named(ogb_root, monkeypatch):
    monkeypatch.setenv("MOWST_OFFLINE", "1")
    (ogb_root / "ogbn_arxiv" / "raw" / "edge.csv.gz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_task("ogbn-arxiv", root=ogb_root)
    assert f"{ogb_root}/ogb/ogbn_arxiv/raw/edge.csv.gz" in str(caught.value)
    assert f"All of its files in {ogb_root}/ogbn_arxiv are read as well" in str(caught.value)
