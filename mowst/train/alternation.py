r"""The order of things: pretraining, then rounds of weak and strong turns, or joint training."""

from collections.abc import Generator
from functools import partial

from mowst.loss import mowst_loss, mowst_star_loss
from mowst.nn.mowst import PARTS, Mowst
from mowst.task import GraphTask
from mowst.train.config import TrainConfig
from mowst.train.scores import score_expert
from mowst.train.state import Snapshot, training_only
from mowst.train.turn import WORST, Loss, Objective, Score, Turn, score_of, validate

Records = Generator[dict, None, Score]


class Training:
    r"""A training run of one method, as a stream of epoch records.

    Candidates for the final state are each pretrained expert alone (routes :obj:`"weak"` and :obj:`"strong"`), the
    start state (pretrained experts under the untrained gate) and the state that turns or joint training reach; the
    one with the best validation score is left in the model. So the selected model is never worse on the validation
    nodes than its own pretrained experts.

    Args:
        model (Mowst): the model.
        task (GraphTask): the task.
        method (str): :obj:`"mowst"`, :obj:`"mowst-star"`, :obj:`"weak"` or :obj:`"strong"`.
        config (TrainConfig): the settings.
    """

    def __init__(self, model: Mowst, task: GraphTask, method: str, config: TrainConfig) -> None:
        self.model = model
        self.task = task
        self.method = method
        self.config = config
        self.alone: dict[str, dict[str, float]] = {}
        self.best = WORST
        self._selected = Snapshot(model)

    def __iter__(self) -> Generator[dict, None, None]:
        try:
            if self.method in ("weak", "strong"):
                yield from self._alone(self.method)
                return
            for expert in {"none": (), "both": ("weak", "strong")}.get(self.config.pretrain, (self.config.pretrain,)):
                yield from self._alone(expert)
            self.model.route = "mixture"
            start = self._score()
            self._offer(start)
            if self.method == "mowst-star" and not self.config.in_turns:
                self._offer((yield from self._turn("joint", PARTS).run(self.task, bar=start)))
            else:
                yield from self._rounds(start)
        finally:
            self._selected.restore()

    def _alone(self, expert: str) -> Generator[dict, None, None]:
        self.model.route = expert
        self._offer((yield from self._turn(f"{expert} alone", (expert,)).run(self.task)))
        self.alone[expert] = score_expert(self.model, self.task, expert)

    def _rounds(self, best: Score) -> Generator[dict, None, None]:
        turns = [self._turn("weak", ("weak", "confidence")), self._turn("strong", ("strong",))]
        best_round = 0
        for round in range(1, self.config.rounds + 1):
            before = best
            for turn in turns:
                best = yield from turn.run(self.task, bar=best, round=round)
                self._offer(best)
            if best > before:
                best_round = round
            elif self.config.round_patience is not None and round - best_round >= self.config.round_patience:
                break

    def _turn(self, name: str, trained: tuple[str, ...]) -> Turn:
        return Turn(name, self.model, trained, self._loss(), self.config)

    def _loss(self) -> Loss:
        return mowst_loss if self.method == "mowst" else partial(mowst_star_loss, mix=self.model.mix)

    def _score(self) -> Score:
        with training_only(self.model, ()):
            answer = Objective(self.model, self.task, (), self._loss()).answer()
        return score_of(validate(answer, self.task), self.config)

    def _offer(self, score: Score) -> None:
        if score > self.best:
            self.best, self._selected = score, Snapshot(self.model)
