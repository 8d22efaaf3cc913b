import io
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from torch_geometric.data import Data

from mowst import load_task
from mowst.data import DATASETS
from mowst.data.fetch import is_offline, require_files
from mowst.data.info import DatasetInfo
from mowst.io import read_json


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return buffer.getvalue()


@pytest.fixture
def info(server, monkeypatch):
    r"""A data set of two files in an archive, one file of its own and a file of splits."""
    monkeypatch.delenv("MOWST_OFFLINE")
    server.files = {
        "/a.zip": zipped("a/raw/x", "a/split/y", "a/z"),
        "/z": b"z",
        "/s.npy": b"splits",
    }
    files = {"raw/x": "a.zip", "split/y": "a.zip", "raw/z": "z", "s.npy": "s.npy"}
    return DatasetInfo(
        name="name",
        family="family",
        folder="Name",
        read=Data,
        files=("raw/x", "split/y", "raw/z"),
        split_files=("s.npz", "s.npy"),
        urls={file: f"{server.url}/{address}" for file, address in files.items()},
        home="https://example.org",
    )


def test_what_is_missing_is_downloaded_once_and_nothing_else(info, server, tmp_path):
    for _ in range(2):
        require_files(info, tmp_path, split=0)
    assert [path for path, _ in server.asked] == ["/z", "/s.npy", "/a.zip"]
    base = tmp_path / "family" / "Name"
    files = {path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert {str(path.relative_to(tmp_path)) for path in files} == {
        "family/Name/raw/x",
        "family/Name/split/y",
        "family/Name/raw/z",
        "family/Name/raw/downloads.json",
        "family/Name/downloads.json",
        "splits/s.npy",
        "splits/downloads.json",
    }
    assert (base / "split" / "y").read_text() == "a/split/y"


def test_two_processes_download_a_file_once(info, server, tmp_path, at_once):
    server.delay = 0.1
    at_once(lambda: require_files(info, tmp_path, split=0), processes=3)
    assert sorted(path for path, _ in server.asked) == ["/a.zip", "/s.npy", "/z"]
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"x", "y", "z", "s.npy", "downloads.json", "downloads.lock"}
    assert set(read_json(tmp_path / "family" / "Name" / "downloads.json")) == {"a.zip"}


def test_two_data_sets_download_into_one_folder(info, server, tmp_path, at_once):
    # The record of a folder keeps what both of them wrote.
    server.delay = 0.05
    server.files |= {f"/{k}.npy": b"splits" for k in range(4)}
    left = list(range(4))

    def act():
        for k in left:
            other = replace(info, folder=f"Name{k}-{os.getpid()}", split_files=(f"{k}.npy",))
            urls = {**info.urls, f"{k}.npy": f"{server.url}/{k}.npy"}
            require_files(replace(other, urls=urls, files=()), tmp_path, split=0)
        assert set(read_json(tmp_path / "splits" / "downloads.json")) >= {
            f"{k}.npy" for k in range(4)
        }

    at_once(act)


def test_a_drawn_split_and_a_file_that_is_there_are_not_asked_for(info, server, tmp_path):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "s.npz").touch()
    require_files(info, tmp_path, split=0)
    require_files(info, tmp_path, split="random-0")
    assert "/s.npy" not in [path for path, _ in server.asked]


@pytest.mark.parametrize(
    ("setting", "fetch", "reason"),
    [("1", True, "MOWST_OFFLINE is set"), ("0", False, "Nothing is downloaded here")],
)
def test_without_downloads_the_error_lists_all_files(
    info, server, tmp_path, monkeypatch, setting, fetch, reason
):
    monkeypatch.setenv("MOWST_OFFLINE", setting)
    assert is_offline() == (setting == "1")
    with pytest.raises(FileNotFoundError) as error:
        require_files(info, tmp_path, split=0, fetch=fetch)
    for part in (
        f"{tmp_path}/family/Name/raw/x  from {server.url}/a.zip",
        f"{tmp_path}/family/Name/raw/z  from {server.url}/z",
        f"{tmp_path}/splits/s.npy  from {server.url}/s.npy",
        reason,
        "s.npz",
        "https://example.org",
    ):
        assert part in str(error.value)
    assert not server.asked and not list(tmp_path.iterdir())


def test_a_download_that_fails_gives_the_same_list_and_the_reason(info, server, tmp_path):
    server.files["/a.zip"] = b"damaged"
    with pytest.raises(
        FileNotFoundError, match="raw/x  from .*a.zip(?s:.*)a.zip is not a readable zip archive"
    ):
        require_files(info, tmp_path, split=0)
    assert not (tmp_path / "family" / "Name" / "a.zip").exists()
    with pytest.raises(FileNotFoundError, match="The download failed: .*404"):
        require_files(
            replace(info, urls=dict.fromkeys(info.urls, f"{server.url}/gone")), tmp_path, split=0
        )


def test_nothing_is_downloaded_where_a_file_has_no_address(info, server, tmp_path):
    with pytest.raises(FileNotFoundError, match="not all of them have a working address"):
        require_files(replace(info, urls={}), tmp_path, split=0)
    assert not server.asked and not list(tmp_path.iterdir())


def test_load_task_downloads(server, tmp_path, monkeypatch):
    monkeypatch.delenv("MOWST_OFFLINE")
    masks = {
        f"{key}_masks": np.arange(12) % 3 == k for k, key in enumerate(("train", "val", "test"))
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        node_features=np.eye(12),
        node_labels=np.arange(12) // 3 % 2,
        edges=np.array([[0, 1]]),
        **{key: mask[None] for key, mask in masks.items()},
    )
    server.files["/actor.npz"] = buffer.getvalue()
    row = replace(DATASETS["actor"], urls={"raw/actor.npz": f"{server.url}/actor.npz"})
    monkeypatch.setitem(DATASETS, "actor", row)
    assert load_task("actor", root=tmp_path).num_nodes == 12
    assert len(server.asked) == 1
