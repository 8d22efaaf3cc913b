import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from mowst.study import RunSpec, read_lines, run_study, select_newest
from mowst.study.runner import describe_exit

QUICK = {"epochs": 2, "rounds": 1, "hidden_channels": 4, "pretrain": "none", "gate_folds": 2}
EXPERTS = """
    import os, signal, time
    from pathlib import Path
    from mowst import GCN

    class Note(GCN):  # tells that it ran
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            with open("ran.txt", "a") as file:
                file.write(f"{os.getpid()}\\n")

    class Failing(Note):
        def forward(self, *args, **kwargs):
            if not Path("repaired").exists():
                raise RuntimeError("broken on purpose")
            return super().forward(*args, **kwargs)

    class Killed(Note):
        def forward(self, *args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)

    class Waiting(Note):
        def forward(self, *args, **kwargs):
            while not Path("go").exists():
                time.sleep(0.01)
            return super().forward(*args, **kwargs)
"""

CALL = f"run_study([RunSpec('csbm', 'own.Waiting', 'strong', 0, 0, {QUICK})], 'study')"
RUNNER = [sys.executable, "-c", f"from mowst.study import *; {CALL}"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(textwrap.dedent(EXPERTS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def spec(strong="gcn", seed=0):
    return RunSpec("csbm", strong, "strong", seed, seed, QUICK)


def status(folder):
    return {
        (line["strong"], line["seed"]): line["status"]
        for line in select_newest(read_lines(folder / "results.jsonl"))
    }


def ran(here):
    path = here / "ran.txt"
    return path.read_text().split() if path.exists() else []


def running(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def until(condition):
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end, "it did not happen in 40 s"
        time.sleep(0.01)


def test_failures_and_deaths_are_lines_and_the_other_cells_go_on(here):
    specs = [spec("own.Killed"), spec("own.Failing"), spec("own.Note"), spec("own.Note", seed=1)]
    shown, left = [], []

    def report(line, count):
        shown.append(line)
        left.append(count)

    run_study(specs, "study", workers=2, threads=2, report=report)
    expected = dict.fromkeys([("own.Note", 0), ("own.Note", 1)], "finished")
    expected |= dict.fromkeys([("own.Failing", 0), ("own.Killed", 0)], "failed")
    assert status(here / "study") == expected and len(shown) == 4
    assert left == [3, 2, 1, 0]
    lines = {line["strong"]: line for line in shown}
    assert lines["own.Failing"]["error"].startswith("RuntimeError: broken on purpose (line ")
    assert "SIGKILL" in lines["own.Killed"]["error"]
    assert lines["own.Note"]["environment"]["threads"] == 1
    assert (here / "study" / "runs" / specs[2].id / "details.safetensors").exists()
    assert len(set(ran(here))) == 4, "each run has a process of its own"

    run_study(specs, "study", workers=2)
    assert len(ran(here)) == 4, "what has a line does not run again"
    (here / "repaired").touch()
    run_study(specs, "study", retry_failed=True)
    assert len(ran(here)) == 6 and status(here / "study") == expected | {
        ("own.Failing", 0): "finished"
    }


def test_two_runners_on_one_folder_never_run_a_cell_twice(here):
    specs = [spec("own.Failing"), *(spec("own.Note", seed) for seed in range(4))]
    runners = [
        threading.Thread(target=run_study, args=(order, "study", 2), kwargs={"threads": 2})
        for order in (specs, specs[::-1])
    ]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert len(ran(here)) == 5
    assert Counter(line["id"] for line in read_lines("study/results.jsonl")) == {
        spec.id: 1 for spec in specs
    }


def test_a_running_cell_is_left_to_its_runner_and_a_killed_one_runs_again(here):
    waiting = spec("own.Waiting")
    runner = threading.Thread(target=run_study, args=([waiting], "study"), daemon=True)
    runner.start()
    until(lambda: ran(here))
    run_study([waiting, spec("own.Note")], "study")
    assert status(here / "study") == {("own.Note", 0): "finished"}
    os.kill(int(ran(here)[0]), signal.SIGKILL)
    runner.join()
    assert status(here / "study")["own.Waiting", 0] == "failed"
    (here / "go").touch()
    run_study([waiting], "study", retry_failed=True)
    assert status(here / "study")["own.Waiting", 0] == "finished"


@pytest.mark.slow
def test_a_killed_runner_and_its_worker_leave_nothing_behind(here):
    # A session of its own, so that the runner's workers are killed with it.
    runner = subprocess.Popen(RUNNER, start_new_session=True)
    until(lambda: ran(here))
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    until(lambda: not running(ran(here)[0]))
    assert status(here / "study") == {}
    (here / "go").touch()
    run_study([spec("own.Waiting")], "study")
    assert status(here / "study") == {("own.Waiting", 0): "finished"}


def test_an_interrupted_runner_ends_its_workers(here):
    def interrupt(line, left):
        until(lambda: len(ran(here)) == 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study([spec("own.Note"), spec("own.Waiting")], "study", workers=2, report=interrupt)
    assert not any(running(worker) for worker in ran(here))
    assert status(here / "study") == {("own.Note", 0): "finished"}


def test_impossible_numbers_of_workers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="workers must be at least 1"):
        run_study([], tmp_path, workers=0)


def test_an_exit_is_described_where_signals_are_missing(monkeypatch):
    assert "memory" in describe_exit(-signal.SIGKILL)
    monkeypatch.delattr(signal, "SIGKILL")  # as on Windows
    assert describe_exit(-signal.SIGTERM) == "was ended by SIGTERM"
    assert describe_exit(3) == "ended with status 3"
