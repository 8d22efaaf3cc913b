r"""A sweep that is killed in the middle and started again.

    python experiments/kill_sweep.py sqlite:///kill.db --root DATA
    python experiments/kill_sweep.py kill.journal --root DATA
    python experiments/kill_sweep.py postgresql://postgres@localhost:5433/postgres --root DATA

Each runs `mowst sweep cora --strong gcn --trials 30 --workers 2` on that storage, kills it with its
workers by SIGKILL once a dozen trials are finished, and runs it again. The trials before and after
are a line of results/kill_sweep.jsonl. A PostgreSQL server, on Debian:

    apt-get install postgresql; pip install "psycopg[binary]"
    su postgres; cd $(mktemp -d); PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
    initdb -A trust -D data; pg_ctl -D data -o "-p 5433 -k $PWD" -l log start

With MOWST_TEST_POSTGRES=postgresql://postgres@localhost:5433/postgres the tests use it too:
pytest -m slow tests/study/test_sweep.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
from jsonargparse import auto_cli

from mowst.study.storage import open_storage
from mowst.train import environment

OUT = Path(__file__).parent / "results" / "kill_sweep.jsonl"
SETTINGS = {"epochs": 40, "patience": 10, "rounds": 1, "hidden_channels": 64}
ENDED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)


def main(
    storage: str, root: str | None = None, trials: int = 30, kill_at: int = 12, out: Path = OUT
) -> None:
    r"""Sweeps, kills the sweep, and sweeps again.

    Args:
        storage: storage of the trials.
        root: folder of the data sets.
        trials: trials of the sweep.
        kill_at: how many are finished when the sweep is killed.
        out: file to append a line to.
    """
    name, start = f"killed {time.time():.0f}", time.time()
    command = [
        sys.executable,
        "-m",
        "mowst",
        "sweep",
        "cora",
        "--strong",
        "gcn",
        "--trials",
        str(trials),
    ]
    command += ["--storage", storage, "--study_name", name, "--workers", "2", "--threads", "2"]
    command += ["--settings", json.dumps(SETTINGS)]
    if root:
        command += ["--root", root]
    sweep = subprocess.Popen(command, start_new_session=True)
    _wait_for(sweep, storage, name, kill_at)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    before = _read_trials(storage, name)
    killed = time.time()
    subprocess.run(command, check=True)
    after = _read_trials(storage, name)
    kind = "journal"
    if "://" in storage:
        kind = storage.partition(":")[0]
    line = {
        "storage": kind,
        "sweep": f"cora gcn mowst, {trials} trials, 2 workers",
        "settings": SETTINGS,
    }
    line |= {
        "before": _count_states(before),
        "after": _count_states(after),
        **compare(before, after),
    }
    line |= {"studies": optuna.get_all_study_names(open_storage(storage)).count(name)}
    line |= {
        "seconds_before": round(killed - start, 1),
        "seconds_after": round(time.time() - killed, 1),
    }
    made_by = environment()
    line["environment"] = {key: made_by[key] for key in ("commit", "python", "versions", "machine")}
    with open(out, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line, indent=2))


def compare(before: list[Any], after: list[Any]) -> dict[str, int]:
    r"""Counts the finished trials that were kept as they were, lost, or run twice, and the failed
    ones that ran again.
    """
    finished_before = [trial for trial in before if trial.state in ENDED]
    finished = [trial for trial in after if trial.state in ENDED]
    described = [_describe(trial) for trial in finished]
    kept = sum(_describe(trial) in described for trial in finished_before)
    parameters = {json.dumps(trial.params, sort_keys=True) for trial in finished}
    run_again = 0
    for trial in after:
        if trial.state == optuna.trial.TrialState.FAIL:
            run_again += any(trial.params.items() <= other.params.items() for other in finished)
    return {
        "finished_trials_kept": kept,
        "finished_trials_lost": len(finished_before) - kept,
        "duplicates": len(finished) - len(parameters),
        "broken_trials_run_again": run_again,
    }


def _wait_for(sweep: subprocess.Popen, storage: str, name: str, number: int) -> None:
    while sweep.poll() is None:
        time.sleep(1)
        if sum(trial.state in ENDED for trial in _read_trials(storage, name)) >= number:
            return
    raise RuntimeError(
        f"the sweep ended with status {sweep.returncode} before {number} trials were finished"
    )


def _read_trials(storage: str, name: str) -> list[Any]:
    opened = open_storage(storage)
    if name not in optuna.get_all_study_names(opened):
        return []
    return optuna.load_study(study_name=name, storage=opened).get_trials()


def _count_states(trials: list[Any]) -> dict[str, int]:
    return dict(Counter(trial.state.name for trial in trials))


def _describe(trial: Any) -> tuple:
    return trial.number, trial.params, trial.values, trial.state, trial.user_attrs.get("values")


if __name__ == "__main__":
    auto_cli(main)
