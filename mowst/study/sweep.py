r"""The search for settings by their score on the validation nodes."""

import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from mowst.process import share_threads, starting_workers
from mowst.sparse.memory import keep_freed_memory
from mowst.study.objective import Objective, Search, SurplusTrial
from mowst.study.opening import load_settings, open_study
from mowst.study.runner import RegisteredNames, make_context
from mowst.study.samplers import Pruner, Sampler, make_pruner, make_sampler
from mowst.study.space import find_space, flatten_settings
from mowst.study.storage import ignore_experimental_warnings, open_storage
from mowst.study.values import SETTINGS, check_known
from mowst.train.methods import find_method

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

TrialCallback = Callable[["optuna.Study", "optuna.trial.FrozenTrial"], None]


def sweep(
    data: str,
    strong: str = "gcn",
    method: str = "mowst",
    *,
    trials: int = 30,
    storage: str | None = None,
    study_name: str | None = None,
    space: str = "default",
    preset: str = "default",
    settings: Mapping[str, Any] | None = None,
    seeds: int = 1,
    splits: Sequence[int | str] | None = None,
    workers: int = 1,
    threads: int | None = None,
    timeout: float | None = None,
    trial_seconds: float | None = None,
    sampler: Sampler = "tpe",
    pruner: Pruner | None = None,
    second_objective: Literal["deferred_share"] | None = None,
    root: str | None = None,
    device: str | None = None,
    callbacks: Sequence[TrialCallback] = (),
) -> "optuna.Study":
    r"""Searches settings by their score on the validation nodes. The value of a trial is the mean,
    over its runs, of the score that selects the model (:obj:`select`), negated if lower is better,
    and if the gate is fitted to validation nodes, of the negated cross-validated loss. Trials see
    no test split, and only the labels of the train and val nodes.

    The same call continues an interrupted sweep, also after SIGKILL, and several sweeps may share a
    study. Together they end with exactly :obj:`trials` complete or pruned trials. Trials of
    processes that died are run again. A sweep with one worker is reproducible.

    A trial is pruned if its best score is below the median of other trials after as many
    evaluations, counted from the first of the strong expert. It is also pruned, with the reason in
    its user attribute :obj:`"stopped"`, at its time limit, if it diverges, or if memory runs out.

    With a second objective, the values of a trial are the metric of the task, which is maximized
    (negated if lower is better), and the share of deferred validation nodes, which is minimized.
    The best trials are the Pareto front, see :func:`~mowst.study.best_row`.

    Args:
        data (str): A data set or folder, see :func:`mowst.load_task`.
        strong (str, optional): The strong expert. (default: :obj:`"gcn"`)
        method (str, optional): The method. (default: :obj:`"mowst"`)
        trials (int, optional): The number of trials of the study in the end. (default: :obj:`30`)
        storage (str, optional): :obj:`"sqlite:///FILE"` for one machine; another URL of a database,
            such as :obj:`"postgresql://USER@HOST/NAME"`, or a journal file ending in :obj:`.log` or
            :obj:`.journal`, for many machines; :obj:`None` for memory, with one worker.
            (default: :obj:`None`)
        study_name (str, optional): The name within the storage, by default data, strong expert and
            method. (default: :obj:`None`)
        space (str, optional): :obj:`"default"`, :obj:`"paper"` or an import path, see
            :mod:`mowst.study.space`. (default: :obj:`"default"`)
        preset (str, optional): The preset of the settings that the space does not search. All
            presets that lie in the space are tried first. (default: :obj:`"default"`)
        settings (dict, optional): Settings that hold in every trial, instead of those of space and
            preset; any that a row of a study may have. (default: :obj:`None`)
        seeds (int, optional): The number of seeds of a trial. (default: :obj:`1`)
        splits (list, optional): The splits that each seed is run on, by default as in a row of a
            study. (default: :obj:`None`)
        workers (int, optional): The number of processes. (default: :obj:`1`)
        threads (int, optional): The number of threads that the workers share, by default that of
            this process. (default: :obj:`None`)
        timeout (float, optional): The seconds after which no further trial begins.
            (default: :obj:`None`)
        trial_seconds (float, optional): The seconds after which a trial ends, at its next
            evaluation. (default: :obj:`None`)
        sampler (str, optional): How settings are drawn: :obj:`"tpe"`, a tree-structured Parzen
            estimator; :obj:`"nsga2"`, a genetic algorithm; or :obj:`"random"`.
            (default: :obj:`"tpe"`)
        pruner (str, optional): Which trials are pruned: :obj:`"median"`, those below the median;
            :obj:`"halving"`, by successive halving; or :obj:`"none"`. By default :obj:`"median"`,
            or :obj:`"none"` with a second objective. (default: :obj:`None`)
        second_objective (str, optional): :obj:`"deferred_share"`, for a method with a gate.
            (default: :obj:`None`)
        root (str, optional): The folder of the data sets. (default: :obj:`None`)
        device (str, optional): Where to train. (default: :obj:`None`)
        callbacks (list, optional): Called with the study and each trial that this call ran, in the
            process that ran it. (default: :obj:`()`)

    Raises:
        ValueError: If a name or setting is unknown, the study exists with other ones, or trials
            with two objectives are to be pruned.
        ChildProcessError: If a worker died. The same call continues.
    """
    if workers < 1 or (workers > 1 and storage is None):
        raise ValueError(f"{workers} workers need a shared storage, such as 'sqlite:///sweep.db'")
    if seeds < 1 or trials < 1:
        raise ValueError(f"seeds and trials must be at least 1, got {seeds} and {trials}")
    fixed = dict(settings or {})
    check_known(fixed, SETTINGS, "setting")
    held = {**load_settings(data, preset, strong), **fixed}
    names = sorted(flatten_settings(fixed))
    splits = None if splits is None else list(splits)
    search = Search(data, strong, method, space, seeds, splits, held, names, second_objective)
    find_space(space)
    make_sampler(sampler)
    pruner = _choose_pruner(pruner, search)
    objective = Objective(search, trials, trial_seconds, sampler, root, device)
    metric = objective.check()
    study_name = study_name or f"{data} {strong} {method}"
    study = open_study(search, open_storage(storage), study_name, pruner, metric)
    end = math.inf if timeout is None else time.time() + timeout
    if workers == 1:
        _run_trials(objective, study, end, threads, callbacks)
    else:
        share = share_threads(workers, threads)
        _run_workers(workers, objective, storage, study_name, pruner, end, share, callbacks)
    running = _count_trials(study, "RUNNING")
    if running > 0:
        logger.warning("%s: %d trials are running in other processes", study_name, running)
    return study


def _choose_pruner(pruner: Pruner | None, search: Search) -> Pruner:
    if search.second_objective is None:
        pruner = pruner or "median"
        make_pruner(pruner)
        return pruner
    if search.second_objective != "deferred_share":
        given = search.second_objective
        raise ValueError(f"unknown second_objective '{given}', choose 'deferred_share'")
    if not find_method(search.method).has_gate:
        raise ValueError(
            f"second_objective 'deferred_share' needs a method with a gate: '{search.method}' has "
            "none"
        )
    if pruner not in (None, "none"):
        raise ValueError(
            f"pruner '{pruner}' and second_objective exclude each other: Optuna prunes trials with "
            "one objective only"
        )
    return "none"


def _count_trials(study: "optuna.Study", *states: str) -> int:
    return sum(trial.state.name in states for trial in study.get_trials(deepcopy=False))


def _run_trials(
    objective: Objective,
    study: "optuna.Study",
    end: float,
    threads: int | None,
    callbacks: Sequence[TrialCallback],
) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    while time.time() < end and (parent is None or parent.is_alive()):
        if _count_trials(study, "COMPLETE", "PRUNED", "RUNNING") >= objective.trials:
            return
        with ignore_experimental_warnings():
            study.optimize(objective, n_trials=1, catch=(SurplusTrial,), callbacks=callbacks)


def _run_workers(workers: int, *args: Any) -> None:
    from optuna.logging import get_verbosity

    context = make_context(__name__, "optuna")
    given = (RegisteredNames(), *args, get_verbosity())
    processes = [context.Process(target=_work, args=given) for _ in range(workers)]
    try:
        with starting_workers():
            for process in processes:
                process.start()
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
    died = [process.exitcode for process in processes if process.exitcode]
    if died:
        raise ChildProcessError(
            f"{len(died)} of {workers} workers died (exit status {died[0]}); no finished trial is "
            "lost, and the same command continues"
        )


def _work(
    names: RegisteredNames,
    objective: Objective,
    storage: str | None,
    study_name: str,
    pruner: Pruner,
    end: float,
    threads: int,
    callbacks: Sequence[TrialCallback],
    verbosity: int,
) -> None:
    import optuna

    optuna.logging.set_verbosity(verbosity)
    keep_freed_memory()
    opened = open_storage(storage)
    study = optuna.load_study(study_name=study_name, storage=opened, pruner=make_pruner(pruner))
    _run_trials(objective, study, end, threads, callbacks)
