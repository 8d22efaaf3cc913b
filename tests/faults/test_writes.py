r"""Tables, lines, downloads and reports, written by a process that is killed or on a full disk."""

import hashlib
import io as streams
import json
import os
import time
from email.message import Message
from threading import Thread
from urllib import request

import optuna
import pandas as pd
import pytest
from optuna.storages.journal import _file as journal

from mowst import io
from mowst.cli.predict import write_table
from mowst.data import download
from mowst.study.lines import append_line, read_lines
from mowst.study.report import write_report
from mowst.study.storage import open_storage
from mowst.train.loggers import CSV

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
CONTENT = bytes(range(256)) * 40
MADE = {"id": "0", "name": "", "data": "a", "strong": "gcn", "method": "strong", "seed": 0}
MADE |= {"split": 0, "status": "finished", "metric": "accuracy", "route": "strong", "train": 0.9}
MADE |= {"val": 0.9, "settings": {"lr": 0.01}, "evaluations": 7, "seconds": 1.0}


def write_predictions(folder, number):
    write_table(pd.DataFrame({"prob": [number] * 200}), str(folder / "out.csv"))


def make_report(folder, number):
    (folder / "results.jsonl").write_text(json.dumps({**MADE, "test": number / 10}) + "\n")
    write_report(folder)


WRITERS = {"predictions": write_predictions, "report": make_report}


def read_files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


@pytest.mark.parametrize("kind", WRITERS)
def test_killed_anywhere_there_is_the_older_file_or_the_new_one(kind, tmp_path, count_points):
    write, folder = WRITERS[kind], tmp_path / "killed"
    found = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number), number)
        found.append(read_files(tmp_path / str(number)))
    older, newer = found
    folder.mkdir()
    total = count_points(lambda: write(folder, 2))
    seen = set()
    for kill_at in range(1, total + 1, max(1, total // 3)):
        for name, content in older.items():
            (folder / name).write_bytes(content)
        assert count_points(lambda: write(folder, 2), kill_at) is None
        for name, content in read_files(folder).items():
            if name != "results.jsonl":
                assert content in (older[name], newer[name]), name
                seen.add(content == newer[name])
    assert seen == {True, False}


@pytest.mark.parametrize("kind", WRITERS)
def test_on_a_full_disk_the_older_files_stay(kind, tmp_path, full_beyond):
    write = WRITERS[kind]
    write(tmp_path, 1)
    before = read_files(tmp_path)
    name = "out.csv" if kind == "predictions" else "report.html"
    size = 200 if kind == "predictions" else len(before[name]) - 500
    with full_beyond(size), pytest.raises(OSError, match=f"{tmp_path / name}'$"):
        write(tmp_path, 2)
    assert read_files(tmp_path)[name] == before[name]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["study", "log"])
def test_lines_killed_anywhere_or_cut_by_a_full_disk_are_whole_lines_afterwards(
    kind, tmp_path, count_points, full_beyond
):
    path = tmp_path / "lines"

    def append(number):
        if kind == "study":
            append_line(path, {"number": number, "text": "t" * 50})
        else:
            CSV(path)({"number": number, "text": "t" * 50})

    def list_numbers():
        if kind == "study":
            return [line["number"] for line in read_lines(path)]
        return pd.read_csv(path)["number"].tolist()

    append(0)
    expected = [0]
    for kill_at in range(1, 100):
        ended = count_points(lambda: append(1), kill_at)
        append(2)
        found = list_numbers()
        assert found in ([*expected, 2], [*expected, 1, 2])
        expected = found
        if ended:
            break
    assert expected.count(1) > 1 and expected.count(2) > expected.count(1)
    with full_beyond(path.stat().st_size + 20), pytest.raises(OSError, match=f"{path}'$"):
        append(3)
    append(4)
    assert list_numbers() == [*expected, 4]


def open_study(path):
    storage = open_storage(str(path))
    return optuna.create_study(storage=storage, study_name="s", load_if_exists=True)


def run_trial(path, value):
    study = open_study(path)
    study.tell(study.ask(), value)


def test_a_journal_killed_anywhere_in_a_write_keeps_every_finished_trial(tmp_path, count_points):
    path, before = tmp_path / "sweep.log", []
    run_trial(path, 0.0)
    for kill_at in range(1, 200, 3):
        ended = count_points(lambda: run_trial(path, 1.0), kill_at, 3, modules=(journal,))
        (tmp_path / "sweep.log.lock").unlink(missing_ok=True)  # Optuna does so after 30 seconds
        run_trial(path, 2.0)
        trials = open_study(path).get_trials()
        values = [trial.value for trial in trials if trial.state.name == "COMPLETE"]
        assert values[: len(before)] == before and values[-1] == 2.0
        before = values
        if ended:
            break
    assert ended and before.count(1.0) < before.count(2.0)


def test_a_writer_that_waited_for_a_killed_one_removes_its_incomplete_line(tmp_path):
    path, lock = tmp_path / "sweep.log", tmp_path / "sweep.log.lock"
    study = open_study(path)
    lock.touch()
    waiting = Thread(target=study.ask)
    waiting.start()
    time.sleep(0.1)
    with open(path, "ab") as file:
        file.write(b'{"op_code":5,"worker')
    lock.unlink()
    waiting.join()
    assert len(open_study(path).get_trials()) == 1


def test_a_log_of_other_columns_is_left_alone(tmp_path):
    CSV(tmp_path / "log.csv")({"stage": "pretrain weak", "loss": 1.0})
    before = (tmp_path / "log.csv").read_bytes()
    with pytest.raises(ValueError, match="has the columns stage,loss, the run has stage,loss,val"):
        CSV(tmp_path / "log.csv")({"stage": "pretrain weak", "loss": 1.0, "val": 0.5})
    assert (tmp_path / "log.csv").read_bytes() == before


@pytest.fixture
def server(monkeypatch):
    r"""Serves the rest of a file from the asked byte on."""

    def serve(asked, timeout):
        start = int(asked.headers.get("Range", "bytes=0-")[6:-1])
        if start >= len(CONTENT):
            raise request.HTTPError(asked.full_url, 416, "no such range", Message(), None)
        response = streams.BytesIO(CONTENT[start:])
        response.headers = Message()
        response.headers["Content-Length"] = str(len(CONTENT) - start)
        response.headers["Content-Type"] = "application/octet-stream"
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        return response

    monkeypatch.setattr(request, "urlopen", serve)
    monkeypatch.setattr(download, "CHUNK", 4000)


def test_a_download_killed_anywhere_is_resumed_and_checked(server, tmp_path, count_points):
    digest, killed = hashlib.sha256(CONTENT).hexdigest(), 0
    for kill_at in range(1, 200, 5):
        path = tmp_path / str(kill_at) / "file"
        path.parent.mkdir()

        def act(path=path):
            download.download("https://host/file", path, sha256=digest)

        ended = count_points(act, kill_at, 2, modules=(io, download))
        if not ended:
            killed += 1
            assert not path.exists() or path.read_bytes() == CONTENT
            if not path.exists():
                act()
        assert path.read_bytes() == CONTENT
        assert json.loads((path.parent / "downloads.json").read_text())["file"]["sha256"] == digest
        if ended:
            break
    assert ended and killed > 8


def test_a_download_on_a_full_disk_names_the_file_and_is_resumed(server, tmp_path, full_beyond):
    path = tmp_path / "file"
    with full_beyond(5000), pytest.raises(OSError, match=r"file.part'$"):
        download.download("https://host/file", path)
    assert not path.exists() and (tmp_path / "file.part").read_bytes() == CONTENT[:5000]
    download.download("https://host/file", path)
    assert path.read_bytes() == CONTENT
