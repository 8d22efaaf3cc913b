r"""One expert alone: the baselines."""

from collections.abc import Sequence
from typing import ClassVar

from mowst.nn.mowst import Mowst
from mowst.task import GraphTask
from mowst.train.config import TrainConfig
from mowst.train.methods.method import Method, can_learn, make_expert_stage
from mowst.train.stage import Stage, StageResult


class WeakMethod(Method):
    r"""Trains the weak expert on cross-entropy."""

    experts: ClassVar[tuple[str, ...]] = ("weak",)
    has_gate: ClassVar[bool] = False

    def next_stage(
        self, model: Mowst, task: GraphTask, config: TrainConfig, done: Sequence[StageResult]
    ) -> Stage | None:
        (expert,) = self.experts
        if done:
            return None
        if not can_learn(getattr(model, expert)):
            raise ValueError(
                f"the {expert} expert of {model!r} has no learnable parameters: nothing to train"
            )
        return make_expert_stage(expert)


class StrongMethod(WeakMethod):
    r"""Trains the strong expert on cross-entropy."""

    experts: ClassVar[tuple[str, ...]] = ("strong",)
