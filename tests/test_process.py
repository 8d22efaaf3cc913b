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


def run(code, stdout=subprocess.PIPE):
    hidden = ("OMP_WAIT_POLICY", *process.THREAD_VARIABLES)
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_waiting_threads_of_a_command_sleep_and_it_ends_silently_when_its_reader_has_enough():
    code = """
import os, sys
from mowst.cli import main
status = main(["datasets"])
import torch
print(os.environ["OMP_WAIT_POLICY"], torch.get_num_threads(), file=sys.stderr)
sys.exit(status)
"""
    reader, writer = os.pipe()
    os.close(reader)
    done = run(code, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, f"PASSIVE {count_processors()}\n")


def test_importing_changes_nothing_and_after_torch_it_is_too_late():
    code = """
import os, sys
from pathlib import Path

import torch

import mowst.sparse.memory
from mowst.process import prepare_process

def read_resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def free_100_mib():
    before = read_resident_mib()
    block = torch.ones(25 * 2**20)
    del block
    return read_resident_mib() - before

def show():
    is_kept = free_100_mib() > 50 if sys.platform.startswith("linux") else None
    print(os.environ.get("OMP_WAIT_POLICY"), is_kept)

show()
prepare_process()
show()
"""
    done = run(code)
    is_linux = sys.platform.startswith("linux")
    kept = ("False", "True") if is_linux else ("None", "None")
    assert done.stdout.split() == ["None", kept[0], "None", kept[1]], done.stderr
    assert "torch was imported before" in done.stderr


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
