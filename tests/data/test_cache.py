import logging
import os
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from mowst.data.cache import list_cache_folders, read_cached
from mowst.data.info import DatasetInfo


@pytest.fixture
def info(tmp_path):
    r"""A data set of one file, whose reader counts its calls."""
    path = tmp_path / "root" / "family" / "Name" / "raw" / "file"
    path.parent.mkdir(parents=True)
    path.write_text("3")
    calls: list[Path] = []

    def read(path: Path) -> Data:
        calls.append(path)
        nodes = int(path.read_text())
        mask = torch.arange(nodes).view(-1, 1) == 0
        return Data(
            x=torch.ones(2, nodes).t(), edge_index=torch.zeros(2, 1).long(), train_mask=mask
        )

    row = DatasetInfo("name", "family", read, folder="Name", files=("raw/file",), cached=True)
    object.__setattr__(row, "calls", calls)
    return row


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def place(root):
    return root / "family" / "Name" / "cache" / "name.safetensors"


def test_the_second_graph_is_the_first_and_its_file_was_not_read(info, root, place):
    first, second = (read_cached(info, root) for _ in range(2))
    assert len(info.calls) == 1 and list(place.parent.iterdir()) == [place]
    assert set(first.keys()) == set(second.keys())
    assert all(
        value.equal(second[key]) and value.dtype == second[key].dtype
        for key, value in first.to_dict().items()
    )


def test_processes_that_make_a_cache_at_the_same_time(info, root, place, at_once):
    def act():
        for _ in range(20):
            place.unlink(missing_ok=True)
            data = read_cached(info, root)
            assert data.x.equal(torch.ones(3, 2)) and data.train_mask.view(-1).tolist() == [
                True,
                False,
                False,
            ]

    at_once(act, processes=3)
    assert read_cached(info, root).num_nodes == 3 and list(place.parent.iterdir()) == [place]


def test_what_is_written_to_a_cached_graph_stays_in_memory(info, root):
    read_cached(info, root)
    read_cached(info, root).x.zero_()
    assert read_cached(info, root).x.eq(1).all()


@pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="the maps of a process are Linux's"
)
def test_a_cached_graph_is_mapped(info, root, place):
    data = [read_cached(info, root) for _ in range(2)]
    assert str(place) in Path("/proc/self/maps").read_text() and len(data) == 2


def test_other_raw_files_make_another_cache(info, root):
    read_cached(info, root)
    (path,) = info.paths(root)
    path.write_text("5")
    os.utime(path, ns=(0, 12345))
    assert [read_cached(info, root).num_nodes for _ in range(2)] == [5, 5] and len(info.calls) == 2


DAMAGES = {
    "truncated": lambda content: content[:-3],
    "empty": lambda content: b"",
    "noise": lambda content: b"\xff" * len(content),
    "longer": lambda content: content + b"more",
    "a byte": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_made_again_and_said(info, root, place, damage, caplog):
    read_cached(info, root)
    place.write_bytes(damage(place.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert read_cached(info, root).num_nodes == 3
    assert str(place) in caplog.text and "damaged" in caplog.text and len(info.calls) == 2
    assert read_cached(info, root).num_nodes == 3 and len(info.calls) == 2


def test_a_damaged_raw_file_leaves_no_cache(info, root, place):
    info.paths(root)[0].write_text("three")
    with pytest.raises(ValueError, match="three"):
        read_cached(info, root)
    assert not place.parent.exists()


def test_a_folder_that_cannot_be_written_moves_the_cache_home(
    info, root, place, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place.parent.write_text("a file where the folder would be")
    assert [read_cached(info, root).num_nodes for _ in range(2)] == [3, 3] and len(info.calls) == 1
    assert (
        tmp_path / "home" / ".cache" / "mowst" / "cache" / "family" / "name.safetensors"
    ).is_file()
    assert place.parent.read_text().startswith("a file")


def test_without_any_place_the_graph_is_read_and_that_is_said(
    info, root, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOWST_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert [read_cached(info, root).num_nodes for _ in range(2)] == [3, 3]
    assert len(info.calls) == 2 and "no cache could be written" in caplog.text


def test_the_variable_decides_the_folder(info, root, tmp_path, monkeypatch):
    assert list_cache_folders(info, root)[0] == root / "family" / "Name" / "cache"
    monkeypatch.setenv("MOWST_CACHE", str(tmp_path / "caches"))
    read_cached(info, root)
    assert (tmp_path / "caches" / "family" / "name.safetensors").is_file()
    assert not (root / "family" / "Name" / "cache").exists()
