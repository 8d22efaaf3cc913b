r"""The order of things: pretraining, then rounds of weak and strong turns, or joint training."""

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mowst.loss import mowst_star_loss, reached_loss
from mowst.nn.cascade import Cascade
from mowst.nn.evaluating import evaluating
from mowst.task import GraphTask
from mowst.train.answers import expert_logits
from mowst.train.calibration import temperature
from mowst.train.config import MIXTURES, TrainConfig
from mowst.train.crossfit import cross_fit
from mowst.train.distributed import share_state
from mowst.train.journal import Journal
from mowst.train.objective import Loss, Objective
from mowst.train.scores import score_expert, score_route
from mowst.train.stacking import Stacked, stack, standard_error
from mowst.train.state import Snapshot, random_state, set_random_state, training_only
from mowst.train.turn import WORST, Progress, Score, Turn, score_of, validate

Records = Generator[dict, None, Score]


class Training:
    r"""A training run of one method, as a stream of epoch records.

    Candidates for the final state are each pretrained expert alone (as a route), the start state (pretrained experts
    under the untrained or once fitted gate) and the states that turns or joint training reach; the one with the best
    validation score, cross-validated where gates are fitted to validation nodes, is left in the model. So the selected
    model is never worse on the validation nodes than its own pretrained experts.

    Args:
        model (Cascade): the model.
        task (GraphTask): the task.
        method (str): :obj:`"mowst"`, :obj:`"mowst-star"`, or the name of an expert.
        config (TrainConfig): the settings.
        state (dict, optional): the :meth:`state` of another training, to go on from. (default: :obj:`None`)
    """

    def __init__(
        self, model: Cascade, task: GraphTask, method: str, config: TrainConfig, state: dict[str, Any] | None = None
    ) -> None:
        self.model = model
        self.task = task.visible
        self.method = method
        self.config = config
        self.alone: dict[str, dict[str, float]] = {}
        self.start: dict[str, float] = {}
        self.stacked: Stacked | None = None
        self.best = self._reached = WORST
        self._whole = task
        self._selected = Snapshot(model)
        self._prior = Snapshot(*(getattr(model, name) for name in model.gate_names))
        self._journal = Journal(state["journal"] if state else ())
        self._turns: list[Turn] = []
        self._optimizers: list[torch.optim.Optimizer] = []
        self._resumed = state

    def state(self) -> dict[str, Any]:
        r"""At a record, everything that the rest of the run depends on: given as `state` to another training of the
        same task, method and settings, that one goes on behind the record, to the bit.
        """
        running = next(turn for turn in self._turns if turn.progress is not None)
        return {
            "journal": self._journal.entries,
            "progress": vars(running.progress),
            "optimizers": [turn.optimizer.state_dict() for turn in self._turns],
            "model": self.model.state_dict(),
            "best": self.best,
            "selected": self._selected.states,
            "random": random_state(),
        }

    def __iter__(self) -> Generator[dict, None, None]:
        try:
            if self.method not in MIXTURES:
                yield from self._alone(self.method)
            elif self.config.gate_fit == "validation":
                yield from self._stacked()
            else:
                yield from self._mixture()
        finally:
            self._selected.restore()

    def _stacked(self) -> Generator[dict, None, None]:
        for expert in self._pretrained():
            yield from self._alone(expert)
        turns = self._turns_of_a_round()
        self._optimizers = [turn.optimizer for turn in turns]
        # What an untrained expert answers is noise, by which logits may be chosen; and where they are mixed, an expert
        # that learns faster leaves the other no gradient.
        self._stack(self.model.mixes[0] if self.config.pretrain in ("weak", "strong") else None)
        self.start = self._journal.once(lambda: score_route(self.model, self._whole))
        yield from self._rounds(turns)

    def _stack(self, mix: str | None = None) -> bool:
        def fit_gates() -> tuple[Any, ...]:
            # The confidence of the last fit has seen the nodes that each fold now holds out.
            self._prior.restore()
            found = stack(self.model, self.task, self.config.gate_folds, mix)
            share_state(self.model)
            return tuple(found)  # a checkpoint holds no classes of ours

        found = Stacked(*self._journal.once(fit_gates))
        if self.stacked is not None:
            gain = self.stacked.held - found.held
            if not float(gain.mean()) > standard_error(gain):  # nor if either is NaN
                return False
        self.best, self.stacked = (-found.losses[found.chosen], 0.0), found
        self._selected = Snapshot(self.model, *self._optimizers)
        return True

    def _mixture(self) -> Generator[dict, None, None]:
        unseen, gate_turn = None, None
        if self.config.gate_fit == "folds":
            gate_turn = self._turn("gate", self.model.gate_names)
            unseen = yield from cross_fit(
                self.model, self.task, self.config.gate_folds, self.config, self._run, self._journal.once
            )
        for expert in self._pretrained():
            yield from self._alone(expert)
            if self.config.calibrate and expert != self.model.expert_names[-1]:
                self._calibrate(expert, unseen)
        self.model.route = "mixture"
        self._reached = self._score()
        self._offer(self._reached)
        if gate_turn is not None:
            self._reached = yield from self._offered(gate_turn, bar=self._reached, logits=unseen)
        if self._is_joint:
            (joint,) = self._turns_of_a_round()
            yield from self._kept(joint)
        else:
            yield from self._rounds(self._turns_of_a_round())

    def _pretrained(self) -> Sequence[str]:
        names = self.model.expert_names
        return {"none": (), "weak": names[:1], "strong": names[1:], "both": names}[self.config.pretrain]

    def _alone(self, expert: str) -> Generator[dict, None, None]:
        self.model.route = expert
        yield from self._offered(self._turn(f"{expert} alone", (expert,)))
        self.alone[expert] = self._journal.once(lambda: score_expert(self.model, self._whole, expert))

    @torch.no_grad()
    def _calibrate(self, expert: str, unseen: list[Tensor] | None) -> None:
        task, k = self.task, self.model.expert_names.index(expert)
        split = "val" if unseen is None else "train"

        def find() -> float:
            if unseen is not None:
                return temperature(unseen[k], task.labels(split), task.class_weights)
            with evaluating(self.model):
                logits = expert_logits(self.model, k, task, task.index(split))
            return temperature(logits, task.labels(split), task.class_weights)

        found = self._journal.once(find)
        if unseen is not None:
            unseen[k] = unseen[k] / found
        self.model.temperatures[k] = self._journal.once(lambda: self.model.temperatures[k] * found)
        self._offer(self._score())

    @property
    def _is_joint(self) -> bool:
        return self.method == "mowst-star" and not self.config.in_turns

    def _turns_of_a_round(self) -> list[Turn]:
        if self._is_joint:
            return [self._turn("joint", self._learning(self.model.parts))]
        names, gates = self.model.expert_names, [(gate,) for gate in self.model.gate_names]
        return [
            self._turn(name, self._learning((name, *gate)), expert=k)
            for k, (name, gate) in enumerate(zip(names, [*gates, ()], strict=True))
        ]

    def _rounds(self, turns: Sequence[Turn]) -> Generator[dict, None, None]:
        best_round = 0
        for round in range(1, self.config.rounds + 1):
            for turn in turns:
                if (yield from self._kept(turn, round)):
                    best_round = round
            if self.config.round_patience is not None and round - best_round >= self.config.round_patience:
                break

    def _kept(self, turn: Turn, round: int = 0) -> Generator[dict, None, bool]:
        if self.config.gate_fit != "validation":
            before, self._reached = self._reached, (yield from self._offered(turn, bar=self._reached, round=round))
            return self._reached > before
        # Turns are of the mixture, whoever answered best before this one.
        self.model.route = "mixture"
        before = self._score()
        reached = yield from self._run(turn, bar=before, round=round)
        kept = reached > before and self._stack()
        if not kept:
            self._selected.restore()
        return kept

    def _learning(self, parts: Sequence[str]) -> tuple[str, ...]:
        # A gate that is fitted to predictions on unseen nodes shall not learn from others.
        fitted = self.model.gate_names if self.config.gate_fit != "train" else ()
        return tuple(name for name in parts if name not in fitted)

    def _turn(self, name: str, trained: Sequence[str], expert: int = 0) -> Turn:
        return Turn(name, self.model, trained, self._loss(expert), self.config)

    def _offered(self, turn: Turn, **options: Any) -> Records:
        try:
            return (yield from self._run(turn, **options))
        finally:  # also what it reached before it broke off
            self._offer(turn.bar)

    def _run(self, turn: Turn, task: GraphTask | None = None, **options: Any) -> Records:
        if turn not in self._turns:
            self._turns.append(turn)
        if not self._journal.replaying:
            if self._resumed is not None:
                self._take_up(turn, self._resumed)
            yield from turn.run(task or self.task, **options)
        turn.bar = self._journal.once(lambda: turn.bar)
        return turn.bar

    def _take_up(self, turn: Turn, state: dict[str, Any]) -> None:
        # The journal has led here: to the turn in which the state was taken.
        for known, optimizer in zip(self._turns, state["optimizers"], strict=True):
            known.optimizer.load_state_dict(optimizer)
        self.model.load_state_dict(state["model"])
        self.best, self._selected.states = state["best"], state["selected"]
        turn.progress = Progress(**state["progress"])
        set_random_state(state["random"])
        self._resumed = None

    def _loss(self, expert: int = 0) -> Loss:
        config, weight = self.config, self.task.class_weights
        if self.method == "mowst-star":
            # What is mixed may change between turns.
            return lambda logits, confidences, y: mowst_star_loss(logits, confidences, y, self.model.mix, weight)
        return partial(
            reached_loss,
            expert=expert,
            normalize=config.normalize_weights,
            floor=config.weight_floor,
            class_weight=weight,
        )

    def _score(self) -> Score:
        def score() -> Score:
            with training_only(self.model, ()):
                answer = Objective(self.model, self.task, (), self._loss()).answer()
            return score_of(validate(answer, self.task), self.config)

        return self._journal.once(score)

    def _offer(self, score: Score) -> bool:
        if better := score > self.best:
            self.best, self._selected = score, Snapshot(self.model)
        return better
