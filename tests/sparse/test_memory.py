import subprocess
import sys

import pytest
import torch

from mowst.sparse import memory
from mowst.sparse.memory import advise_large_pages, keep_freed_memory

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="glibc and madvise are Linux's"
)


@pytest.mark.parametrize("shape", [(0, 4), (3, 5), (1024, 3000)])
def test_large_pages_hold_what_is_written(shape):
    fresh = torch.empty(shape)
    advised = advise_large_pages(fresh)
    assert advised is fresh
    values = torch.rand(shape)
    assert advised.copy_(values).equal(values)


def test_without_linux_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(memory, "_libc", None)
    assert not keep_freed_memory()
    assert advise_large_pages(torch.zeros(1024, 3000)).eq(0).all()


@linux
def test_freed_memory_stays_in_the_process_only_after_the_call():
    code = """
import torch
from pathlib import Path
import mowst
from mowst.sparse.memory import keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def left_after_100_mib():
    before = resident()
    block = torch.ones(25 * 2**20)
    del block
    return resident() - before

assert left_after_100_mib() < 20, "importing the package changed the allocator"
assert keep_freed_memory()
assert left_after_100_mib() > 80
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
