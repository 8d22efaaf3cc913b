r"""Callbacks that write the records of a run for other tools. Each tool is imported when its class
is built. All but :class:`CSV` write the numbers of a record under the part that is trained, such as
:obj:`weak/val`, at the step of the record.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mowst.io import open_lines

if TYPE_CHECKING:
    import optuna

Record = dict[str, Any]


class CSV:
    r"""Appends each record to a CSV file as one row. An incomplete last row, left by a process that
    was killed, is removed first. A resumed run repeats the rows since its checkpoint.

    Args:
        path (str): The file. A new file starts with the names of the columns.

    Raises:
        ValueError: In training, if the file has other columns.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def __call__(self, record: Record) -> None:
        rows = StringIO(newline="")
        writer = csv.DictWriter(rows, record)
        with open_lines(self.path) as file:
            if file.tell() == 0:
                writer.writeheader()
            else:
                self._check_columns(file, ",".join(record))
            writer.writerow(record)
            file.write(rows.getvalue().encode())

    def _check_columns(self, file: IO[bytes], columns: str) -> None:
        file.seek(0)
        found = file.readline().decode(errors="replace").strip()
        if found != columns:
            raise ValueError(
                f"{self.path} has the columns {found}, the run has {columns}: move the file away, "
                "or give another one"
            )


class TensorBoard:
    r"""Writes records for TensorBoard.

    Args:
        log_dir (str, optional): The folder, made with the first record; a new one in :obj:`runs/`
            if :obj:`None`. (default: :obj:`None`)
        **kwargs (optional): Arguments of :class:`torch.utils.tensorboard.SummaryWriter`.

    Raises:
        ImportError: If tensorboard is missing.
    """

    def __init__(self, log_dir: str | PathLike[str] | None = None, **kwargs: Any) -> None:
        with _explain_missing("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self.make_writer: Any = SummaryWriter
        self.options = {"log_dir": None if log_dir is None else str(log_dir), **kwargs}
        self.writer: Any = None

    def __call__(self, record: Record) -> None:
        if self.writer is None:
            self.writer = self.make_writer(**self.options)
        for name, value in _name_numbers(record).items():
            self.writer.add_scalar(name, value, record["step"])
        self.writer.flush()


class WandB:
    r"""Writes records to the current run of Weights & Biases, or to a new one.

    Args:
        **kwargs (optional): Arguments of :func:`wandb.init` for a new run.

    Raises:
        ImportError: If wandb is missing.
    """

    def __init__(self, **kwargs: Any) -> None:
        with _explain_missing("wandb"):
            import wandb
        self.wandb: Any = wandb
        if wandb.run is None:
            wandb.init(**kwargs)

    def __call__(self, record: Record) -> None:
        self.wandb.log(_name_numbers(record), step=record["step"])


class MLflow:
    r"""Writes records to the active run of MLflow, or to a new one.

    Args:
        **kwargs (optional): Arguments of :func:`mlflow.start_run` for a new run.

    Raises:
        ImportError: If mlflow is missing.
    """

    def __init__(self, **kwargs: Any) -> None:
        with _explain_missing("mlflow"):
            import mlflow
        self.mlflow: Any = mlflow
        if mlflow.active_run() is None:
            mlflow.start_run(**kwargs)

    def __call__(self, record: Record) -> None:
        self.mlflow.log_metrics(_name_numbers(record), step=record["step"])


class OptunaPruning:
    r"""Reports the best validation metric so far to Optuna, the highest for a study that maximizes
    it and the lowest for one that minimizes it, and ends the trial if Optuna prunes it.

    Args:
        trial (optuna.Trial): The trial.

    Raises:
        optuna.TrialPruned: In training, if the trial is to be pruned.
    """

    def __init__(self, trial: "optuna.Trial") -> None:
        self.trial = trial
        self.choose = min if trial.study.direction.name == "MINIMIZE" else max
        self.best: float | None = None

    def __call__(self, record: Record) -> None:
        value = record["val"]
        self.best = value if self.best is None else self.choose(self.best, value)
        self.trial.report(self.best, record["step"])
        if self.trial.should_prune():
            from optuna import TrialPruned

            raise TrialPruned(f"pruned at step {record['step']}")


@contextmanager
def _explain_missing(package: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{package} is missing: pip install {package}") from error


def _name_numbers(record: Record) -> dict[str, float]:
    numbers = {}
    for name, value in record.items():
        if isinstance(value, float):
            numbers[f"{record['part']}/{name}"] = value
    return numbers
