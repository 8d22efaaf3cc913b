r"""The search for settings, by their score on the validation nodes."""

import json
import logging
import math
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import optuna
import torch
from optuna.pruners import MedianPruner
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from mowst.allocator import keep_freed_memory
from mowst.presets import PRESETS
from mowst.presets import preset as preset_of
from mowst.study.cell import SETTINGS, check_known
from mowst.study.objective import ACTIVE, Objective, Search, Surplus
from mowst.study.runner import START_METHOD
from mowst.study.space import find_space, flat, nested, point_of
from mowst.study.storage import MAX_RETRY, no_experimental_warnings, open_storage, recover
from mowst.train import environment

logger = logging.getLogger(__name__)


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
    root: str | None = None,
    device: str | None = None,
) -> optuna.Study:
    r"""Searches settings that do well on the validation nodes, by a tree-structured Parzen estimator. The value of a
    trial is the mean, over its runs, of the score that selects among states in training: the negated loss on the
    validation nodes or the metric there (:obj:`select`), and of a mixture whose gates are fitted to these nodes the
    negated cross-validated loss. The task of a trial has no test split, and no labels but those of its train and val
    nodes.

    A sweep that was interrupted, also by SIGKILL, continues when it is called again with the same storage and name;
    and several sweeps may share a study, on several machines. Together they end with exactly :obj:`trials` trials that
    are complete or pruned. Trials whose process died are run again. What a trial draws follows from its number and
    the trials before it, so a sweep of one worker repeats itself.

    A trial is pruned where its best score is below the median that others had after as many evaluations, counted from
    the first of the strong expert; and, with the reason in its user attribute :obj:`"stopped"`, at its time limit, or
    where its loss diverges or memory runs out.

    Args:
        data (str): A data set or folder, as :func:`mowst.load_task` knows it.
        strong (str, optional): The strong expert. (default: :obj:`"gcn"`)
        method (str, optional): The method. (default: :obj:`"mowst"`)
        trials (int, optional): How many trials the study has in the end. (default: :obj:`30`)
        storage (str, optional): Where the trials are kept: :obj:`"sqlite:///FILE"` on one machine; another URL of a
            database, such as :obj:`"postgresql://USER@HOST/NAME"`, or a journal, which is a file ending in
            :obj:`.log` or :obj:`.journal`, on many; :obj:`None` is the memory of this process, for one worker.
            (default: :obj:`None`)
        study_name (str, optional): The name within the storage, by default data, strong expert and method.
            (default: :obj:`None`)
        space (str, optional): :obj:`"default"`, :obj:`"paper"` or an import path, see :mod:`mowst.study.space`.
            (default: :obj:`"default"`)
        preset (str, optional): The settings that hold where the space asks for nothing. Those of every preset are
            tried first, where they are in the space. (default: :obj:`"default"`)
        settings (dict, optional): Settings that hold in every trial, whatever space and preset say; any that a row of
            a study may have. (default: :obj:`None`)
        seeds (int, optional): The number of seeds that a trial is run with. (default: :obj:`1`)
        splits (list, optional): The splits that each seed is run on, by default as in a row of a study.
            (default: :obj:`None`)
        workers (int, optional): The number of processes. (default: :obj:`1`)
        threads (int, optional): The threads that the workers share, by default those of this process.
            (default: :obj:`None`)
        timeout (float, optional): Seconds after which no further trial begins. (default: :obj:`None`)
        trial_seconds (float, optional): Seconds after which a trial ends, at its next evaluation.
            (default: :obj:`None`)
        root (str, optional): The folder of the data sets. (default: :obj:`None`)
        device (str, optional): Where to train. (default: :obj:`None`)

    Raises:
        ValueError: If a name or setting is unknown, or the study was made with others; names the first that differs.
        ChildProcessError: If a worker died; call again to continue.
    """
    if workers < 1 or (workers > 1 and storage is None):
        raise ValueError(f"{workers} workers need a storage that they share, such as storage='sqlite:///sweep.db'")
    if seeds < 1 or trials < 1:
        raise ValueError(f"seeds and trials must be at least 1, got {seeds} and {trials}")
    fixed = dict(settings or {})
    held = _settings_of(preset_of(data, name=preset, strong=strong)) | fixed
    splits = None if splits is None else list(splits)
    search = Search(data, strong, method, space, seeds, splits, held, sorted(flat(fixed)))
    check_known(held, SETTINGS, "setting")
    find_space(space)
    objective = Objective(search, trials, trial_seconds, root, device)
    objective.check()
    study_name = study_name or f"{data} {strong} {method}"
    study = _open(search, open_storage(storage), study_name)
    end = math.inf if timeout is None else time.time() + timeout
    if workers == 1:
        _work(objective, study, end, threads)
    else:
        share = max(1, (threads or torch.get_num_threads()) // workers)
        _run_workers(workers, objective, storage, study_name, end, share)
    if running := study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        logger.warning("%s: %d trials are still running in other processes", study_name, len(running))
    return study


def best_row(storage: str, study_name: str | None = None) -> dict[str, Any]:
    r"""The best trial as a row of a study: data, strong expert, method, and every setting that the sweep held or found.

    Args:
        storage (str): The storage of the sweep, such as :obj:`"sqlite:///FILE"`, :obj:`"postgresql://USER@HOST/NAME"`
            or :obj:`"FILE.log"`.
        study_name (str, optional): The name within the storage; not needed if there is only one.
            (default: :obj:`None`)

    Raises:
        ValueError: If there is no such study, or none of its trials is complete.
    """
    opened = open_storage(storage, create=False)
    names = optuna.get_all_study_names(opened)
    if study_name is None and len(names) == 1:
        study_name = names[0]
    if study_name not in names:
        wanted = "study" if study_name is None else f"study '{study_name}'"
        held = "several studies" if study_name is None and names else f"no {wanted}"
        raise ValueError(f"'{storage}' holds {held}" + (f"; name one of these: {'; '.join(names)}" if names else ""))
    study = optuna.load_study(study_name=study_name, storage=opened)
    if "search" not in study.user_attrs:
        raise ValueError(f"the study '{study_name}' in '{storage}' was not made by a sweep")
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ValueError(f"no trial of the study '{study.study_name}' is complete yet")
    return Search(**study.user_attrs["search"]).row(study.best_trial.params)


def _settings_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key in SETTINGS}


def _pruner() -> MedianPruner:
    return MedianPruner(n_startup_trials=5, n_warmup_steps=5)


def _open(search: Search, storage: BaseStorage, name: str) -> optuna.Study:
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", pruner=_pruner(), load_if_exists=True
    )
    what, before = json.loads(json.dumps(asdict(search))), study.user_attrs.get("search")
    if before is not None and (differing := _difference(flat(before), flat(what))):
        raise ValueError(f"the study '{name}' was made with {differing}; give it another name")
    if before is None:
        study.set_user_attr("search", what)
    study.set_user_attr("environments", [*study.user_attrs.get("environments", []), environment()])
    if recovered := recover(study):
        logger.warning("%s: the processes of %d trials died; they are run again", name, recovered)
    for preset in PRESETS:
        if (point := _point(search, preset)) is not None and _is_untried(study, point):
            study.enqueue_trial(point, user_attrs={"preset": preset})
    return study


def _is_untried(study: optuna.Study, point: Mapping[str, Any]) -> bool:
    trials = study.get_trials(deepcopy=False)
    states = [trial.state for trial in trials if trial.system_attrs.get("fixed_params", trial.params) == point]
    return len(states) <= MAX_RETRY and not any(state in ACTIVE for state in states)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            return f"{name} = {before.get(name)!r}, not {now.get(name)!r}"
    return None


def _point(search: Search, preset: str) -> dict[str, Any] | None:
    try:
        row = preset_of(search.data, name=preset, strong=search.strong)
    except ValueError:
        return None  # the preset has no such row
    held = flat(search.settings)
    values = flat(_settings_of(row)) | {name: held[name] for name in search.fixed}
    return point_of(nested(values), search.asks, search.method, search.strong)


def _work(objective: Objective, study: optuna.Study, end: float, threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    while time.time() < end and (parent is None or parent.is_alive()) and _is_wanting(study, objective.trials):
        with no_experimental_warnings():
            study.optimize(objective, n_trials=1, catch=(Surplus,))


def _is_wanting(study: optuna.Study, trials: int) -> bool:
    # Waiting trials are nobody's yet.
    active = study.get_trials(deepcopy=False, states=ACTIVE)
    return sum(trial.state != TrialState.WAITING for trial in active) < trials


def _run_workers(
    workers: int, objective: Objective, storage: str | None, study_name: str, end: float, threads: int
) -> None:
    context: Any = multiprocessing.get_context(START_METHOD)
    if START_METHOD == "forkserver":
        context.set_forkserver_preload([__name__])
    processes = [
        context.Process(target=_worker, args=(objective, storage, study_name, end, threads)) for _ in range(workers)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()
    if died := [process.exitcode for process in processes if process.exitcode]:
        raise ChildProcessError(
            f"{len(died)} of {workers} workers died (exit status {died[0]}); no finished trial is lost, and the same "
            "command continues"
        )


def _worker(objective: Objective, storage: str | None, study_name: str, end: float, threads: int) -> None:
    keep_freed_memory()
    study = optuna.load_study(study_name=study_name, storage=open_storage(storage), pruner=_pruner())
    _work(objective, study, end, threads)
