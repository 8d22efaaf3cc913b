r"""Watching a run: a callback is any callable that takes the record of an evaluated epoch.

A record holds :obj:`round` (0 before the first), :obj:`turn`, :obj:`epoch`, :obj:`loss`; on the validation nodes
:obj:`val_loss`, :obj:`val_calibrated` (the loss under the best temperature), :obj:`val` (the task's metric) and
:obj:`confidence` (the mean); :obj:`best` (whether this is the best state so far) and :obj:`seconds` since the turn
began.
"""

from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm

Callback = Callable[[dict[str, Any]], None]


class ProgressBar:
    r"""A progress bar with round, turn, loss, validation score and mean confidence.

    Args:
        **kwargs (optional): arguments of :class:`tqdm.tqdm`.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.bar = tqdm(**({"unit": " epochs", "leave": False} | kwargs))

    def __call__(self, record: dict[str, Any]) -> None:
        turn = f"round {record['round']}, {record['turn']} turn" if record["round"] else record["turn"]
        self.bar.set_description_str(turn, refresh=False)
        shown = {name: f"{record[name]:.4f}" for name in ("loss", "val_loss", "val", "confidence")}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()
