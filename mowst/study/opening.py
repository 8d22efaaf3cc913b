r"""Creates the study of a sweep, or continues it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mowst.presets import list_presets, load_preset
from mowst.study.objective import Search, is_active
from mowst.study.samplers import make_pruner
from mowst.study.space import find_point, flatten_settings, nest_settings
from mowst.study.storage import MAX_RETRY, ignore_experimental_warnings, recover_trials
from mowst.study.values import SETTINGS
from mowst.train.environment import environment

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

logger = logging.getLogger(__name__)


def load_settings(data: str, preset: str, strong: str) -> dict[str, Any]:
    r"""Returns the settings of a preset."""
    row = load_preset(data, name=preset, strong=strong)
    return {key: value for key, value in row.items() if key in SETTINGS}


def open_study(
    search: Search, storage: "BaseStorage", name: str, pruner: str, metric: str
) -> "optuna.Study":
    r"""Creates the study of a sweep, or continues it: trials of processes that died are queued
    again, and so are presets that were not tried.

    Args:
        search (Search): What the study searches.
        storage (BaseStorage): The storage.
        name (str): The name within the storage.
        pruner (str): The name of the pruner.
        metric (str): The metric of the task.

    Raises:
        ValueError: If the study exists and searches something else.
    """
    import optuna

    directions: list[Any] = (
        ["maximize"] if search.second_objective is None else ["maximize", "minimize"]
    )
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=directions,
        pruner=make_pruner(pruner),
        load_if_exists=True,
    )
    # Read first: another sweep that begins now writes what it searches before anything else.
    is_used = bool(study.user_attrs or study.get_trials(deepcopy=False))
    before, now = Search.of_study(study), json.loads(json.dumps(asdict(search)))
    if before is not None:
        then, new = flatten_settings(asdict(before)), flatten_settings(now)
        for key in sorted(then.keys() | new.keys()):
            if then.get(key) != new.get(key):
                raise ValueError(
                    f"the study '{name}' was made with {key} = {then.get(key)!r}, not "
                    f"{new.get(key)!r}; give another name"
                )
    found = [direction.name.lower() for direction in study.directions]
    if found != directions:
        raise ValueError(
            f"the study '{name}' exists to {' and '.join(found)}, and this sweep would "
            f"{' and '.join(directions)}; give another name"
        )
    if before is None:
        if is_used:
            raise ValueError(
                f"the study '{name}' was not made by a sweep of this version; give another name"
            )
        study.set_user_attr("search", now)
    if search.second_objective is not None:
        with ignore_experimental_warnings():
            study.set_metric_names([metric, search.second_objective])
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
    settings = load_settings(search.data, preset, search.strong)
    held = flatten_settings(search.settings)
    values = flatten_settings(settings)
    for name in search.fixed:
        values[name] = held[name]
    return find_point(nest_settings(values), search.make_space(), search.method, search.strong)
