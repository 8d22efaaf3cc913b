r"""Watching a run. A callback is a callable that takes the record of an evaluated epoch. If it has
a method :obj:`on_stage_end(model, result)`, that is called after each stage with its
:class:`~mowst.train.stage.StageResult`.

A record holds

.. code-block:: text

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

from collections.abc import Callable
from typing import Any

Callback = Callable[[dict[str, Any]], None]


class ProgressBar:
    r"""A progress bar with stage, loss, validation score and mean confidence.

    Args:
        **kwargs (optional): Arguments of :class:`tqdm.tqdm`.
    """

    def __init__(self, **kwargs: Any) -> None:
        from tqdm.auto import tqdm

        self.bar = tqdm(**{"unit": " epochs", "leave": False, **kwargs})

    def __call__(self, record: dict[str, Any]) -> None:
        self.bar.set_description_str(record["stage"], refresh=False)
        shown = {name: f"{record[name]:.4f}" for name in ("loss", "val_loss", "val", "confidence")}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()
