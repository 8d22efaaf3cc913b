r"""Studies and sweeps whose processes are all killed at random times end like undisturbed ones, and
lose nothing that was finished. Both tests together take about five minutes on two cores.
"""

import os
import random
import signal
import subprocess
import sys

import optuna
import pytest

from mowst.study import run_study
from mowst.study.lines import read_runs, select_newest
from mowst.study.run_spec import expand
from mowst.study.storage import open_storage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="processes are killed as a group"),
]
QUICK = {"epochs": 3, "rounds": 1, "hidden_channels": 8, "gate_folds": 2}
ROWS = [{"data": "digits", "method": ["mowst", "strong"], "seeds": 4, **QUICK}]
CALLS = {
    "study": f"""
from mowst.study import run_study
from mowst.study.run_spec import expand
run_study(expand({ROWS}), "study", workers=2, threads=2, retry_failed=True)
""",
    "sweep": f"""
from mowst.study import sweep
sweep("digits", trials=6, storage="sweep.log", workers=2, threads=2, settings={QUICK})
""",
}
KILLS = 6
NOT_REPEATED = {"seconds", "total_seconds", "peak_mib", "environment"}


def run_under_kills(name, folder, check):
    r"""Runs a call whose processes are killed at random times, then once to its end."""
    seed = random.randrange(1000)
    print(f"seed {seed}")  # shown if the test fails
    draw = random.Random(seed)
    command = [sys.executable, "-c", f"if __name__ == '__main__':{indent(CALLS[name])}"]
    for _ in range(KILLS):
        process = subprocess.Popen(command, cwd=folder, process_group=0)
        try:
            if process.wait(timeout=draw.uniform(4, 16)) == 0:
                break
            raise AssertionError("the call failed")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        check()
    subprocess.run(command, cwd=folder, check=True, timeout=400)


def indent(text):
    return text.replace("\n", "\n    ")


def list_results(folder):
    found = {}
    for line in select_newest(read_runs(folder, reported=True)):
        found[line["id"]] = {key: line[key] for key in line.keys() - NOT_REPEATED}
    return found


def test_a_study_ends_with_the_table_of_an_undisturbed_one(tmp_path):
    before = {}

    def check():
        now = list_results(tmp_path / "study")
        assert all(now[id] == line for id, line in before.items()), "a finished run was lost"
        before.update(now)

    run_under_kills("study", tmp_path, check)
    run_study(expand(ROWS), tmp_path / "undisturbed", threads=1)
    assert list_results(tmp_path / "study") == list_results(tmp_path / "undisturbed")
    assert len(read_runs(tmp_path / "study")) == 8  # none was trained twice


def test_a_sweep_on_a_journal_loses_no_finished_trial(tmp_path):
    before = {}

    def list_trials():
        storage = open_storage(str(tmp_path / "sweep.log"))
        if not optuna.get_all_study_names(storage):
            return {}
        (name,) = optuna.get_all_study_names(storage)
        trials = optuna.load_study(study_name=name, storage=storage).get_trials()
        ended = [trial for trial in trials if trial.state.name in ("COMPLETE", "PRUNED")]
        return {trial.number: (trial.params, trial.values) for trial in ended}

    def check():
        now = list_trials()
        assert all(now[number] == trial for number, trial in before.items())
        before.update(now)

    run_under_kills("sweep", tmp_path, check)
    check()
    assert len(list_trials()) == 6
