r"""The optimiser of a stage and its learning rate schedule."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from mowst.nn.mowst import Mowst
from mowst.train.config import TrainConfig

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class ScheduledOptimizer:
    r"""An optimiser and its learning rate schedule, whose states belong together.

    Args:
        optimizer (torch.optim.Optimizer): The optimiser.
        scheduler (LRScheduler, optional): The schedule of the optimiser. (default: :obj:`None`)
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, scheduler: LRScheduler | None = None
    ) -> None:
        self.optimizer = optimizer
        self.scheduler = scheduler

    def end_epoch(self, loss: float | None = None, metric: float | None = None) -> None:
        r"""Steps the schedule. :class:`~torch.optim.lr_scheduler.ReduceLROnPlateau` is stepped with
        the loss if it minimizes (:obj:`mode="min"`) and with the metric if it maximizes, and not at
        all without them.

        Args:
            loss (float, optional): The validation loss of an evaluated epoch.
                (default: :obj:`None`)
            metric (float, optional): The validation metric of an evaluated epoch.
                (default: :obj:`None`)
        """
        if isinstance(self.scheduler, ReduceLROnPlateau):
            value = loss if self.scheduler.mode == "min" else metric
            if value is not None:
                self.scheduler.step(value)
        elif self.scheduler is not None:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        state = self.optimizer.state_dict()
        if self.scheduler is not None:
            state["scheduler"] = self.scheduler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])


def make_optimizer(
    model: Mowst, config: TrainConfig, part: str, learns: Sequence[str], pretraining: bool
) -> ScheduledOptimizer:
    r"""Returns a fresh optimiser of the parts that learn, each with its learning rate and weight
    decay, and its schedule.

    Raises:
        TypeError: If a factory returns something else.
    """
    groups = []
    for name in learns:
        settings = config.merge_overrides(name, pretraining)
        parameters = [p for p in getattr(model, name).parameters() if p.requires_grad]
        rates = {"lr": settings.lr, "weight_decay": settings.weight_decay}
        groups.append({"params": parameters, **rates})
    settings = config.merge_overrides(part, pretraining)
    kind, schedule = settings.optimizer, settings.scheduler
    optimizer = OPTIMIZERS[kind](groups) if isinstance(kind, str) else kind(groups)
    _check_kind("optimizer", kind, optimizer, torch.optim.Optimizer)
    if schedule is None:
        return ScheduledOptimizer(optimizer)
    scheduler = schedule(optimizer)
    _check_kind("scheduler", schedule, scheduler, LRScheduler)
    return ScheduledOptimizer(optimizer, scheduler)


def _check_kind(setting: str, made_by: Any, made: Any, wanted: type) -> None:
    if not isinstance(made, wanted):
        name = f"{wanted.__module__}.{wanted.__name__}".replace(".optimizer.", ".")
        found = type(made).__name__
        raise TypeError(f"{setting} must return a {name}, {made_by!r} returned {found}")
