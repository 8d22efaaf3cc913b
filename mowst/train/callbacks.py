r"""Watching and ending a run. A callback is a callable that takes the record of an evaluated epoch.
If it has a method :obj:`on_stage_end(model, result)`, that is called after each stage with its
:class:`~mowst.train.stage.StageResult`. A callback ends training early by raising
:class:`StopTraining`. :mod:`mowst.train.loggers` has callbacks that write records for other tools.

A record holds

.. code-block:: text

    step             the number of the record in the run, from 1
    stage            the name of the stage
    round            its round, 0 before the first one
    part             what the stage trains: weak, strong or joint
    epoch, loss      the epoch, from 1, and its training loss
    val_loss         the negative log-likelihood on the validation nodes
    val_calibrated   the same under the temperature that fits best
    val              the metric of the task on the validation nodes
    confidence       the mean confidence on the validation nodes
    best             whether this is the best state so far
    seconds          the time since the stage began
"""

import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from mowst.train.distributed import is_set_anywhere

Callback = Callable[[dict[str, Any]], None]


class StopTraining(Exception):
    r"""Raised by a callback to end training. :func:`~mowst.train.fit` then returns as usual, with
    the selected state in the model.

    A stage that is accepted by score keeps its best epoch so far. A stage of a round that is
    accepted by the fit of the gate is rolled back. No further stage begins.
    """


class ProgressBar:
    r"""A progress bar with stage, loss, validation score and mean confidence.
    :func:`~mowst.train.fit` shows one in terminals and notebooks if its callbacks have none;
    :obj:`ProgressBar(disable=True)` hides it.

    Args:
        **kwargs (optional): Arguments of :class:`tqdm.tqdm`.
    """

    def __init__(self, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            # Without ipywidgets, tqdm shows a bar of text in notebooks.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm

        self.bar = tqdm(**{"unit": " epochs", "leave": False, **kwargs})

    def __call__(self, record: dict[str, Any]) -> None:
        self.bar.set_description_str(record["stage"], refresh=False)
        shown = {name: f"{record[name]:.4f}" for name in ("loss", "val_loss", "val", "confidence")}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()


def is_watched() -> bool:
    r"""Whether this process runs in a terminal or a notebook."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return is_terminal or "ipykernel" in sys.modules


def call_all(callbacks: Iterable[Callable[..., None]], *args: Any) -> None:
    r"""Calls all callbacks, and then raises :class:`StopTraining` if one of them did, in any
    process.
    """
    is_stopping = False
    for callback in callbacks:
        try:
            callback(*args)
        except StopTraining:
            is_stopping = True
    if is_set_anywhere(is_stopping):
        raise StopTraining
