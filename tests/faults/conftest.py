r"""Processes that are killed at a point of a write, and disks that are full."""

import os
import signal
from contextlib import contextmanager

import pytest

from mowst import io


class Points:
    r"""The points of the writes of a process, at one of which it is killed."""

    def __init__(self, kill_at, pieces, modules):
        self.kill_at, self.pieces, self.passed = kill_at, pieces, 0
        self.modules = modules

    def __call__(self):
        self.passed += 1
        if self.passed == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        for module in self.modules:
            module.open = self.open
        for name in ("replace", "fsync", "unlink"):
            setattr(os, name, self.around(getattr(os, name)))

    def around(self, function):
        def call(*args, **kwargs):
            self()
            value = function(*args, **kwargs)
            self()
            return value

        return call

    def open(self, *args, **kwargs):
        self()
        file = open(*args, **kwargs)  # noqa: SIM115
        write = file.write

        def in_pieces(content):
            size = max(1, len(content) // self.pieces)
            for start in range(0, len(content), size):
                write(content[start : start + size])
                file.flush()
                self()
            return len(content)

        file.write = in_pieces
        self()
        return file


def run_and_count(act, kill_at=0, pieces=4, modules=(io,)):
    r"""Returns the number of points that a process passed until its end, or None if it was killed
    at one of them.
    """
    reader, writer = os.pipe()
    if not (child := os.fork()):
        try:
            (points := Points(kill_at, pieces, modules)).install()
            act()
            os.write(writer, str(points.passed).encode())
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as file:
        passed = file.read()
    assert os.WIFSIGNALED(status) or passed, "the process failed before it was killed"
    return int(passed) if passed else None


@pytest.fixture
def count_points():
    return run_and_count


@contextmanager
def fill_disk(size):
    r"""A context in which no file can grow beyond a size."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def full_beyond():
    return fill_disk
