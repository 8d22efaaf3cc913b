r"""The training loop: one stage after the other."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mowst.nn.mowst import Mowst
from mowst.task import GraphTask
from mowst.train.callbacks import Callback, StopTraining, call_all
from mowst.train.config import TrainConfig
from mowst.train.distributed import share_state, take_from_first
from mowst.train.epochs import EpochLoop, Progress, score_record, validate
from mowst.train.forward import StageForward
from mowst.train.gate_fit import GateFit, fit_gate
from mowst.train.inputs import TaskInputs
from mowst.train.methods import Method
from mowst.train.optimizers import ScheduledOptimizer, make_optimizer
from mowst.train.stage import WORST, AcceptByScore, Score, Stage, StageResult
from mowst.train.state import Snapshot, get_random_state, set_random_state, training_only

# What an optimiser is made from: the part of the stage, the parts that learn, and whether it
# pretrains.
OptimizerKey = tuple[str, tuple[str, ...], bool]


class Trainer:
    r"""A training run of one method, which is

    .. code-block:: text

        while there is a next stage (method.next_stage, from the finished ones):
            run its epochs, and return to the best one
            accept the result, or return to the selected state

    The selected state is in the model at the end, however training ends.

    Args:
        model (Mowst): The model.
        task (GraphTask): The task. Training reads what is
            :attr:`~mowst.task.GraphTask.visible` to it.
        method (Method): The method.
        config (TrainConfig): The settings.
        score (callable, optional): :obj:`score(model, predicts)` returns the score on each split of
            the :obj:`"weak"` or :obj:`"strong"` expert, or of the :obj:`"mixture"`. It is called
            after each stage before the rounds. (default: :obj:`None`)
        state (dict, optional): The :meth:`state` of another run of the same model, task, method and
            settings, which this run continues. (default: :obj:`None`)
        inputs (TaskInputs, optional): The inputs of what is visible, if they are at hand. (default:
            :obj:`None`)

    Attributes:
        done (list[StageResult]): The finished stages.
        history (list[dict]): The record of each evaluated epoch.
        best (tuple): The validation score of the selected state.
        gate (GateFit): The last accepted fit of the gate.
    """

    def __init__(
        self,
        model: Mowst,
        task: GraphTask,
        method: Method,
        config: TrainConfig,
        *,
        score: Callable[[Mowst, str], dict[str, float]] | None = None,
        state: Mapping[str, Any] | None = None,
        inputs: TaskInputs | None = None,
    ) -> None:
        self.model = model
        self.task = task.visible
        self.method = method
        self.config = config
        self.score = score
        self.inputs = inputs or TaskInputs(model, self.task)
        self.done: list[StageResult] = []
        self.history: list[dict[str, Any]] = []
        self.best: Score = WORST
        self.gate: GateFit | None = None
        self.progress: Progress | None = None
        self.optimizers: dict[OptimizerKey, ScheduledOptimizer] = {}
        self._selected = Snapshot(model)
        self._selected_optimizers: dict[OptimizerKey, Any] = {}
        self._first_gate = Snapshot(model.gate)
        self._started = time.perf_counter()
        self._random: dict[str, Any] | None = None
        if state is not None:
            self._load_state(state)

    def train(self, callbacks: Sequence[Callback] = ()) -> None:
        r"""Runs all stages, or those until a callback raises
        :class:`~mowst.train.callbacks.StopTraining`.

        Args:
            callbacks (list, optional): Called with the record of each evaluated epoch. Those with a
                method :obj:`on_stage_end(model, result)` are also called after each stage.
                (default: :obj:`()`)

        Raises:
            FloatingPointError: If a number is not finite.
        """
        ends = [
            callback.on_stage_end for callback in callbacks if hasattr(callback, "on_stage_end")
        ]
        try:
            while True:
                stage = self.method.next_stage(self.model, self.task, self.config, self.done)
                if stage is None:
                    return
                result = self.run_stage(stage, callbacks)
                self.done.append(result)
                call_all(ends, self.model, result)
        except StopTraining:
            return
        finally:
            self._selected.restore()

    def run_stage(self, stage: Stage, callbacks: Sequence[Callback] = ()) -> StageResult:
        r"""Runs the epochs of a stage and returns what was accepted of it."""
        if not stage.learns:
            result = stage.accept(self, stage, self._find_bar(stage), True)
        else:
            key = (stage.part, stage.learns, stage.pretraining)
            optimizer = self._find_optimizer(key)
            loop = EpochLoop(self.model, self.task, self.inputs, self.config, stage, optimizer)
            progress = self.progress or loop.begin(self._find_bar(stage))
            self.progress = progress
            if self._random is not None:  # the run is resumed here
                set_random_state(self._random)
                self._random = None
            try:
                loop.run(progress, [self._add_record, *callbacks])
            finally:
                self.progress = None
                if stage.pretraining:
                    del self.optimizers[key]
                if isinstance(stage.accept, AcceptByScore):  # also of a stage that broke off
                    self.select_if_better(stage.predicts, progress.bar)
            improved = progress.best > progress.start
            result = stage.accept(self, stage, progress.bar, improved)
        if self.score is not None and stage.round == 0:
            result.scores.update(take_from_first(self.score(self.model, stage.predicts)))
        return result

    def fit_gate(self, mix: str | None = None) -> GateFit:
        r"""Fits the gate to the validation nodes, starting from the gate before training: the gate
        of an earlier fit has seen the nodes that a fold holds out.
        """
        self._first_gate.restore()
        found = fit_gate(self.model, self.task, self.config.gate_folds, mix, self.inputs)
        share_state(self.model)
        return take_from_first(found)

    def select(self, score: Score) -> None:
        r"""Selects the current state of the model and of its optimisers."""
        self.best = score
        self._selected = Snapshot(self.model)
        self._selected_optimizers = {}
        for key, optimizer in self.optimizers.items():
            self._selected_optimizers[key] = Snapshot(optimizer).states

    def select_if_better(self, predicts: str, score: Score) -> None:
        r"""Selects the current state, with :obj:`predicts` as its route, if its score exceeds the
        best one.
        """
        self.model.route = predicts
        if score > self.best:
            self.select(score)

    def restore_selected(self) -> None:
        r"""Returns the model and its optimisers to the selected state."""
        self._selected.restore()
        for key in list(self.optimizers):
            if key in self._selected_optimizers:
                states = self._selected_optimizers[key]
                Snapshot(self.optimizers[key], states=states).restore()
            else:
                del self.optimizers[key]

    @property
    def seconds(self) -> float:
        r"""The duration of the run, with the time before it was resumed."""
        return time.perf_counter() - self._started

    def state(self) -> dict[str, Any]:
        r"""Returns everything that the rest of the run depends on, at a record."""
        assert self.progress is not None
        optimizers = {key: optimizer.state_dict() for key, optimizer in self.optimizers.items()}
        return {
            "done": [asdict(result) for result in self.done],
            "history": self.history,
            "seconds": self.seconds,
            "progress": vars(self.progress),
            "optimizers": optimizers,
            "model": self.model.state_dict(),
            "best": self.best,
            "selected": self._selected.states,
            "selected optimizers": self._selected_optimizers,
            "first gate": self._first_gate.states,
            "gate": None if self.gate is None else tuple(self.gate),
            "random": get_random_state(),
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.done = [StageResult.from_dict(result) for result in state["done"]]
        self.history = list(state["history"])
        self._started -= state["seconds"]
        self.progress = Progress(**state["progress"])
        for key, values in state["optimizers"].items():
            self._find_optimizer(key).load_state_dict(values)
        self.model.load_state_dict(state["model"])
        self.best = state["best"]
        self.gate = None if state["gate"] is None else GateFit(*state["gate"])
        self._selected.states = state["selected"]
        self._selected_optimizers = state["selected optimizers"]
        self._first_gate.states = state["first gate"]
        self._random = state["random"]

    def _add_record(self, record: dict[str, Any]) -> None:
        record["step"] = len(self.history) + 1
        self.history.append(record)

    def _find_optimizer(self, key: OptimizerKey) -> ScheduledOptimizer:
        if key not in self.optimizers:
            self.optimizers[key] = make_optimizer(self.model, self.config, *key)
        return self.optimizers[key]

    def _find_bar(self, stage: Stage) -> Score:
        if stage.bar is not None:
            return stage.bar
        scored = Stage(name="score", part="gate", predicts="mixture", learns=())
        with training_only(self.model, ()):
            forward = StageForward(self.model, self.task, scored, self.inputs)
            found = validate(forward.predict(), self.task)
        return take_from_first(score_record(found, self.config, self.task))
