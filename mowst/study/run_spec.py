r"""The specification of one run of a study, and the rows of a YAML file that many are written as.

.. code-block:: yaml

    rows:
      - {data: [cora, digits], strong: [gcn, sage], method: [strong, mowst], seeds: 5}
      - {data: my_graphs/sales, seeds: 3, splits: 1, name: mine, mix: logit, weak.lr: 0.03}

A row has

- :obj:`data`, :obj:`strong` and :obj:`method`, each a value or a list. All combinations are run.
- :obj:`seeds`, a number of seeds or a list of them.
- :obj:`splits`, a number of splits or a list; each is run with each seed. Without it, a data set
  with one published split is run on that one, and otherwise seed :math:`k` is run on split
  :math:`k`, modulo the number of published splits.
- Settings of :class:`~mowst.nn.build.ModelConfig` and :class:`~mowst.train.TrainConfig`, overrides
  spelled with a dot, and :obj:`transforms`, :obj:`metric`, :obj:`class_weight` and
  :obj:`inductive` of the task. Other settings are the defaults, or those of a :obj:`preset`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any

from mowst.data import find_dataset
from mowst.io import read_yaml
from mowst.nn.build import ModelConfig
from mowst.presets import load_preset
from mowst.study.values import (
    MODEL_SETTINGS,
    ROW_TYPES,
    SETTINGS,
    TASK_DEFAULTS,
    TRAIN_TYPES,
    check_known,
    parse_value,
)
from mowst.train.config import TrainConfig, flatten_config, make_config
from mowst.train.methods import check_method, find_method

SPLIT_FILES = {"splits", "train", "train_mask"}


@dataclass(frozen=True)
class RunSpec:
    r"""Everything that determines one run.

    Args:
        data (str): A data set or folder, see :func:`mowst.load_task`.
        strong (str, optional): The strong expert. (default: :obj:`"gcn"`)
        method (str, optional): The method. (default: :obj:`"mowst"`)
        seed (int, optional): The seed of parameters and training. (default: :obj:`0`)
        split (int or str, optional): The split. (default: :obj:`0`)
        settings (dict, optional): The settings that differ from the defaults. (default: :obj:`{}`)
        name (str, optional): A label, by default data, strong expert and method.
            (default: :obj:`""`)
        published (dict, optional): The published score in %, as :obj:`mean`, :obj:`std`,
            :obj:`certified` and :obj:`source`. (default: :obj:`None`)

    Attributes:
        model_config (ModelConfig): The settings of the model.
        train_config (TrainConfig): The settings of training.
        has_gate (bool): Whether the method trains a mixture.

    Raises:
        ValueError: If a setting or the method is unknown, or a setting is impossible or has no
            effect.
    """

    data: str
    strong: str = "gcn"
    method: str = "mowst"
    seed: int = 0
    split: int | str = 0
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    name: str = ""
    published: dict[str, Any] | None = field(default=None, hash=False)
    model_config: ModelConfig = field(init=False, repr=False, hash=False)
    train_config: TrainConfig = field(init=False, repr=False, hash=False)
    has_gate: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_known(self.settings, SETTINGS, "setting")
        model = _select(self.settings, MODEL_SETTINGS)
        object.__setattr__(self, "model_config", ModelConfig(strong=self.strong, **model))
        train = _select(self.settings, TRAIN_TYPES)
        object.__setattr__(self, "train_config", make_config(**train))
        object.__setattr__(self, "method", check_method(self.method))
        object.__setattr__(self, "has_gate", find_method(self.method).has_gate)
        name = self.name or f"{self.data} {self.strong} {self.method}"
        object.__setattr__(self, "name", name)

    @property
    def all_settings(self) -> dict[str, Any]:
        r"""All settings, including those at their defaults."""
        task = {**TASK_DEFAULTS, **_select(self.settings, TASK_DEFAULTS)}
        return {**asdict(self.model_config), **flatten_config(self.train_config), **task}

    @property
    def id(self) -> str:
        r"""16 hexadecimal digits that identify the run. Name and published score do not count."""
        run = {key: getattr(self, key) for key in ("data", "method", "seed", "split")}
        run.update(self.all_settings)
        # 0 and 0.0, or a tuple and a list, are the same setting.
        plain = json.loads(json.dumps(run), parse_int=float)
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def read_rows(path: str | PathLike[str]) -> list[dict[str, Any]]:
    r"""Reads the rows of a YAML file, which are the entries of all lists at its top level.

    Raises:
        ValueError: If the file is invalid or has no row.
    """
    rows: list[Any] = []
    for table in read_yaml(Path(path)).values():
        if isinstance(table, list):
            rows.extend(table)
    if not rows:
        example = "'rows: [{data: cora, method: mowst}]'"
        raise ValueError(f"{path} has no row: write a list of rows, such as {example}")
    for row in rows:
        if not isinstance(row, dict):
            example = "{data: cora, method: mowst}"
            raise ValueError(f"{path}: a row is a mapping such as {example}, got {row!r}")
    return rows


def expand(rows: Sequence[Mapping[str, Any]]) -> list[RunSpec]:
    r"""Returns the runs of all rows, each once, seed by seed within a row.

    Raises:
        ValueError: If a row has no data, an unknown key (the nearest known one is named), a value
            of a wrong type, an impossible setting, or no run.
    """
    specs: dict[str, RunSpec] = {}
    for row in rows:
        found = expand_row(row)
        if not found:
            raise ValueError(
                f"the row {dict(row)} has no run: one of its lists is empty, or seeds is 0"
            )
        specs.update({spec.id: spec for spec in found})
    return list(specs.values())


def expand_row(row: Mapping[str, Any]) -> list[RunSpec]:
    r"""Returns the runs of one row, see :func:`expand`."""
    check_known(row, [*ROW_TYPES, *SETTINGS], "key")
    if "data" not in row:
        raise ValueError(f"the row {dict(row)} names no data")
    row = {key: parse_value(key, value) for key, value in row.items()}
    combinations = product(
        _list_range(row.get("seeds", 1)),
        _list_values(row["data"]),
        _list_values(row.get("strong", "gcn")),
        _list_values(row.get("method", "mowst")),
    )
    specs = []
    for seed, data, strong, method in combinations:
        settings = {}
        if "preset" in row:
            settings = _select(load_preset(data, row["preset"], strong), SETTINGS)
        settings.update(_select(row, SETTINGS))
        splits = _list_range(row["splits"]) if "splits" in row else [find_split(data, seed)]
        name, published = row.get("name", ""), row.get("published")
        for split in splits:
            specs.append(RunSpec(data, strong, method, seed, split, settings, name, published))
    return specs


def find_split(data: str, seed: int) -> int:
    r"""Returns the split that a seed is run on by default: the seed modulo the number of published
    splits, or the seed itself where splits are drawn. A folder with splits of its own has one.

    Raises:
        ValueError: If the data set is unknown.
    """
    try:
        num_splits = find_dataset(data).num_splits
    except ValueError:
        if not Path(data).is_dir():
            raise
        stems = {path.stem for path in Path(data).iterdir()}
        num_splits = 1 if SPLIT_FILES & stems else None
    return seed if num_splits is None else seed % num_splits


def _select(settings: Mapping[str, Any], keys: Any) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key in keys}


def _list_values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _list_range(value: Any) -> list[Any]:
    return list(range(value)) if isinstance(value, int) else _list_values(value)
