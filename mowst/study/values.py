r"""The keys of a row of a study, and the types of their values."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from mowst.nn.build import ModelConfig, Plain
from mowst.train.config import OVERRIDES, Overrides, TrainConfig
from mowst.train.config import SETTINGS as PLAIN_TRAIN_SETTINGS

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

NAMES = str | list[str]
ROW_TYPES: dict[str, Any] = {
    "name": str,
    "data": NAMES,
    "strong": NAMES,
    "method": NAMES,
    "seeds": int | list[int],
    "splits": int | str | list[int | str],
    "preset": str,
    "published": dict[str, Plain] | None,
}
TASK_DEFAULTS: dict[str, Any] = {
    "transforms": [],
    "metric": None,
    "class_weight": None,
    "inductive": False,
}
TASK_TYPES: dict[str, Any] = {
    "transforms": list[str],
    "metric": str | None,
    "class_weight": str | list[float] | None,
    "inductive": bool,
}
MODEL_TYPES = get_type_hints(ModelConfig)
TRAIN_TYPES: dict[str, Any] = {}
for _name in PLAIN_TRAIN_SETTINGS:
    TRAIN_TYPES[_name] = get_type_hints(TrainConfig)[_name]
for _name in OVERRIDES:
    TRAIN_TYPES[_name] = get_type_hints(Overrides)[_name.partition(".")[2]]
TYPES: dict[str, Any] = {**MODEL_TYPES, **TRAIN_TYPES, **TASK_TYPES, **ROW_TYPES}

MODEL_SETTINGS = [name for name in MODEL_TYPES if name != "strong"]
SETTINGS = [*MODEL_SETTINGS, *TRAIN_TYPES, *TASK_TYPES]


def check_known(given: Iterable[str], known: Iterable[str], kind: str) -> None:
    r"""Raises a :obj:`ValueError` if a key is unknown. The error names the nearest known key."""
    known = list(known)
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"unknown {kind} '{key}'; {hint}")


def parse_value(key: str, value: Any, wanted: Any = None) -> Any:
    r"""Returns a value as the type of its key in :obj:`TYPES`, or as another type. Text that can
    only mean one value of that type, such as :obj:`"false"`, is converted.

    Raises:
        ValueError: If the value has another type.
    """
    from argparse import ArgumentError

    wanted = TYPES[key] if wanted is None else wanted
    name = wanted.__name__ if isinstance(wanted, type) else wanted
    problem = f"{key} must be {name}, got {value!r}"
    if value is None and type(None) not in get_args(wanted):  # jsonargparse takes it for any type
        raise ValueError(problem)
    try:
        return _make_parser(wanted).parse_object({"value": value})["value"]
    except ArgumentError as error:
        raise ValueError(problem) from error


@cache
def _make_parser(wanted: Any) -> "ArgumentParser":
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=wanted)
    return parser
