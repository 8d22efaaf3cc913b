r"""Training in one call."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch_geometric.data import Data, Dataset

from mowst.nn.mowst import EXPERTS, Mowst
from mowst.task import GraphTask
from mowst.train.callbacks import Callback, ProgressBar, is_watched
from mowst.train.checks import check_model, check_types, describe_inputs, list_shapes
from mowst.train.config import TrainConfig, flatten_config
from mowst.train.distributed import (
    check_processes,
    is_first,
    is_set_anywhere,
    run_in_first,
    share_state,
    take_from_first,
)
from mowst.train.evaluate import FitResult, score_model, score_part, score_single
from mowst.train.inputs import TaskInputs
from mowst.train.memory import check_precision, recompute_layers
from mowst.train.methods import check_method, find_method
from mowst.train.run_dir import RunDir, refuse_differences
from mowst.train.trainer import Trainer

logger = logging.getLogger(__name__)


def fit(
    model: Mowst,
    task: GraphTask | Data | Dataset,
    method: str = "mowst",
    config: TrainConfig | None = None,
    *,
    device: torch.device | str | None = None,
    run_dir: RunDir | str | PathLike[str] | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    callbacks: Sequence[Callback] = (),
    reset: bool = False,
) -> FitResult:
    r"""Trains a model on a task and leaves the selected state in it, in evaluation mode, also if
    training is interrupted.

    By default the gate is fitted to validation nodes, and an expert may be chosen to predict alone:

    .. code-block:: text

        mowst        pretrain both experts; fit the gate; then in each round
                       train the weak expert on L, with everything else frozen; refit the gate
                       train the strong expert on L, with everything else frozen; refit the gate
        mowst-star   pretrain both experts; fit the gate; then in each round
                       train both experts on L*; refit the gate
        weak         train the weak expert on cross-entropy
        strong       train the strong expert on cross-entropy

    with the losses :math:`L` (:func:`~mowst.nn.loss.mowst_loss`) and :math:`L^{\star}`
    (:func:`~mowst.nn.loss.mowst_star_loss`) of the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper. :func:`~mowst.train.gate_fit.fit_gate` fits the
    gate, and chooses what predicts, by cross-validated likelihood on the validation nodes. A stage
    of a round is accepted if that likelihood rises by more than one standard error; otherwise
    experts, gate and optimisers return to where they were. A part is trained again only after
    another one was accepted, so that most runs end after one or two rounds. The algorithm of the
    paper, in which the gate learns on the training nodes, is :obj:`gate_fit="train"`; its published
    settings are the preset :obj:`"paper"`.

    An expert without learnable parameters, such as a frozen one, is legal: its stages are skipped.
    For an inductive task, training and all choices see :attr:`~mowst.task.GraphTask.visible` only.
    A task without a test split trains.

    If several processes of one :mod:`torch.distributed` group call it with the same arguments, they
    train one model: each process computes its share of the batches of a step, the first one writes,
    and all return the same result.

    Training starts from the current parameters of the model, which is logged as a warning if an
    earlier call has trained them. To repeat a run to the bit, call
    :func:`mowst.seed_everything` before building the model.

    Args:
        model (Mowst): The model.
        task (GraphTask or torch_geometric.data.Data): The graph, splits and metric. A graph with
            masks, or a dataset of one, becomes a task by :meth:`GraphTask.from_data()
            <mowst.task.GraphTask.from_data>`.
        method (str, optional): :obj:`"mowst"`, :obj:`"mowst-star"`, :obj:`"weak"`, :obj:`"strong"`,
            a name given to :func:`~mowst.train.methods.register_method`, or an import path.
            (default: :obj:`"mowst"`)
        config (TrainConfig, optional): The settings; the default ones if :obj:`None`. (default:
            :obj:`None`)
        device (str, optional): Where to train; the device of the model if :obj:`None`. (default:
            :obj:`None`)
        run_dir (str, optional): A folder to write settings, history, scores and model to. (default:
            :obj:`None`)
        resume (bool, optional): If set to :obj:`True`, continues the run in :obj:`run_dir` that was
            killed or stopped, to the same results, to the bit (on a CPU, with as many threads).
            Requires the same model, built again, and the same task, method and settings. (default:
            :obj:`False`)
        checkpoint_seconds (float, optional): The time between two checkpoints of a run with a
            folder, in addition to the one at the beginning of each stage. (default: :obj:`60.0`)
        callbacks (list, optional): Called with the record of each evaluated epoch, see
            :mod:`mowst.train.callbacks`. In a terminal or a notebook,
            :class:`~mowst.train.callbacks.ProgressBar` is added if it is missing. (default:
            :obj:`()`)
        reset (bool, optional): If set to :obj:`True`, resets the parameters of the model first.
            (default: :obj:`False`)

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If the method is unknown, the model does not fit the task, or the run to resume
            was begun with other settings, another model or another task.
        InterruptedError: If the run was asked to stop; a checkpoint was written.
        BlockingIOError: If another process trains in the same folder.
        ConnectionError: If another process of the group ended.
        FloatingPointError: If a number becomes infinite or NaN. The error names the epoch, the
            stage and the first such tensor, and the best state so far is in the model.
    """
    config = TrainConfig() if config is None else config
    if isinstance(model, Mowst) and not isinstance(task, GraphTask):
        task = GraphTask.from_data(task)
    check_types(model, task, config)
    name = check_method(method)
    chosen = find_method(name)
    if isinstance(run_dir, str | PathLike):
        run_dir = RunDir(run_dir, {"method": name, **flatten_config(config)})
    if device is None:
        device = next((p.device for p in model.parameters()), task.data.x.device)
    model.to(device)
    task = task if task.data.x.device == torch.device(device) else task.to(device)
    check_processes(config.batches, config.batches_per_step)
    check_precision(config.precision, task.data.x.device)
    inputs = TaskInputs(model, task)
    check_model(model, inputs, chosen, config)
    with _hold_run_dir(run_dir):
        made_on = describe_inputs(model, task, config) if run_dir else {}
        state = _begin_run(run_dir, resume, model, made_on)
        if reset:
            model.reset_parameters()
        if model.fitted and not resume:
            logger.warning(
                "the model was fitted before: training goes on from there, or from new parameters "
                "with reset=True"
            )
        model.fitted = True
        share_state(model)
        torch.set_rng_state(take_from_first(torch.get_rng_state()))

        def score(model: Mowst, predicts: str) -> dict[str, float]:
            return score_part(model, inputs, predicts)

        trainer = Trainer(
            model, task, chosen, config, score=score, state=state, inputs=inputs.visible
        )
        if is_watched() and is_first() and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks = [*callbacks, ProgressBar()]
        if run_dir:
            callbacks = [*callbacks, _Writer(run_dir, trainer, made_on, checkpoint_seconds)]
        experts = [getattr(model, expert) for expert in chosen.experts]
        try:
            with recompute_layers(experts, config.checkpoint_activations):
                trainer.train(callbacks)
        finally:
            model.eval()
        result = _make_result(name, trainer, inputs)
        if run_dir and is_first():
            run_dir.finish(model, result)
    return result


def _make_result(method: str, trainer: Trainer, inputs: TaskInputs) -> FitResult:
    if trainer.method.has_gate:
        scores = score_model(trainer.model, inputs.task, inputs)
    else:
        scores = score_single(trainer.model, inputs, trainer.method.experts[0])
    alone, start = {}, {}
    for done in trainer.done:
        if done.predicts in EXPERTS:
            alone[done.predicts] = done.scores
        elif done.round == 0:
            start = done.scores
    gate = trainer.gate
    return FitResult(
        method=method,
        **scores,
        alone=alone,
        start=start,
        choices=gate.losses if gate else {},
        chosen=gate.chosen if gate else None,
        history=trainer.history,
        seconds=trainer.seconds,
    )


class _Writer:
    # The callback that keeps the folder of a run up to date.
    def __init__(
        self, run_dir: RunDir, trainer: Trainer, made_on: dict[str, Any], checkpoint_seconds: float
    ) -> None:
        self.run_dir = run_dir
        self.trainer = trainer
        self.made_on = made_on
        self.checkpoint_seconds = checkpoint_seconds

    def __call__(self, record: dict[str, Any]) -> None:
        run_dir = self.run_dir
        if is_first():
            run_dir.append(record)
        run_dir.stopping = is_set_anywhere(run_dir.stopping)
        if is_first() and run_dir.is_due(record, self.checkpoint_seconds):
            run_dir.save_checkpoint(record, {**self.trainer.state(), "task": self.made_on})
        if run_dir.stopping:
            raise InterruptedError(f"the run was stopped; resume it from '{run_dir.path}'")


def _begin_run(
    run_dir: RunDir | None, resume: bool, model: Mowst, made_on: dict[str, Any]
) -> dict[str, Any] | None:
    # Returns the state to continue from, of a run that is resumed and had saved one.
    if resume and not run_dir:
        raise ValueError("resume=True continues the run in a folder: give run_dir")
    if not run_dir:
        return None
    if not resume:
        run_in_first(run_dir.start)
        return None
    state = run_in_first(run_dir.resume)
    if state is not None:
        refuse_differences(state["task"], made_on, "the run")
        refuse_differences(
            list_shapes(state["model"]), list_shapes(model.state_dict()), "the model of the run"
        )
    return state


@contextmanager
def _hold_run_dir(run_dir: RunDir | None) -> Iterator[None]:
    # The folder belongs to this process until training ends, however it ends.
    try:
        yield
    except ConnectionError as error:
        rest = "the run is lost"
        if run_dir:
            rest = f"resume the run, in as many processes, from '{run_dir.path}'"
        raise ConnectionError(f"{error}; {rest}") from error
    finally:
        if run_dir:
            run_dir.release()
