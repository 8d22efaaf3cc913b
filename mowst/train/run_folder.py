r"""The folder of one run: what made it, how it went, what it reached."""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from mowst.io import atomic_write, read_yaml, write_json, write_yaml
from mowst.nn.cascade import Cascade
from mowst.train.checkpoint import read_checkpoint, write_checkpoint
from mowst.train.scores import FitResult

LOCK = ".lock"


class RunFolder:
    r"""A folder that holds one run.

    .. code-block:: text

        config.yaml             every setting
        env.json                command, versions, commit, machine
        metrics.jsonl           one record per evaluated epoch
        checkpoint.safetensors  while it runs: all that is needed to go on
        result.json             when it is finished: the scores
        best.safetensors        the selected model
        classes.json            from the command line: the names of the classes, if they have some

    Args:
        path (str): the folder; nothing is written to it before :meth:`start`.
        config (dict): every setting of the run.
    """

    def __init__(self, path: str | PathLike[str], config: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.config = dict(config)
        self.stopping = False
        self._saved_in: tuple = ()
        self._saved_at = 0.0
        self._lock = FileLock(self.path / LOCK, blocking=False)

    @classmethod
    def open(cls, path: str | PathLike[str]) -> "RunFolder":
        r"""Opens the folder of a finished run.

        Raises:
            FileNotFoundError: if the folder is not one; names what is missing.
        """
        path = Path(path)
        missing = [name for name in ("config.yaml", "best.safetensors") if not (path / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"'{path}' is not the folder of a finished run: no {' and no '.join(missing)} in it; give the "
                "folder that 'mowst train' named"
            )
        return cls(path, read_yaml(path / "config.yaml"))

    def start(self) -> None:
        r"""Makes the folder and writes what makes the run.

        Raises:
            FileExistsError: if something is there already: a run is never written over.
            BlockingIOError: if another process begins a run there at the same time.
        """
        if self.path.exists() and (not self.path.is_dir() or any(p.name != LOCK for p in self.path.iterdir())):
            raise FileExistsError(f"'{self.path}' exists and is not empty: choose another folder for this run")
        self.path.mkdir(parents=True, exist_ok=True)
        self._claim()
        write_json(self.path / "env.json", environment())
        write_yaml(self.path / "config.yaml", self.config)

    def resume(self) -> dict[str, Any] | None:
        r"""The last checkpoint of the run that was killed or stopped in this folder; :obj:`None` if it had none yet, in
        which case the run starts anew.

        Raises:
            FileNotFoundError: if no run was begun here.
            FileExistsError: if the run is finished.
            BlockingIOError: if another process goes on with it.
            ValueError: if it was begun with other settings (they are named), or the checkpoint is damaged.
        """
        if not (self.path / "config.yaml").is_file():
            raise FileNotFoundError(f"'{self.path}' is not the folder of a run: no config.yaml in it")
        if (self.path / "result.json").exists():
            raise FileExistsError(f"the run in '{self.path}' is finished: there is nothing to resume")
        refuse_differences(read_yaml(self.path / "config.yaml"), self.config, f"the run in '{self.path}'")
        self._claim()
        state = read_checkpoint(self.checkpoint_path) if self.checkpoint_path.exists() else None
        history = state["history"] if state else []
        for leftover in self.path.glob(".*.tmp"):  # of a write in which the run was killed
            leftover.unlink()
        with atomic_write(self.path / "metrics.jsonl", "w") as file:
            file.writelines(json.dumps(record) + "\n" for record in history)
        return state

    def release(self) -> None:
        r"""Lets other processes go on with the run."""
        self._lock.release()

    def is_due(self, record: Mapping[str, Any], every: float) -> bool:
        r"""Whether a checkpoint should be written at this record: where a turn begins, so many seconds after the last,
        and when the run shall stop.
        """
        turn = (record["round"], record["turn"])
        return self.stopping or turn != self._saved_in or time.monotonic() - self._saved_at >= every

    def save_checkpoint(self, record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        r"""Replaces the checkpoint by one that was taken at a record.

        Raises:
            OSError: if it cannot be written (a full disk, no permission); the one before it is then left as it was.
        """
        with self._resumable():
            write_checkpoint(self.checkpoint_path, state)
        self._saved_in, self._saved_at = (record["round"], record["turn"]), time.monotonic()

    def stop(self, *_: Any) -> None:
        r"""Asks the run to stop at its next record; fit to be a signal handler."""
        self.stopping = True

    @property
    def model_path(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint.safetensors"

    def append(self, record: Mapping[str, Any]) -> None:
        r"""Appends a record to :obj:`metrics.jsonl`."""
        path = self.path / "metrics.jsonl"
        with self._resumable(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def finish(self, model: Cascade, result: FitResult) -> None:
        r"""Writes the model and the scores."""
        scores = asdict(result)
        del scores["history"]
        with self._resumable():
            model.save(self.model_path)
            write_json(self.path / "result.json", scores)
        self.checkpoint_path.unlink(missing_ok=True)

    def _claim(self) -> None:
        # The operating system holds it, so it ends with the process, however that ends.
        try:
            self._lock.acquire()
        except Timeout:
            raise BlockingIOError(f"another process trains in '{self.path}': wait for it, or stop it first") from None

    @contextmanager
    def _resumable(self, path: Path | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = f"what was saved before is whole: mend this, then resume the run from '{self.path}'"
            raise OSError(error.errno, f"{error.strerror} ({advice})", error.filename or str(path)) from error


def refuse_differences(begun: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
    r"""Raises a :obj:`ValueError` that names the fields in which two settings differ, if there are any."""
    begun, now = (json.loads(json.dumps(side)) for side in (begun, now))  # as a file has it: tuples are lists there
    differing = [
        f"{name}: {begun.get(name)!r} then, {now.get(name)!r} now"
        for name in sorted({*begun, *now})
        if begun.get(name) != now.get(name)
    ]
    if differing:
        raise ValueError(f"{what} was begun otherwise ({'; '.join(differing)}): resume it as it was begun")


def environment() -> dict[str, Any]:
    r"""What made a result: command, versions, commit, machine."""
    packages = ("mowst", "torch", "torch-geometric", "numpy", "scipy", "scikit-learn")
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True)
    return asked.stdout.strip() or None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
