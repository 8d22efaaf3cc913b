import hashlib
import socket
import zipfile

import pytest

from mowst.data.download import download, unpack
from mowst.io import read_json

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(server):
    server.files["/file"] = CONTENT
    return server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "file"


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_file_arrives_whole_and_is_recorded(server, path, sha256):
    download(f"{server.url}/file", path, sha256=sha256)
    assert path.read_bytes() == CONTENT
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "downloads.json",
        "downloads.lock",
        "file",
    ]
    record = {"url": f"{server.url}/file", "size": len(CONTENT), "sha256": SHA256}
    assert read_json(path.parent / "downloads.json") == {"file": record}


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interrupted_download_goes_on(server, path, resumes):
    server.sends, server.resumes = 1000, resumes
    with pytest.raises(
        OSError, match=f"ended after 1000 of {len(CONTENT)} bytes; the next call resumes"
    ):
        download(f"{server.url}/file", path, sha256=SHA256)
    assert {p.name for p in path.parent.iterdir()} == {"downloads.lock", "file.part"}
    server.sends = None
    download(f"{server.url}/file", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT and server.asked[-1] == ("/file", "bytes=1000-")
    assert not (path.parent / "file.part").exists()


def test_a_part_that_is_whole_or_too_long_starts_again(server, path):
    path.parent.mkdir()
    (path.parent / "file.part").write_bytes(CONTENT + b"of another file")
    download(f"{server.url}/file", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT and [asked for _, asked in server.asked] == [
        f"bytes={len(CONTENT) + 15}-",
        None,
    ]


def test_another_file_than_the_known_one_is_not_kept(server, path):
    server.files["/file"] = CONTENT[:-1] + b"!"
    with pytest.raises(
        ValueError, match=f"sent another file: SHA-256 .*, not {SHA256} .the known checksum"
    ):
        download(f"{server.url}/file", path, sha256=SHA256)
    assert [p.name for p in path.parent.iterdir()] == ["downloads.lock"]


def test_another_file_than_the_first_one_is_not_kept(server, path):
    download(f"{server.url}/file", path)
    path.unlink()
    server.files["/file"] = b"new"
    with pytest.raises(ValueError, match="sent another file: .*recorded in .*downloads.json"):
        download(f"{server.url}/file", path)
    assert {p.name for p in path.parent.iterdir()} == {"downloads.json", "downloads.lock"}
    (path.parent / "downloads.json").unlink()
    download(f"{server.url}/file", path)
    assert path.read_bytes() == b"new"


def test_nothing_is_written_where_there_is_nothing(server, path):
    with pytest.raises(OSError, match="404"):
        download(f"{server.url}/other", path)
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(ValueError, match="returns a web page"):
        download(f"{server.url}/file", path)
    assert [p.name for p in path.parent.iterdir()] == ["downloads.lock"]


def test_a_silent_server_is_given_up(path):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(OSError, match="timed out"),
    ):
        download(f"http://127.0.0.1:{silent.getsockname()[1]}/file", path, timeout=0.1)
    assert [p.name for p in path.parent.iterdir()] == ["downloads.lock"]


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for name in ("top/raw/edge", "top/processed/big", "top/../../evil", "/evil"):
            content.writestr(name, CONTENT)
    return path


def test_only_the_named_files_leave_an_archive(archive, tmp_path):
    unpack(archive, tmp_path / "folder", ["raw/edge"])
    assert (tmp_path / "folder" / "raw" / "edge").read_bytes() == CONTENT
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"a.zip", "edge"}
    with pytest.raises(ValueError, match="a.zip lacks raw/node"):
        unpack(archive, tmp_path / "folder", ["raw/node"])


def test_a_damaged_archive_leaves_nothing(archive, tmp_path):
    content = archive.read_bytes()
    for damaged in (
        content[:-30],
        content[:60] + bytes([content[60] ^ 1]) + content[61:],
        b"text",
        b"",
    ):
        archive.write_bytes(damaged)
        with pytest.raises(ValueError, match="a.zip is not a readable zip archive"):
            unpack(archive, tmp_path / "folder", ["raw/edge"])
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != archive]
