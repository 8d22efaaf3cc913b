r"""The search for settings by their score on the validation nodes."""

import json
import logging
import math
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from mowst.presets import list_presets, load_preset
from mowst.sparse.memory import keep_freed_memory
from mowst.study.objective import Objective, Search, SurplusTrial, is_active
from mowst.study.runner import RegisteredNames, make_context
from mowst.study.space import find_point, find_space, flatten_settings, nest_settings
from mowst.study.storage import (
    MAX_RETRY,
    ignore_experimental_warnings,
    open_storage,
    recover_trials,
)
from mowst.study.values import SETTINGS, check_known
from mowst.train.run_dir import environment

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

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
) -> "optuna.Study":
    r"""Searches settings by their score on the validation nodes, with a tree-structured Parzen
    estimator. The value of a trial is the mean, over its runs, of the score that selects the model
    (:obj:`select`), and if the gate is fitted to validation nodes, of the negated cross-validated
    loss. Trials see no test split, and only the labels of the train and val nodes.

    The same call continues an interrupted sweep, also after SIGKILL, and several sweeps may share a
    study. Together they end with exactly :obj:`trials` complete or pruned trials. Trials of
    processes that died are run again. A sweep with one worker is reproducible.

    A trial is pruned if its best score is below the median of other trials after as many
    evaluations, counted from the first of the strong expert. It is also pruned, with the reason in
    its user attribute :obj:`"stopped"`, at its time limit, if it diverges, or if memory runs out.

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
        root (str, optional): The folder of the data sets. (default: :obj:`None`)
        device (str, optional): Where to train. (default: :obj:`None`)

    Raises:
        ValueError: If a name or setting is unknown, or the study exists with other ones.
        ChildProcessError: If a worker died. The same call continues.
    """
    if workers < 1 or (workers > 1 and storage is None):
        raise ValueError(f"{workers} workers need a shared storage, such as 'sqlite:///sweep.db'")
    if seeds < 1 or trials < 1:
        raise ValueError(f"seeds and trials must be at least 1, got {seeds} and {trials}")
    fixed = dict(settings or {})
    check_known(fixed, SETTINGS, "setting")
    held = {**_load_settings(data, preset, strong), **fixed}
    names = sorted(flatten_settings(fixed))
    splits = None if splits is None else list(splits)
    search = Search(data, strong, method, space, seeds, splits, held, names)
    find_space(space)
    objective = Objective(search, trials, trial_seconds, root, device)
    objective.check()
    study_name = study_name or f"{data} {strong} {method}"
    study = _open_study(search, open_storage(storage), study_name)
    end = math.inf if timeout is None else time.time() + timeout
    if workers == 1:
        _run_trials(objective, study, end, threads)
    else:
        share = max(1, (threads or torch.get_num_threads()) // workers)
        _run_workers(workers, objective, storage, study_name, end, share)
    running = _count_trials(study, "RUNNING")
    if running > 0:
        logger.warning("%s: %d trials are running in other processes", study_name, running)
    return study


def best_row(storage: str, study_name: str | None = None) -> dict[str, Any]:
    r"""Returns the best trial of a sweep as a row of a study.

    Args:
        storage (str): The storage of the sweep, such as :obj:`"sqlite:///FILE"`,
            :obj:`"postgresql://USER@HOST/NAME"` or :obj:`"FILE.log"`.
        study_name (str, optional): The name within the storage. Not needed if there is only one.
            (default: :obj:`None`)

    Raises:
        ValueError: If the study does not exist, was not made by a sweep, or has no complete trial.
    """
    import optuna

    opened = open_storage(storage, create=False)
    names = optuna.get_all_study_names(opened)
    if study_name is None and len(names) == 1:
        study_name = names[0]
    if study_name not in names:
        found = "no study" if study_name is None else f"no study '{study_name}'"
        if study_name is None and names:
            found = "several studies"
        hint = f"; name one of these: {'; '.join(names)}" if names else ""
        raise ValueError(f"'{storage}' holds {found}{hint}")
    study = optuna.load_study(study_name=study_name, storage=opened)
    if "search" not in study.user_attrs:
        raise ValueError(f"the study '{study_name}' in '{storage}' was not made by a sweep")
    if _count_trials(study, "COMPLETE") == 0:
        raise ValueError(f"no trial of the study '{study_name}' is complete yet")
    return Search(**study.user_attrs["search"]).make_row(study.best_trial.params)


def _load_settings(data: str, preset: str, strong: str) -> dict[str, Any]:
    row = load_preset(data, name=preset, strong=strong)
    return {key: value for key, value in row.items() if key in SETTINGS}


def _count_trials(study: "optuna.Study", *states: str) -> int:
    return sum(trial.state.name in states for trial in study.get_trials(deepcopy=False))


def _make_pruner() -> Any:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=5, n_warmup_steps=5)


def _open_study(search: Search, storage: "BaseStorage", name: str) -> "optuna.Study":
    import optuna

    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        pruner=_make_pruner(),
        load_if_exists=True,
    )
    if [direction.name for direction in study.directions] != ["MAXIMIZE"]:
        raise ValueError(
            f"the study '{name}' does not maximize one value, as a sweep does; give another name"
        )
    has_trials = len(study.get_trials(deepcopy=False)) > 0
    before, now = study.user_attrs.get("search"), json.loads(json.dumps(asdict(search)))
    if before is not None:
        then, new = flatten_settings(before), flatten_settings(now)
        for key in sorted(then.keys() | new.keys()):
            if then.get(key) != new.get(key):
                raise ValueError(
                    f"the study '{name}' was made with {key} = {then.get(key)!r}, not "
                    f"{new.get(key)!r}; give another name"
                )
    elif has_trials:
        raise ValueError(f"the study '{name}' was not made by a sweep; give another name")
    else:
        study.set_user_attr("search", now)
    environments = study.user_attrs.get("environments", [])
    study.set_user_attr("environments", [*environments, environment()])
    recovered = recover_trials(study)
    if recovered:
        logger.warning("%s: %d trials of processes that died are run again", name, recovered)
    for preset in list_presets(search.data, search.strong):
        point = _find_preset_point(search, preset)
        if point is not None and _is_untried(study, point):
            study.enqueue_trial(point, user_attrs={"preset": preset})
    return study


def _is_untried(study: "optuna.Study", point: Mapping[str, Any]) -> bool:
    trials = study.get_trials(deepcopy=False)
    same = [t for t in trials if t.system_attrs.get("fixed_params", t.params) == point]
    return len(same) <= MAX_RETRY and not any(map(is_active, same))


def _find_preset_point(search: Search, preset: str) -> dict[str, Any] | None:
    settings = _load_settings(search.data, preset, search.strong)
    held = flatten_settings(search.settings)
    values = flatten_settings(settings)
    for name in search.fixed:
        values[name] = held[name]
    return find_point(nest_settings(values), search.make_space(), search.method, search.strong)


def _run_trials(
    objective: Objective, study: "optuna.Study", end: float, threads: int | None
) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    while time.time() < end and (parent is None or parent.is_alive()):
        if _count_trials(study, "COMPLETE", "PRUNED", "RUNNING") >= objective.trials:
            return
        with ignore_experimental_warnings():
            study.optimize(objective, n_trials=1, catch=(SurplusTrial,))


def _run_workers(workers: int, *args: Any) -> None:
    context = make_context(__name__, "optuna")
    names = RegisteredNames()
    processes = [context.Process(target=_work, args=(names, *args)) for _ in range(workers)]
    try:
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
    end: float,
    threads: int,
) -> None:
    import optuna

    keep_freed_memory()
    opened = open_storage(storage)
    study = optuna.load_study(study_name=study_name, storage=opened, pruner=_make_pruner())
    _run_trials(objective, study, end, threads)
