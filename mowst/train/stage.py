r"""One step of a method: which parts learn, on which loss, and what is kept of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor

from mowst.train.gate_fit import GateFit

if TYPE_CHECKING:
    from mowst.train.trainer import Trainer

# What is compared, higher is better; the second entry breaks ties.
Score = tuple[float, float]
WORST: Score = (-math.inf, -math.inf)


class StageOutput(NamedTuple):
    r"""What a loss reads of a batch. A stage of one expert has no output of the other one, and no
    confidence.

    Shapes:
        - **weak**, **strong:** logits :math:`(n, C)`
        - **confidence:** :math:`(n)`
    """

    weak: Any
    strong: Any
    confidence: Any


class Loss(Protocol):
    r"""A training loss, such as :func:`~mowst.nn.loss.mowst_loss`."""

    def __call__(
        self, out: StageOutput, y: Tensor, *, class_weight: Tensor | None = None
    ) -> Tensor:
        r"""Returns the loss of some training nodes as a scalar."""
        ...


class Accept(Protocol):
    r"""Decides what is kept of a stage whose epochs have ended."""

    def __call__(
        self, trainer: "Trainer", stage: "Stage", score: Score, improved: bool
    ) -> "StageResult":
        r"""Returns the result of the stage, and leaves the model and its optimisers as they shall
        be kept.

        Args:
            trainer (Trainer): The run.
            stage (Stage): The stage.
            score (tuple): The better of :obj:`stage.bar` and the best validation score of the
                stage.
            improved (bool): Whether an epoch of the stage was better than the bar.
        """
        ...


@dataclass(frozen=True)
class AcceptByScore:
    r"""Keeps the best epoch. Of all stages that are accepted by score, the state with the best
    validation score is selected in the end.
    """

    def __call__(
        self, trainer: "Trainer", stage: "Stage", score: Score, improved: bool
    ) -> "StageResult":
        trainer.select_if_better(stage.predicts, score)
        return StageResult(stage.name, stage.part, stage.round, stage.predicts, improved, score)


@dataclass(frozen=True)
class AcceptByGateFit:
    r"""Fits the gate to the validation nodes after the stage. The stage is accepted if the
    cross-validated loss of the fit is lower than before by more than one standard error of the
    paired difference; otherwise experts, gate and optimisers return to where they were.

    Args:
        mix (str, optional): What may be mixed, as in :func:`~mowst.train.gate_fit.fit_gate`.
            (default: :obj:`None`)
    """

    mix: str | None = None

    def __call__(
        self, trainer: "Trainer", stage: "Stage", score: Score, improved: bool
    ) -> "StageResult":
        gate = trainer.fit_gate(self.mix) if improved else None
        accepted = gate is not None and gate.is_better_than(trainer.gate)
        if accepted:
            assert gate is not None
            trainer.gate = gate
            score = (-gate.losses[gate.chosen], 0.0)
            trainer.select(score)
        else:
            trainer.restore_selected()
        return StageResult(
            stage.name, stage.part, stage.round, stage.predicts, accepted, score, gate=gate
        )


@dataclass(frozen=True, kw_only=True)
class Stage:
    r"""One step of a method.

    The stage trains the parts in :obj:`learns` on :obj:`loss` until the validation score of what it
    :obj:`predicts` stops improving, and returns to its best epoch, or to its start if no epoch is
    better than the bar. All other parts are frozen and in evaluation mode, and are computed once. A
    stage in which nothing learns has no epochs.

    Args:
        name (str): The name in logs and in the history, such as :obj:`"round 2: weak"`.
        part (str): What is trained: :obj:`"weak"`, :obj:`"strong"`, :obj:`"joint"` or
            :obj:`"gate"`. A part that learns again in a later round continues with its optimiser.
        predicts (str): What is trained and validated: the :obj:`"weak"` or :obj:`"strong"` expert
            alone, or the :obj:`"mixture"`.
        learns (tuple[str, ...]): The parts of the model that learn.
        loss (Loss, optional): :obj:`loss(out, y, class_weight=)` returns a scalar.
            (default: :obj:`None`)
        accept (callable, optional): What is kept, see :class:`Accept`.
            (default: :class:`AcceptByScore`)
        round (int, optional): The round, from 1; 0 before the rounds. (default: :obj:`0`)
        pretraining (bool, optional): Whether the settings of pretraining hold. (default:
            :obj:`False`)
        bar (tuple, optional): The validation score that an epoch must exceed; the current score of
            the model if :obj:`None`. (default: no bar)
    """

    name: str
    part: str
    predicts: str
    learns: tuple[str, ...]
    loss: Loss | None = None
    accept: Accept = AcceptByScore()
    round: int = 0
    pretraining: bool = False
    bar: Score | None = WORST


@dataclass(frozen=True)
class StageResult:
    r"""What is left of a finished stage.

    Args:
        name, part, round, predicts: The fields of the stage.
        accepted: Whether the model is another one than before the stage.
        score: The validation score of the model.
        scores: The score on each split, where the trainer was given a way to compute it.
        gate: The fit of the gate, if the stage ended with one.
    """

    name: str
    part: str
    round: int
    predicts: str
    accepted: bool
    score: Score
    scores: dict[str, float] = field(default_factory=dict)
    gate: GateFit | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "StageResult":
        r"""Builds the result again from its fields, as a checkpoint holds them."""
        gate = values["gate"]
        return cls(**{**values, "gate": None if gate is None else GateFit(*gate)})
