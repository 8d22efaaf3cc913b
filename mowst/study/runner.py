r"""Runs the cells of a study in parallel processes, each cell once, whatever ends in between.

.. code-block:: text

    results.jsonl                      one line per ended run
    runs/<id>/history.jsonl            the epochs of a finished run
    runs/<id>/details.safetensors      its test nodes
    claims/<id>.lock                   locked while a process runs the cell
"""

import logging
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from mowst.allocator import keep_freed_memory
from mowst.data import data_root
from mowst.study.cell import Cell
from mowst.study.lines import RESULTS, append_line, claim, newest_lines, read_runs
from mowst.study.run import failed_line, run_cell
from mowst.train import environment

logger = logging.getLogger(__name__)

# A server that has imported the package forks the workers: each is a fresh process, but starts at once.
START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@dataclass(frozen=True)
class Job:
    r"""A cell to run.

    Args:
        cell: the cell.
        folder: the folder of the study.
        lines: how many lines it had when the job was made; more mean that another process has ended it since.
        root: the folder of the data sets.
        threads: the threads of its process.
        device: where to train.
        made_by: the environment of the runner.
    """

    cell: Cell
    folder: Path
    lines: int
    root: Path
    threads: int
    device: str | None
    made_by: dict[str, Any]

    @property
    def results(self) -> Path:
        return self.folder / RESULTS

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        r"""A context which tells whether the cell is this process's to run: no other runs it, or has ended it."""
        with claim(self.folder / "claims" / f"{self.cell.id}.lock") as mine:
            yield mine and len(self.written()) == self.lines

    def append(self, line: dict[str, Any]) -> None:
        r"""Appends the line of the cell."""
        append_line(self.results, line | {"environment": self.made_by | {"threads": self.threads}})

    def written(self) -> list[dict[str, Any]]:
        r"""The lines of the cell."""
        return [line for line in read_runs(self.folder) if line["id"] == self.cell.id]


def run_study(
    cells: Sequence[Cell],
    folder: str | PathLike[str],
    workers: int = 1,
    threads: int | None = None,
    root: str | Path | None = None,
    retry_failed: bool = False,
    device: str | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    r"""Runs the cells that a folder has no line of, each in a process of its own, and appends the line of each the
    moment it ends. A cell that fails, or whose process dies, is a line too. Other runners may work on the same folder;
    a cell that one of them is running is left to it.

    Args:
        cells (list[Cell]): The cells.
        folder (str): The folder of the study.
        workers (int, optional): Most cells at a time. (default: :obj:`1`)
        threads (int, optional): The threads that the workers share, by default those of this process.
            (default: :obj:`None`)
        root (str, optional): The folder of the data sets. (default: :obj:`None`)
        retry_failed (bool, optional): If set to :obj:`True`, cells whose newest line is a failure run again.
            (default: :obj:`False`)
        device (str, optional): Where to train. (default: :obj:`None`)
        report (callable, optional): Called with the line of each cell that this call ran. (default: :obj:`None`)

    Raises:
        ValueError: If there is no worker, or the lines of the folder are damaged.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    folder = Path(folder)
    (folder / "claims").mkdir(parents=True, exist_ok=True)
    lines = read_runs(folder)
    counts, status = Counter(line["id"] for line in lines), {line["id"]: line["status"] for line in newest_lines(lines)}
    made_by = environment()  # of now: a later commit is not the code that the workers load
    share = max(1, (threads or torch.get_num_threads()) // workers)
    jobs = [
        Job(cell, folder.resolve(), counts[cell.id], data_root(root).resolve(), share, device, made_by)
        for cell in {cell.id: cell for cell in cells}.values()
        if cell.id not in status or (retry_failed and status[cell.id] == "failed")
    ]
    for line in _run_jobs(jobs, workers):
        logger.info("%s, seed %s, split %s: %s", line["name"], line["seed"], line["split"], line["status"])
        if report:
            report(line)


def _run_jobs(jobs: Sequence[Job], workers: int) -> Iterator[dict[str, Any]]:
    context: Any = multiprocessing.get_context(START_METHOD)
    if START_METHOD == "forkserver":
        context.set_forkserver_preload([__name__])
    waiting = deque(jobs)
    running: dict[Any, tuple[Any, Job]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                if process := _start(context, job := waiting.popleft()):
                    running[process.sentinel] = process, job
            for sentinel in wait(list(running)):
                process, job = running.pop(sentinel)
                yield from _ended(process, job)
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _start(context: Any, job: Job) -> Any:
    # The worker claims for itself: a claim held here would end with this process while the worker goes on.
    with job.claimed() as free:
        pass
    if not free:
        return None
    process = context.Process(target=_work, args=(job,), name=job.cell.name)
    process.start()
    return process


def _work(job: Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner ends its workers
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    with job.claimed() as mine:
        if mine:
            job.append(_line(job))


def _line(job: Job) -> dict[str, Any]:
    try:
        return run_cell(job.cell, job.root, folder=job.folder / "runs" / job.cell.id, device=job.device)
    except Exception as error:
        return failed_line(job.cell, error)


def _ended(process: Any, job: Job) -> Iterator[dict[str, Any]]:
    process.join()
    if process.exitcode:
        with job.claimed() as mine:
            if mine:
                job.append(failed_line(job.cell, f"its process {_cause(process.exitcode)}"))
    yield from job.written()[job.lines :][-1:]


def _cause(exitcode: int) -> str:
    if exitcode != -signal.SIGKILL:
        return f"was ended by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with status {exitcode}"
    return "was killed (SIGKILL), perhaps because memory ran out"
