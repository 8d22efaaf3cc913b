r"""The folder of one run: its settings, history, checkpoint and result."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from filelock import SoftFileLock, Timeout

from mowst.io import atomic_write, read_json, read_yaml, write_json, write_yaml
from mowst.locks import Lock
from mowst.nn.mowst import Mowst
from mowst.train.checkpoint import read_checkpoint, write_checkpoint
from mowst.train.environment import describe_other_version, environment
from mowst.train.evaluate import FitResult

LOCK = ".lock"


class RunDir:
    r"""The folder of one run.

    .. code-block:: text

        config.yaml             every setting
        env.json                command, versions, commit, machine
        metrics.jsonl           one record per evaluated epoch
        checkpoint.safetensors  during the run: the state to resume from
        result.json             of a finished run: the scores
        best.safetensors        of a finished run: the selected model
        classes.json            from the command line: the names of the classes, if they have names
        features.json           from the command line: the names of the features, likewise

    Args:
        path (str): The folder. Nothing is written to it before :meth:`start`.
        config (dict): All settings of the run.
        names (dict, optional): The content of :obj:`classes.json` and :obj:`features.json`.
            (default: :obj:`None`)
    """

    def __init__(
        self,
        path: str | PathLike[str],
        config: Mapping[str, Any],
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.path = Path(path)
        self.config = dict(config)
        self.names = dict(names or {})
        self.stopping = False
        self._saved_in: tuple = ()
        self._saved_at = 0.0
        self._lock = Lock(self.path / LOCK, blocking=False)

    @classmethod
    def open(cls, path: str | PathLike[str]) -> "RunDir":
        r"""Opens the folder of a finished run.

        Raises:
            FileNotFoundError: If the folder is not one. The message names the missing files.
        """
        path = Path(path)
        missing = [
            name for name in ("config.yaml", "best.safetensors") if not (path / name).is_file()
        ]
        if missing:
            raise FileNotFoundError(
                f"'{path}' is not the folder of a finished run: it has no "
                f"{' and no '.join(missing)}; give the folder that 'mowst train' printed"
            )
        run_dir = cls(path, {})
        with run_dir.explain_version():
            run_dir.config = read_yaml(path / "config.yaml")
        return run_dir

    def start(self) -> None:
        r"""Makes the folder and writes the settings and the environment.

        Raises:
            FileExistsError: If the folder is not empty: a run is never overwritten.
            BlockingIOError: If another process begins a run there at the same time.
        """
        is_taken = self.path.exists() and not self.path.is_dir()
        if self.path.is_dir():
            is_taken = any(path.name != LOCK for path in self.path.iterdir())
        if is_taken:
            raise FileExistsError(
                f"'{self.path}' exists and is not empty: choose another folder for this run"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._acquire_lock()
        write_json(self.path / "env.json", environment())
        self._write_names()
        write_yaml(self.path / "config.yaml", self.config)

    def resume(self) -> dict[str, Any] | None:
        r"""Returns the last checkpoint of the run that was killed or stopped in this folder, or
        :obj:`None` if it has none, in which case the run starts from the beginning.

        Raises:
            FileNotFoundError: If no run was begun here.
            FileExistsError: If the run is finished.
            BlockingIOError: If another process continues it.
            ValueError: If it was begun with other settings, which are named, or the checkpoint is
                damaged.
        """
        if not (self.path / "config.yaml").is_file():
            raise FileNotFoundError(
                f"'{self.path}' is not the folder of a run: it has no config.yaml"
            )
        if (self.path / "result.json").exists():
            raise FileExistsError(
                f"the run in '{self.path}' is finished, since it has a result.json: it cannot be "
                "resumed"
            )
        with self.explain_version():
            begun = read_yaml(self.path / "config.yaml")
            refuse_differences(begun, self.config, f"the run in '{self.path}'")
        self._acquire_lock()
        state = self._read_checkpoint()
        self._write_names()
        history = state["history"] if state else []
        for leftover in self.path.glob(".*.tmp"):  # of a write during which the run was killed
            leftover.unlink()
        with atomic_write(self.path / "metrics.jsonl", "w") as file:
            file.writelines(json.dumps(record) + "\n" for record in history)
        return state

    def read_result(self) -> dict[str, Any]:
        r"""Returns the scores of a finished run.

        Raises:
            FileNotFoundError: If the run is not finished.
            ValueError: If the file is damaged.
        """
        path = self.path / "result.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"'{self.path}' has no result.json, as a run that was interrupted at its end: "
                "resume it"
            )
        with self.explain_version():
            result = read_json(path)
            if not isinstance(result, dict) or not isinstance(result.get("scores"), dict):
                raise ValueError(f"{path} is not the result of a run: it has no scores")
        return result

    @contextmanager
    def explain_version(self) -> Iterator[None]:
        r"""A context in which errors name the version of the package that began the run, if it is
        not this one.
        """
        try:
            yield
        except ValueError as error:
            other = ""
            with suppress(OSError, ValueError):
                other = describe_other_version(read_json(self.path / "env.json"))
            if not other:
                raise
            raise ValueError(f"{error}{other}") from error

    def release(self) -> None:
        r"""Releases the folder, so that another process can continue the run."""
        self._lock.release()

    def is_due(self, record: Mapping[str, Any], every: float) -> bool:
        r"""Whether a checkpoint is due at a record: at the beginning of a stage, some seconds after
        the last one, and when the run stops.
        """
        stage = (record["round"], record["stage"])
        return (
            self.stopping or stage != self._saved_in or time.monotonic() - self._saved_at >= every
        )

    def save_checkpoint(self, record: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        r"""Replaces the checkpoint by one that was taken at a record.

        Raises:
            OSError: If it cannot be written. The previous checkpoint is then left as it was.
        """
        with self._explain_errors():
            write_checkpoint(self.checkpoint_path, state)
        self._saved_in, self._saved_at = (record["round"], record["stage"]), time.monotonic()

    def stop(self, *_: Any) -> None:
        r"""Stops the run at its next record. Can be used as a signal handler."""
        self.stopping = True

    @property
    def model_path(self) -> Path:
        r"""The file of the selected model."""
        return self.path / "best.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        r"""The file of the checkpoint."""
        return self.path / "checkpoint.safetensors"

    def append(self, record: Mapping[str, Any]) -> None:
        r"""Appends a record to :obj:`metrics.jsonl`."""
        path = self.path / "metrics.jsonl"
        with self._explain_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def finish(self, model: Mowst, result: FitResult) -> None:
        r"""Writes the model and the scores."""
        scores = asdict(result)
        del scores["history"]
        with self._explain_errors():
            model.save(self.model_path)
            write_json(self.path / "result.json", scores)
        self.checkpoint_path.unlink(missing_ok=True)

    def _acquire_lock(self) -> None:
        # The operating system holds the lock, so it ends with the process, however that ends.
        try:
            self._lock.acquire()
        except Timeout:
            advice = "wait for it or stop it first"
            if isinstance(self._lock, SoftFileLock):  # a file that a killed process leaves
                advice += f", or remove {self.path / LOCK} if there is none"
            raise BlockingIOError(f"another process trains in '{self.path}': {advice}") from None

    def _write_names(self) -> None:
        # Before the first epoch: a finished run always has its names.
        for name, value in self.names.items():
            if not (self.path / name).exists():
                write_json(self.path / name, list(value))

    def _read_checkpoint(self) -> dict[str, Any] | None:
        if not self.checkpoint_path.exists():
            return None
        with self.explain_version():
            try:
                return read_checkpoint(self.checkpoint_path)
            except ValueError as error:
                hint = "if it is removed, the run begins again"
                raise ValueError(f"{error}; {hint}") from error

    @contextmanager
    def _explain_errors(self, path: Path | None = None) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = (
                f"earlier files are complete: fix the cause, then resume the run from '{self.path}'"
            )
            raise OSError(
                error.errno, f"{error.strerror} ({advice})", error.filename or str(path)
            ) from error


def refuse_differences(begun: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
    r"""Raises a :obj:`ValueError` that names the fields in which two settings differ, if any do."""
    # As a file has them, where tuples are lists.
    begun, now = json.loads(json.dumps(begun)), json.loads(json.dumps(now))
    differing = []
    for name in sorted({*begun, *now}):
        if begun.get(name) != now.get(name):
            differing.append(f"{name}: {begun.get(name)!r} then, {now.get(name)!r} now")
    if differing:
        raise ValueError(
            f"{what} was begun with others ({'; '.join(differing)}): resume it with the same"
        )
