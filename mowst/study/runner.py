r"""Runs a study in parallel processes. Each run is trained once, even after interruptions.

.. code-block:: text

    results.jsonl                      one line per ended run
    runs/<id>/history.jsonl            the records of a finished run
    runs/<id>/details.safetensors      its test nodes
    claims/<id>.lock                   locked while a process trains the run
"""

import logging
import multiprocessing
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from mowst.data import data_root
from mowst.data.registry import BUILT_IN, DATASETS, register_dataset
from mowst.nn.registry import list_entries, register_entries
from mowst.process import share_threads, starting_workers
from mowst.sparse.memory import keep_freed_memory
from mowst.study.lines import RESULTS, append_line, claim, read_runs, select_newest
from mowst.study.run import make_failed_line, run_one
from mowst.study.run_spec import RunSpec
from mowst.train.environment import environment

logger = logging.getLogger(__name__)

# On Linux, a server that has imported the package, and what training imports lazily, forks the
# workers. Windows cannot fork, and on macOS a fork of a process with threads may crash.
PRELOADED = (
    *("sklearn.datasets", "sklearn.model_selection", "sklearn.neighbors", "scipy.optimize"),
    *("torchmetrics.functional", "threadpoolctl"),
)
START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"


@dataclass(frozen=True)
class _PlannedRun:
    # A run to train, and what its process needs. num_lines is the number of lines that the run had
    # when it was planned: more lines mean that another process has ended it in between.
    spec: RunSpec
    folder: Path
    num_lines: int
    root: Path
    threads: int
    device: str | None
    made_by: dict[str, Any]
    names: "RegisteredNames"

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        r"""A context whose value is whether this process may train the run: no other process is
        training it or has ended it.
        """
        with claim(self.folder / "claims" / f"{self.spec.id}.lock") as mine:
            yield mine and len(self.read_lines()) == self.num_lines

    def append_line(self, line: dict[str, Any]) -> None:
        line["environment"] = {**self.made_by, "threads": self.threads}
        append_line(self.folder / RESULTS, line)

    def read_lines(self) -> list[dict[str, Any]]:
        return [line for line in read_runs(self.folder) if line["id"] == self.spec.id]


def run_study(
    specs: Sequence[RunSpec],
    folder: str | PathLike[str],
    workers: int = 1,
    threads: int | None = None,
    root: str | Path | None = None,
    retry_failed: bool = False,
    device: str | None = None,
    report: Callable[[dict[str, Any], int], None] | None = None,
) -> None:
    r"""Trains the runs that have no line in a folder yet, each in its own process, and appends
    their lines. A run that fails, or whose process dies, gets a line too. Several calls may work on
    one folder; each run is trained by one of them.

    Args:
        specs (list[RunSpec]): The runs.
        folder (str): The folder of the study.
        workers (int, optional): The maximum number of runs at a time. (default: :obj:`1`)
        threads (int, optional): The number of threads that the workers share, by default that of
            this process. (default: :obj:`None`)
        root (str, optional): The folder of the data sets. (default: :obj:`None`)
        retry_failed (bool, optional): If set to :obj:`True`, runs whose newest line is a failure
            are trained again. (default: :obj:`False`)
        device (str, optional): Where to train. (default: :obj:`None`)
        report (callable, optional): Called with the line of each run that this call trained, and
            the number of runs that are left. (default: :obj:`None`)

    Raises:
        ValueError: If :obj:`workers` is below 1, or a line of the folder is damaged.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    folder = Path(folder)
    (folder / "claims").mkdir(parents=True, exist_ok=True)
    lines = read_runs(folder)
    counts = Counter(line["id"] for line in lines)
    status = {line["id"]: line["status"] for line in select_newest(lines)}
    made_by = environment()  # now: a later commit is not the code that the workers import
    names = RegisteredNames()
    share = share_threads(workers, threads)
    planned = []
    for spec in {spec.id: spec for spec in specs}.values():
        if spec.id not in status or (retry_failed and status[spec.id] == "failed"):
            place = folder.resolve(), counts[spec.id], data_root(root).resolve()
            planned.append(_PlannedRun(spec, *place, share, device, made_by, names))
    for line, left in _run_all(planned, workers):
        place = line["name"], line["seed"], line["split"]
        logger.info("%s, seed %s, split %s: %s", *place, line["status"])
        if report:
            report(line, left)


class RegisteredNames:
    r"""What this process knows by name: experts, gates, methods and data sets. A worker process,
    which starts without the registrations of the user, registers them again when it receives this
    object.
    """

    def __init__(self) -> None:
        self.entries = list_entries()
        self.datasets = [info for name, info in DATASETS.items() if name not in BUILT_IN]

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        register_entries(self.entries)
        for info in self.datasets:
            if info.name not in DATASETS:
                register_dataset(info)


def make_context(*preloaded: str) -> Any:
    r"""Returns the multiprocessing context of workers, which have some modules imported."""
    context: Any = multiprocessing.get_context(START_METHOD)
    if START_METHOD == "forkserver":
        context.set_forkserver_preload([*PRELOADED, *preloaded])
    return context


def _run_all(planned: Sequence[_PlannedRun], workers: int) -> Iterator[tuple[dict[str, Any], int]]:
    # The line of each run, and the number of runs that are left.
    context = make_context(__name__)
    waiting = deque(planned)
    running: dict[Any, tuple[Any, _PlannedRun]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                run = waiting.popleft()
                process = _start_worker(context, run)
                if process is not None:
                    running[process.sentinel] = process, run
            for sentinel in wait(list(running)):
                process, run = running.pop(sentinel)
                process.join()
                line = _read_new_line(run, process.exitcode)
                if line is not None:
                    yield line, len(waiting) + len(running)
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _start_worker(context: Any, run: _PlannedRun) -> Any:
    # The worker claims the run again: a lock held here would be released with this process while
    # the worker continues.
    with run.claimed() as free:
        pass
    if not free:
        return None
    process = context.Process(target=_work, args=(run,), name=run.spec.name)
    with starting_workers():
        process.start()
    return process


def _work(run: _PlannedRun) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends its workers
    torch.set_num_threads(run.threads)
    keep_freed_memory()
    with run.claimed() as mine:
        if not mine:
            return
        try:
            folder = run.folder / "runs" / run.spec.id
            line = run_one(run.spec, run.root, folder=folder, device=run.device)
        except Exception as error:
            line = make_failed_line(run.spec, error)
        run.append_line(line)


def _read_new_line(run: _PlannedRun, exitcode: int) -> dict[str, Any] | None:
    if exitcode:
        with run.claimed() as mine:
            if mine:
                error = f"its process {describe_exit(exitcode)}"
                run.append_line(make_failed_line(run.spec, error))
    lines = run.read_lines()[run.num_lines :]
    return lines[-1] if lines else None


def describe_exit(exitcode: int) -> str:
    r"""Returns how a process ended."""
    if exitcode >= 0:
        return f"ended with status {exitcode}"
    name = signal.Signals(-exitcode).name
    if name == "SIGKILL":
        return "was killed (SIGKILL), perhaps because memory ran out"
    return f"was ended by {name}"
