r"""The storage of a sweep, and the trials of processes that have died."""

import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mowst.io import open_lines
from mowst.study.lines import read_lines

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

HEARTBEAT_SECONDS = 30
GRACE_SECONDS = 120
MAX_RETRY = 2
JOURNALS = (".log", ".journal")
STORAGES = (
    "a URL such as sqlite:///sweep.db or postgresql://user@host/name, or a journal file ending in "
    f"{' or '.join(JOURNALS)}"
)
OWNER = "process"


@contextmanager
def ignore_experimental_warnings() -> Iterator[None]:
    r"""A context without Optuna's warnings that heartbeats, retries and fixed parameters are
    experimental.
    """
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def open_storage(storage: str | None, create: bool = True) -> "BaseStorage":
    r"""Opens a storage. An incomplete last line of a journal, left by an interrupted writer, is
    ignored, and removed before the next line is written.

    Args:
        storage (str, optional): :obj:`None` for memory. :obj:`"sqlite:///FILE"` for one machine.
            Any other URL of SQLAlchemy, such as :obj:`"postgresql://USER@HOST/NAME"`, or a journal
            file ending in :obj:`.log` or :obj:`.journal`, for many machines that share it.
            (default: :obj:`None`)
        create (bool, optional): If set to :obj:`False`, a file must exist. (default: :obj:`True`)

    Raises:
        ValueError: If the storage is invalid or cannot be opened.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    errors = (SQLAlchemyError, ImportError, RuntimeError, ValueError, OSError)
    if storage is None:
        return optuna.storages.InMemoryStorage()
    if "://" not in storage and not storage.endswith(JOURNALS):
        raise ValueError(f"invalid storage '{storage}': give {STORAGES}")
    try:
        _prepare_file(storage, create)
        with ignore_experimental_warnings():
            if storage.endswith(JOURNALS):
                return _open_journal(storage)
            return _open_database(storage)
    except errors as error:
        why = str(getattr(error, "orig", error)).splitlines()[0]
        raise ValueError(
            f"the storage '{storage}' cannot be opened ({why}): give {STORAGES}"
        ) from error


def claim_trial(trial: "optuna.Trial") -> None:
    r"""Writes into a trial which process runs it."""
    trial.set_user_attr(OWNER, identify_process(os.getpid()))


def recover_trials(study: "optuna.Study") -> int:
    r"""Fails the running trials of dead processes, queues their parameters again (at most twice for
    one trial), and returns the number of these trials. On this host, the process is looked up. On
    other hosts and on Windows, it counts as dead if a database has not had its heartbeat for
    :obj:`GRACE_SECONDS`, and as alive in a journal.
    """
    import optuna

    with ignore_experimental_warnings():
        optuna.storages.fail_stale_trials(study)
        dead = [trial for trial in study.get_trials(deepcopy=False) if _is_dead(trial)]
        for trial in dead:
            try:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            except ValueError:
                continue  # another sweep was faster
            _make_retry()(study, trial)
    return len(dead)


def identify_process(pid: int) -> list[str] | None:
    r"""Returns host, id and start time of a running process, which distinguish it from a later one
    with the same id, or :obj:`None` if it is not running. On Windows every process counts as
    running.
    """
    host = socket.gethostname()
    if Path("/proc/self/stat").exists():
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        state, *rest = text.rpartition(")")[2].split()
        return None if state == "Z" else [host, str(pid), rest[18]]
    if sys.platform != "win32":  # where os.kill ends the process, whatever the signal
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
    return [host, str(pid), ""]


def _prepare_file(storage: str, create: bool) -> None:
    import sqlalchemy

    file: str | None = None
    if storage.endswith(JOURNALS):
        file = storage
    elif storage.startswith("sqlite"):
        file = sqlalchemy.make_url(storage).database
    if not file or file == ":memory:":
        return
    if create:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    elif not Path(file).is_file():
        raise FileNotFoundError(f"the file {file} does not exist")


def _open_journal(path: str) -> "BaseStorage":
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

    class Lock(JournalFileOpenLock):
        # The writer before may have been killed in the middle of a line, also while this one waited
        # for the lock.
        def acquire(self) -> bool:
            super().acquire()
            try:
                with open_lines(path):
                    return True
            except OSError:
                self.release()
                raise

    class Journal(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            try:
                super().append_logs(logs)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error

    path = os.path.abspath(path)
    read_lines(path)  # a line behind a damaged one would be lost
    # Not Optuna's default, a symbolic link: Windows refuses it to most users, and with a relative
    # path, Optuna waits forever for a process that died.
    try:
        return JournalStorage(Journal(path, lock_obj=Lock(path)))
    except (AssertionError, KeyError, TypeError) as error:
        raise ValueError("it is not a journal of this version of Optuna") from error


def _open_database(url: str) -> "BaseStorage":
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    # If several processes create the tables at once, all but one fail.
    for _ in range(3):
        try:
            return _connect_database(url)
        except (IntegrityError, OperationalError, ProgrammingError):
            time.sleep(1)
    return _connect_database(url)


def _connect_database(url: str) -> "BaseStorage":
    from optuna.storages import RDBStorage

    is_sqlite = url.startswith("sqlite")
    storage = RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 60}} if is_sqlite else {},
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
        heartbeat_stale_trial_callback=_make_retry(),
    )
    if is_sqlite:
        _lock_early(storage.engine)
    return storage


def _lock_early(engine: Any) -> None:
    # Optuna relies on SELECT FOR UPDATE, which SQLite does not have, so that two processes do not
    # take the same waiting trial. So transactions that may write begin with the lock, and Python's
    # module begins none of its own.
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # closes the connections that were opened before


def _is_dead(trial: "FrozenTrial") -> bool:
    if trial.state.name != "RUNNING":
        return False
    owner = trial.user_attrs.get(OWNER)
    if owner is None:
        # A process writes its name into its trial within milliseconds.
        begun = trial.datetime_start
        return begun is not None and datetime.now() - begun > timedelta(minutes=1)
    return owner[0] == socket.gethostname() and identify_process(int(owner[1])) != owner


def _make_retry() -> Any:
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    return RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRY)
