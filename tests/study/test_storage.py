import os
import socket
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from mowst.study import storage as module
from mowst.study.storage import claim_trial, identify_process, open_storage, recover_trials

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


@pytest.fixture(params=["sqlite", "journal", "memory"])
def study(request, tmp_path):
    places = {
        "sqlite": f"sqlite:///{tmp_path}/sweep.db",
        "journal": f"{tmp_path}/sweep.log",
        "memory": None,
    }
    return optuna.create_study(storage=open_storage(places[request.param]))


def begin(study, owner=None):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    if owner:
        trial.set_user_attr("process", owner)
    return trial


def states(study):
    return Counter(trial.state.name for trial in study.trials)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked")
def test_a_living_process_is_told_from_a_dead_one_and_from_a_later_one_of_its_id():
    mine = identify_process(os.getpid())
    assert mine[:2] == [socket.gethostname(), str(os.getpid())]
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert identify_process(child) is None  # a zombie
    os.waitpid(child, 0)
    assert identify_process(child) is None


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_without_proc_a_process_is_looked_up_without_harm(monkeypatch, platform):
    monkeypatch.setattr(module, "Path", lambda _: SimpleNamespace(exists=lambda: False))
    monkeypatch.setattr(module.sys, "platform", platform)
    sent = []

    def kill(pid, number):
        sent.append((pid, number))
        if pid == 2:
            raise ProcessLookupError

    monkeypatch.setattr(module.os, "kill", kill)
    assert identify_process(1) == [socket.gethostname(), "1", ""]
    # On Windows, os.kill ends the process, so every process counts as running.
    assert (identify_process(2) is None) == (platform == "darwin")
    assert sent == ([(1, 0), (2, 0)] if platform == "darwin" else [])


def test_a_journal_needs_no_symbolic_link(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "symlink")  # which Windows refuses to most users
    place = tmp_path / "sweep.log"
    study = optuna.create_study(storage=open_storage(str(place)))
    study.enqueue_trial({"x": 0.5})
    with open(place, "a") as file:
        file.write("torn")
    found = optuna.load_study(study_name=study.study_name, storage=open_storage(str(place)))
    assert found.trials[0].state.name == "WAITING"


def test_trials_of_dead_processes_run_again_with_their_parameters(study):
    host, number, start = identify_process(os.getpid())
    dead = begin(study, [host, number, start + "0"])
    claim_trial(begin(study))
    begin(study, ["elsewhere", "1", "1"])
    begin(study)  # began just now: its process will write its name
    assert recover_trials(study) == 1
    assert states(study) == {"FAIL": 1, "RUNNING": 3, "WAITING": 1}
    assert recover_trials(study) == 0
    again = begin(study)
    assert again.params == dead.params and again.number == 4


def test_a_trial_is_run_at_most_three_times(study):
    begin(study, [socket.gethostname(), "0", ""])
    for run in range(3):
        assert recover_trials(study) == 1
        assert states(study)["WAITING"] == (run < 2)
        begin(study, [socket.gethostname(), "0", ""]) if run < 2 else None
    assert states(study) == {"FAIL": 3}


def test_a_relational_storage_hears_when_a_process_elsewhere_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GRACE_SECONDS", 1)
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/sweep.db"))
    trial = begin(study, ["elsewhere", "1", "1"])
    study._storage.record_heartbeat(trial._trial_id)
    recover_trials(study)
    assert states(study) == {"RUNNING": 1}
    time.sleep(2.1)
    recover_trials(study)
    assert states(study) == {"FAIL": 1, "WAITING": 1}


def test_sqlite_gives_a_waiting_trial_to_one_process_only(tmp_path):
    place = f"sqlite:///{tmp_path}/sweep.db"
    one, other = open_storage(place), open_storage(place)
    study = optuna.create_study(storage=one, study_name="s")
    study.enqueue_trial({"x": 0.5})
    with (
        one.engine.begin() as reader,
        closing(sqlite3.connect(tmp_path / "sweep.db", timeout=0)) as writer,
    ):
        reader.exec_driver_sql("SELECT * FROM trials")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            writer.execute("UPDATE trials SET state = 'RUNNING'")
    assert other.set_trial_state_values(study.trials[0]._trial_id, TrialState.RUNNING)
    assert not one.set_trial_state_values(study.trials[0]._trial_id, TrialState.RUNNING)


def test_processes_that_open_a_new_database_at_once_all_get_it(tmp_path):
    place = f"sqlite:///{tmp_path}/sweep.db"
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(open_storage, [place] * 4))
    optuna.create_study(storage=opened[0], study_name="s")
    assert all(
        [study.study_name for study in storage.get_all_studies()] == ["s"] for storage in opened
    )


@pytest.mark.parametrize("place", ["sweep.db", "sweep.txt", ""])
def test_a_place_that_is_no_storage_is_refused(place):
    with pytest.raises(ValueError, match=r"sqlite:///.*postgresql.*\.log or \.journal"):
        open_storage(place)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("sqlite:///note.txt", "file is not a database"),
        ("journal:///sweep.db", "journal"),
        ("sqlite:///note.txt/sweep.db", "exists"),
        ("note.log", "note.log, line 1 is damaged"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named(tmp_path, monkeypatch, place, why):
    monkeypatch.chdir(tmp_path)
    for name in ("note.txt", "note.log"):
        (tmp_path / name).write_text("this is no storage\n" * 100)
    with pytest.raises(
        ValueError,
        match=rf"the storage '{place}' cannot be opened \(.*{why}.*\): give a URL such as",
    ):
        open_storage(place)


@pytest.mark.parametrize("line", ["{}", '{"id": "a"}', '{"op_code": 99, "worker_id": "w"}'])
def test_lines_of_something_else_are_no_journal(tmp_path, line):
    (tmp_path / "s.log").write_text(f"{line}\n")
    with pytest.raises(ValueError, match="it is not a journal of this version of Optuna"):
        open_storage(f"{tmp_path}/s.log")


def test_a_line_behind_which_lines_would_be_lost_is_named(tmp_path):
    path = tmp_path / "s.log"
    optuna.create_study(storage=open_storage(str(path)))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20] + whole)
    with pytest.raises(ValueError, match="s.log, line 2 is damaged"):
        open_storage(str(path))


def test_a_journal_cut_in_its_last_record_loses_that_record_only(tmp_path):
    path = tmp_path / "s.log"
    study = optuna.create_study(storage=open_storage(str(path)), study_name="s")
    for number in range(2):
        trial = study.ask()
        study.tell(trial, float(number))
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole), 10):
        # Some file systems fill a lost block with zeros.
        cut = whole[:end] + b"\0" * (end % 3)
        path.write_bytes(cut)
        study = optuna.load_study(study_name="s", storage=open_storage(str(path)))
        assert [t.value for t in study.trials] == [0, None]
        assert path.read_bytes() == cut, "reading changes nothing"
        study.set_user_attr("end", end)
        study = optuna.load_study(study_name="s", storage=open_storage(str(path)))
        assert [t.value for t in study.trials] == [0, None] and study.user_attrs["end"] == end


def test_a_line_that_another_process_cut_is_removed_by_the_next_writer(tmp_path):
    path = tmp_path / "s.log"
    study = optuna.create_study(storage=open_storage(str(path)), study_name="s")
    with open(path, "ab") as other:
        other.write(b'{"op_code": 2, "wor')
    study.set_user_attr("a", 1)
    again = optuna.load_study(study_name="s", storage=open_storage(str(path)))
    assert again.user_attrs == study.user_attrs == {"a": 1}


def test_the_age_of_a_lock_is_known_in_any_folder(tmp_path, monkeypatch):
    # Optuna waits forever for a dead process if it cannot read the age of its lock.
    monkeypatch.chdir(tmp_path)
    storage = open_storage("folder/s.log")
    storage._backend._lock.acquire()
    assert time.time() - os.stat("folder/s.log.lock").st_mtime < 60


def test_folders_of_a_storage_are_made(tmp_path):
    for place in (f"sqlite:///{tmp_path}/a/sweep.db", f"{tmp_path}/b/sweep.log"):
        optuna.create_study(storage=open_storage(place))
    assert (tmp_path / "a" / "sweep.db").is_file() and (tmp_path / "b" / "sweep.log").is_file()
