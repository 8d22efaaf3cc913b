r"""File systems that refuse locks, as networks may have them, are an error or work all the same."""

import errno
import os
import signal
import warnings

import pytest

from mowst.cli import main
from mowst.data.download import lock_downloads
from mowst.locks import Lock
from mowst.study.lines import append_line, claim, read_lines
from mowst.train import RunDir

fcntl = pytest.importorskip("fcntl")
REFUSED = "the file system refuses locks"


@pytest.fixture
def refuse(monkeypatch):
    def refuse(name):
        number = getattr(errno, name)

        def flock(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)
        warnings.simplefilter("ignore", UserWarning)

    return refuse


@pytest.mark.parametrize("name", ["ENOLCK", "ENOTSUP"])
def test_a_refused_lock_is_an_error_that_names_the_file(refuse, tmp_path, name, capsys):
    refuse(name)
    with pytest.raises(OSError, match=rf"{REFUSED}.*run/.lock'$"):
        RunDir(tmp_path / "run", {}).start()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    with pytest.raises(OSError, match=REFUSED), lock_downloads(tmp_path):
        pass
    with pytest.raises(OSError, match=REFUSED), claim(tmp_path / "claim.lock"):
        pass
    with pytest.raises(OSError, match=rf"{REFUSED}.*results.jsonl.lock'$"):
        append_line(tmp_path / "results.jsonl", {"id": "a"})
    assert not (tmp_path / "results.jsonl").exists()
    options = ["--epochs", "1", "--rounds", "0", "--run_dir", str(tmp_path / "other")]
    assert main(["train", "digits", *options]) == 1
    error = capsys.readouterr().err
    assert REFUSED in error and error.count("\n") == 1


def test_where_locks_are_unknown_a_file_excludes_other_processes(refuse, tmp_path):
    refuse("ENOSYS")
    first, second = RunDir(tmp_path / "run", {}), RunDir(tmp_path / "run", {})
    first.start()
    with pytest.raises(BlockingIOError, match=r"another process trains.*or remove .*\.lock if"):
        second.resume()
    first.release()
    assert second.resume() is None
    with claim(tmp_path / "claim.lock") as mine, claim(tmp_path / "claim.lock") as other:
        assert mine and not other
    append_line(tmp_path / "results.jsonl", {"id": "a"})
    assert read_lines(tmp_path / "results.jsonl") == [{"id": "a"}]
    with lock_downloads(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_the_file_of_a_killed_process_is_no_lock(refuse, tmp_path):
    refuse("ENOSYS")
    if not (child := os.fork()):
        Lock(tmp_path / "lock").acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / "lock").exists()
    with Lock(tmp_path / "lock", blocking=False):
        pass
