r"""Where the trials of a sweep are kept, and what becomes of trials whose process has died."""

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

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
def no_experimental_warnings() -> Iterator[None]:
    r"""A context in which Optuna does not say that heartbeats, retries and fixed parameters are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@no_experimental_warnings()
def open_storage(storage: str | None, create: bool = True) -> BaseStorage:
    r"""The storage of a name.

    Args:
        storage (str, optional): :obj:`None` for memory; :obj:`"sqlite:///FILE"` on one machine, any other URL of a
            database that SQLAlchemy knows, such as :obj:`"postgresql://USER@HOST/NAME"`, on many; a file ending in
            :obj:`.log` or :obj:`.journal` is a journal, on many machines that share it. (default: :obj:`None`)
        create (bool, optional): if set to :obj:`False`, a file must be there already. (default: :obj:`True`)

    Raises:
        ValueError: if it is neither, or cannot be opened.
    """
    if storage is None:
        return optuna.storages.InMemoryStorage()
    if "://" not in storage and not storage.endswith(JOURNALS):
        raise ValueError(f"'{storage}' is no storage: give {STORAGES}")
    try:
        _place(storage, create)
        if storage.endswith(JOURNALS):
            return JournalStorage(JournalFileBackend(storage))
        try:
            return _open_database(storage)
        except sqlalchemy.exc.DBAPIError:
            time.sleep(1)  # of processes that find no tables, one makes them
            return _open_database(storage)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, json.JSONDecodeError, OSError) as error:
        why = str(getattr(error, "orig", error)).splitlines()[0]
        raise ValueError(f"the storage '{storage}' cannot be opened ({why}): give {STORAGES}") from error


def claim(trial: optuna.Trial) -> None:
    r"""Writes into a trial which process runs it."""
    trial.set_user_attr(OWNER, process_of(os.getpid()))


@no_experimental_warnings()
def recover(study: optuna.Study) -> int:
    r"""Fails the running trials of dead processes, puts their parameters back into the queue (a trial at most twice),
    and returns how many there were. On this host a process is looked up; elsewhere it counts as dead where a
    relational storage has not heard from it for :obj:`GRACE_SECONDS`, and as alive on a journal.
    """
    optuna.storages.fail_stale_trials(study)
    dead = [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if _is_dead(trial)]
    for trial in dead:
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except ValueError:
            continue  # another sweep was faster
        _retry()(study, trial)
    return len(dead)


def process_of(pid: int) -> list[str] | None:
    r"""Host, id and start of a living process, by which it is told from a later one of the same id."""
    host = socket.gethostname()
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            state, *rest = status.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state == "Z" else [host, str(pid), rest[18]]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return [host, str(pid), ""]


def _place(storage: str, create: bool) -> None:
    # Of an SQLite file, or a journal, the folder is made; a database in memory has no file.
    is_journal = storage.endswith(JOURNALS)
    file = storage if is_journal else storage.startswith("sqlite") and sqlalchemy.make_url(storage).database
    if not file or file == ":memory:":
        return
    if create:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    elif not Path(file).is_file():
        raise FileNotFoundError(f"there is no file {file}")


def _open_database(url: str) -> RDBStorage:
    is_sqlite = url.startswith("sqlite")
    storage = RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 60}} if is_sqlite else {},
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
        heartbeat_stale_trial_callback=_retry(),
    )
    if is_sqlite:
        _serialise(storage.engine)
    return storage


def _serialise(engine: sqlalchemy.Engine) -> None:
    # SQLite has no SELECT FOR UPDATE, by which Optuna sees to it that two processes do not take the same waiting trial:
    # transactions that may write begin with the lock, and Python's module begins none of its own.
    sqlalchemy.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    engine.dispose()  # of connections that were opened before


def _is_dead(trial: FrozenTrial) -> bool:
    owner = trial.user_attrs.get(OWNER)
    if owner is None:
        # Its process wrote nothing into it, which takes milliseconds.
        return trial.datetime_start is not None and datetime.now() - trial.datetime_start > timedelta(minutes=1)
    return owner[0] == socket.gethostname() and process_of(int(owner[1])) != owner


def _retry() -> RetryHeartbeatStaleTrialCallback:
    return RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRY)
