r"""The values of a row, checked against the types that settings are annotated with."""

from argparse import ArgumentError
from functools import cache
from typing import Any, get_type_hints

from jsonargparse import ArgumentParser

from mowst.nn.build import ModelConfig, Plain
from mowst.train import TrainConfig

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
TASK_TYPES = {"transforms": list[str], "metric": str | None, "class_weight": str | list[float] | None}
TYPES = get_type_hints(ModelConfig) | get_type_hints(TrainConfig) | TASK_TYPES | {"inductive": bool} | ROW_TYPES


def typed(key: str, value: Any) -> Any:
    r"""The value of a row's key, of the key's type: also of text that can only mean one, such as :obj:`"false"`.

    Raises:
        ValueError: If the value is of another type.
    """
    try:
        return _parser(key).parse_object({key: value})[key]
    except ArgumentError as error:
        wanted = TYPES[key].__name__ if isinstance(TYPES[key], type) else TYPES[key]
        raise ValueError(f"{key} must be {wanted}, got {value!r}") from error


@cache
def _parser(key: str) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{key}", type=TYPES[key])
    return parser
