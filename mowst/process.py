r"""How a process uses the processors: how many threads compute, and how they wait.

OpenMP's threads spin while they wait for each other. Where another process needs the processor,
each parallel operation then waits for a time slice, and small graphs train many times slower. The
command line program therefore calls :func:`prepare_process` at its start. Importing the package
changes nothing.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

# Variables with which a person chooses the number of threads.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
CGROUPS = Path("/sys/fs/cgroup")
# Hidden values of the nodes and edges of a graph, below which a second thread costs time.
MIN_VALUES = 4 * 2**20


def prepare_process() -> int:
    r"""Prepares this process for training on processors that it shares with others. Call it before
    torch is imported:

    .. code-block:: python

        from mowst.process import prepare_process

        prepare_process()
        import torch

    Waiting threads sleep (:obj:`OMP_WAIT_POLICY=PASSIVE`), torch computes with at most as many
    threads as :func:`count_processors`, and freed memory is kept, see
    :func:`~mowst.sparse.memory.keep_freed_memory`. Variables that are set in the environment take
    precedence. If torch has been imported already, the waiting cannot be changed, which is logged
    as a warning.

    Returns:
        int: The number of threads.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        if "torch" in sys.modules:
            logger.warning(
                "torch was imported before prepare_process(): waiting threads spin; call it first, "
                "or set OMP_WAIT_POLICY=PASSIVE"
            )
        else:
            os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    import torch

    from mowst.sparse.memory import keep_freed_memory

    keep_freed_memory()
    if not are_threads_chosen():
        torch.set_num_threads(min(torch.get_num_threads(), count_processors()))
    return torch.get_num_threads()


def are_threads_chosen() -> bool:
    r"""Whether the environment sets the number of threads."""
    return any(name in os.environ for name in THREAD_VARIABLES)


def choose_threads(num_nodes: int, num_edges: int, hidden_channels: int) -> int:
    r"""Returns the number of threads with which a GNN trains fastest: 1 on a small graph, where
    threads wait for each other most of the time, and else those of :func:`count_processors`. The
    load of the machine is not considered, since results depend on the number of threads in the last
    bits.
    """
    is_small = (num_nodes + num_edges) * hidden_channels < MIN_VALUES
    return 1 if is_small else count_processors()


def count_processors() -> int:
    r"""Returns the number of processors that this process may use: those of its affinity, and of
    the CPU quota of its container (cgroups, both versions), rounded up.
    """
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    for quota, period in _read_quotas():
        count = min(count, max(1, -(-quota // period)))
    return count


def share_threads(workers: int, threads: int | None = None) -> int:
    r"""Returns the number of threads of each of several worker processes.

    Args:
        workers (int): The number of processes.
        threads (int, optional): The number of threads that they share; that of torch in this
            process, at most :func:`count_processors`, if :obj:`None`. (default: :obj:`None`)
    """
    if threads is None:
        import torch

        threads = min(torch.get_num_threads(), count_processors())
    return max(1, threads // workers)


@contextmanager
def starting_workers() -> Iterator[None]:
    r"""A context in which processes are started whose waiting threads sleep."""
    if "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    try:
        yield
    finally:
        del os.environ["OMP_WAIT_POLICY"]


def _read_quotas() -> Iterator[tuple[int, int]]:
    # The quotas of the groups that this process is in, and of those around them.
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / controllers
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if controllers:
                texts = [_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
            else:
                texts = _read(folder / "cpu.max").split()
            if len(texts) == 2 and all(text.isdigit() for text in texts):  # not max, and not -1
                yield int(texts[0]), int(texts[1])
            if folder == root:
                break


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
