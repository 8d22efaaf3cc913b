import os
import subprocess
import sys

import pytest
import torch

from mowst import process
from mowst.process import (
    choose_threads,
    count_processors,
    prepare_process,
    share_threads,
    starting_workers,
)


def run(code, **variables):
    hidden = ("OMP_WAIT_POLICY", *process.THREAD_VARIABLES)
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment | variables
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


PRINT = "print(os.environ.get('OMP_WAIT_POLICY'), torch.get_num_threads())"
CALL = "from mowst.process import prepare_process; prepare_process()"


def test_waiting_threads_sleep_and_no_processor_has_two():
    found, error = run(f"import os; {CALL}; import torch; {PRINT}")
    assert found == ["PASSIVE", str(count_processors())] and error == ""


def test_importing_changes_nothing_and_after_torch_it_is_too_late():
    found, error = run(f"import os, torch, mowst; {PRINT}; {CALL}; {PRINT}")
    assert found[0] == found[2] == "None" and "torch was imported before" in error


def test_the_environment_takes_precedence(monkeypatch, caplog):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(process, "count_processors", lambda: 64)
    assert prepare_process() == torch.get_num_threads() == 1
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE" and not caplog.records


@pytest.mark.parametrize("quota", ["max 100000", "150000 100000", "50000 100000", ""])
def test_a_quota_bounds_the_processors(tmp_path, monkeypatch, quota):
    monkeypatch.setattr(process, "CGROUPS", tmp_path)
    without = count_processors()
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    allowed = {"150000 100000": 2, "50000 100000": 1}.get(quota, without)
    assert count_processors() == min(without, allowed)


def test_a_quota_of_the_first_version_bounds_them_too(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "CGROUPS", tmp_path)
    monkeypatch.setattr(process.Path, "read_text", lambda path: FILES[path.name])
    assert list(process._read_quotas()) == [(150000, 100000)]


FILES = {
    "cgroup": "4:cpu:/\n3:cpuset:/\n0::/",
    "cpu.cfs_quota_us": "150000\n",
    "cpu.cfs_period_us": "100000\n",
    "cpu.max": "max 100000",
}


def test_small_graphs_have_one_thread():
    assert choose_threads(num_nodes=2708, num_edges=10_556, hidden_channels=64) == 1
    assert choose_threads(num_nodes=169_343, num_edges=2_315_598, hidden_channels=256) == (
        count_processors()
    )


def test_workers_share_threads():
    assert [share_threads(workers, threads=8) for workers in (1, 3, 16)] == [8, 2, 1]
    assert share_threads(1) <= torch.get_num_threads()


def test_the_wait_policy_of_workers_is_theirs_alone(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with starting_workers():
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "OMP_WAIT_POLICY" not in os.environ
