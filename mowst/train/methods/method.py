r"""What a method is, and the stages that methods share."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from mowst.labels import mean_nll
from mowst.nn.mowst import EXPERTS, Mowst
from mowst.nn.registry import Registry
from mowst.nn.softmax import log_softmax
from mowst.task import GraphTask
from mowst.train.config import TrainConfig
from mowst.train.stage import AcceptByGateFit, AcceptByScore, Stage, StageOutput, StageResult


class Method:
    r"""A way to train a model, as a pure function from the finished stages to the next one. A
    method of one's own derives from this class, implements :meth:`next_stage`, and is registered
    with :func:`~mowst.train.methods.register_method`.

    Attributes:
        experts: The experts that the method trains.
        has_gate: Whether the trained model is a mixture with a gate; otherwise it is one expert.
    """

    experts: ClassVar[tuple[str, ...]] = EXPERTS
    has_gate: ClassVar[bool] = True

    def next_stage(
        self, model: Mowst, task: GraphTask, config: TrainConfig, done: Sequence[StageResult]
    ) -> Stage | None:
        r"""Returns the stage that follows the finished ones, or :obj:`None` at the end. The result
        depends on the arguments only, since a resumed run calls it again.

        Args:
            model (Mowst): The model.
            task (GraphTask): What training may see of the task.
            config (TrainConfig): The settings.
            done (list[StageResult]): The finished stages.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement next_stage")


METHODS = Registry("method", home="mowst.train.methods", base=Method)


class MixtureMethod(Method):
    r"""Pretraining, the fit of the gate, and rounds of stages that train the mixture. A subclass
    names the stages of a round in :meth:`round_stages`.

    A stage ends where its part has stopped improving next to the others as they are. So a part is
    trained again only after another one was accepted, as often as :obj:`round_patience` allows.
    """

    def round_stages(self, model: Mowst, config: TrainConfig) -> list[Stage]:
        r"""Returns the stages of one round."""
        raise NotImplementedError(f"{type(self).__name__} must implement round_stages")

    def next_stage(
        self, model: Mowst, task: GraphTask, config: TrainConfig, done: Sequence[StageResult]
    ) -> Stage | None:
        r"""Replays the stages in their order and returns the first that is not finished, see
        :meth:`Method.next_stage`.
        """
        pretrained = choose_pretrained(model, config)
        if len(done) < len(pretrained):
            return make_expert_stage(pretrained[len(done)], pretraining=True)
        if len(done) == len(pretrained):
            return make_start_stage(model, config)
        stages, results = self.round_stages(model, config), iter(done[len(pretrained) + 1 :])
        patience = config.rounds if config.round_patience is None else config.round_patience
        attempts = dict.fromkeys([stage.part for stage in stages], 0)
        for round in range(1, config.rounds + 1):
            for stage in stages:
                if attempts[stage.part] >= patience:
                    continue
                result = next(results, None)
                if result is None:
                    return place_stage(stage, round, config, done[-1])
                attempts[stage.part] += 1
                if result.accepted:  # the other parts have something new to learn from
                    attempts = {**dict.fromkeys(attempts, 0), stage.part: attempts[stage.part]}
        return None


def choose_pretrained(model: Mowst, config: TrainConfig) -> list[str]:
    r"""Returns the experts that are trained alone first, without those that have nothing to
    learn.
    """
    names = {"none": (), "weak": ("weak",), "strong": ("strong",), "both": EXPERTS}[config.pretrain]
    return [name for name in names if can_learn(getattr(model, name))]


def can_learn(part: torch.nn.Module) -> bool:
    r"""Whether a part has a parameter that requires a gradient; a frozen or parameterless expert
    has none.
    """
    return any(parameter.requires_grad for parameter in part.parameters())


def make_expert_stage(name: str, pretraining: bool = False) -> Stage:
    r"""Returns the stage that trains one expert alone, on the cross-entropy of its predictions."""
    return Stage(
        name=f"pretrain {name}" if pretraining else f"train {name}",
        part=name,
        predicts=name,
        learns=(name,),
        loss=partial(compute_expert_loss, name),
        pretraining=pretraining,
    )


def compute_expert_loss(
    name: str, out: StageOutput, y: Tensor, *, class_weight: Tensor | None = None
) -> Tensor:
    r"""Returns the mean cross-entropy of one expert."""
    return mean_nll(log_softmax(getattr(out, name)), y, class_weight)


def make_start_stage(model: Mowst, config: TrainConfig) -> Stage:
    r"""Returns the stage between pretraining and the first round: it fits the gate to the
    validation nodes, or, where the gate learns in the rounds, scores the mixture with the untrained
    gate.
    """
    if config.gate_fit == "train":
        return Stage(name="start", part="gate", predicts="mixture", learns=(), bar=None)
    # The predictions of an untrained expert are noise, which may prefer to mix logits; and in mixed
    # logits an expert that learns faster leaves the other one no gradient.
    mix = model.mixes[0] if config.pretrain in ("weak", "strong") else None
    accept = AcceptByGateFit(mix)
    return Stage(name="fit gate", part="gate", predicts="mixture", learns=(), accept=accept)


def place_stage(stage: Stage, round: int, config: TrainConfig, last: StageResult) -> Stage:
    r"""Returns a stage as the one of a round: an epoch must exceed the score of the mixture before
    the stage, and the stage is accepted by score, or where the gate is fitted to validation nodes,
    by its fit.
    """
    name = f"round {round}: {stage.part}"
    if config.gate_fit == "train":
        return replace(stage, name=name, round=round, accept=AcceptByScore(), bar=last.score)
    return replace(stage, name=name, round=round, accept=AcceptByGateFit(), bar=None)


def choose_learning(model: Mowst, config: TrainConfig, parts: Sequence[str]) -> tuple[str, ...]:
    r"""Returns those of the parts that learn in a round: not the gate where it is fitted to
    validation nodes, and no part without learnable parameters.
    """
    learning = []
    for name in parts:
        if name == "gate" and config.gate_fit == "validation":
            continue
        if can_learn(getattr(model, name)):
            learning.append(name)
    return tuple(learning)
