r"""One run of a study, and the rows of a YAML file that many are written as.

.. code-block:: yaml

    rows:
      - {data: [cora, digits], strong: [gcn, sage], method: [strong, mowst], seeds: 5, dropout: 0.3}
      - {data: my_graphs/sales, method: mowst, seeds: 3, splits: 1, name: mine, mix: logit, transforms: [undirected]}

A row holds lists or single values of :obj:`data`, :obj:`strong` and :obj:`method`; :obj:`seeds`, a number of them or a
list; and any setting of :class:`~mowst.nn.build.ModelConfig`, :class:`~mowst.train.TrainConfig`, and
:obj:`transforms`, :obj:`metric`, :obj:`class_weight`, :obj:`inductive` of the task. Settings that it does not name are
the defaults, or those of a :obj:`preset`. Without :obj:`splits` (a number of them or a list, each run with each seed),
a data set with one published split has all its runs on that one; else seed :math:`k` runs on split :math:`k`, counted
from the first again where there are fewer.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any

from mowst.data import find_dataset
from mowst.io import read_yaml
from mowst.nn.build import ModelConfig
from mowst.presets import preset
from mowst.study.values import ROW_TYPES, typed
from mowst.train import TrainConfig
from mowst.train.config import check_method

TASK_SETTINGS: dict[str, Any] = {"transforms": [], "metric": None, "class_weight": None, "inductive": False}
MODEL_SETTINGS = [entry.name for entry in fields(ModelConfig) if entry.name != "strong"]
TRAIN_SETTINGS = [entry.name for entry in fields(TrainConfig)]
SETTINGS = [*MODEL_SETTINGS, *TRAIN_SETTINGS, *TASK_SETTINGS]
ROW_KEYS = list(ROW_TYPES)
SPLIT_FILES = {"splits", "train", "train_mask"}


@dataclass(frozen=True)
class Cell:
    r"""One run: everything that determines it.

    Args:
        data (str): A data set or folder, as :func:`mowst.load_task` knows it.
        strong (str, optional): The strong expert. (default: :obj:`"gcn"`)
        method (str, optional): The method. (default: :obj:`"mowst"`)
        seed (int, optional): The seed of parameters and training. (default: :obj:`0`)
        split (int or str, optional): The split. (default: :obj:`0`)
        settings (dict, optional): Those settings that are not the default ones. (default: :obj:`{}`)
        name (str, optional): A label, by default data, strong expert and method. (default: :obj:`""`)
        published (dict, optional): The published score in %, as :obj:`mean`, :obj:`std`, :obj:`certified` and
            :obj:`source`. (default: :obj:`None`)

    Raises:
        ValueError: If a setting or the method is unknown, or a setting is impossible or changes nothing.
    """

    data: str
    strong: str = "gcn"
    method: str = "mowst"
    seed: int = 0
    split: int | str = 0
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    name: str = ""
    published: dict[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        check_known(self.settings, SETTINGS, "setting")
        experts = ("weak", *(f"middle{k}" for k, _ in enumerate(self.settings.get("middle", ()), start=1)), "strong")
        object.__setattr__(self, "method", check_method(self.method, self.train_config, experts))
        object.__setattr__(self, "name", self.name or f"{self.data} {self.strong} {self.method}")

    @property
    def model_config(self) -> ModelConfig:
        given = {key: value for key, value in self.settings.items() if key in MODEL_SETTINGS}
        return ModelConfig(strong=self.strong, **given | {"middle": tuple(self.settings.get("middle", ()))})

    @property
    def train_config(self) -> TrainConfig:
        return TrainConfig(**{key: value for key, value in self.settings.items() if key in TRAIN_SETTINGS})

    @property
    def all_settings(self) -> dict[str, Any]:
        r"""Every setting as used, the default ones too."""
        task = {key: self.settings.get(key, default) for key, default in TASK_SETTINGS.items()}
        return asdict(self.model_config) | asdict(self.train_config) | task

    @property
    def id(self) -> str:
        r"""16 hexadecimal digits that any two different runs differ in: name and published score do not count."""
        run = {key: getattr(self, key) for key in ("data", "method", "seed", "split")} | self.all_settings
        # 0 and 0.0, a tuple and a list are the same setting.
        plain = json.loads(json.dumps(run), parse_int=float)
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def read_rows(path: str | PathLike[str]) -> list[dict[str, Any]]:
    r"""The rows of a YAML file: those of all its entries that are lists.

    Raises:
        ValueError: If the file is no such file, or has no row.
    """
    rows = [row for table in read_yaml(Path(path)).values() if isinstance(table, list) for row in table]
    if not rows:
        raise ValueError(f"{path} has no row: write a list of them, such as 'rows: [{{data: cora, method: mowst}}]'")
    if wrong := [row for row in rows if not isinstance(row, dict)]:
        raise ValueError(f"{path}: a row is a mapping such as {{data: cora, method: mowst}}, found {wrong[0]!r}")
    return rows


def expand(rows: Sequence[Mapping[str, Any]]) -> list[Cell]:
    r"""The runs that rows stand for, each once; seed by seed within a row.

    Raises:
        ValueError: If a row has no data, an unknown key (the nearest known one is named) or a value of a wrong type,
            or a run is impossible, or a row means none.
    """
    cells: dict[str, Cell] = {}
    for row in rows:
        if not (found := {cell.id: cell for cell in _cells(row)}):
            raise ValueError(
                f"the row {dict(row)} means no run: one of its lists, or the number of seeds, is empty or 0"
            )
        cells |= found
    return list(cells.values())


def _cells(row: Mapping[str, Any]) -> Iterator[Cell]:
    check_known(row, [*ROW_KEYS, *SETTINGS], "key")
    if "data" not in row:
        raise ValueError(f"the row {dict(row)} names no data")
    row = {key: typed(key, value) for key, value in row.items()}
    parts = [_list(row.get(key, default)) for key, default in (("strong", "gcn"), ("method", "mowst"))]
    for seed, data, strong, method in product(_range(row.get("seeds", 1)), _list(row["data"]), *parts):
        settings = preset(data, row["preset"], strong) if "preset" in row else {}
        settings = {key: value for key, value in {**settings, **row}.items() if key in SETTINGS}
        for split in _range(row["splits"]) if "splits" in row else [split_of(data, seed)]:
            yield Cell(data, strong, method, seed, split, settings, row.get("name", ""), row.get("published"))


def split_of(data: str, seed: int) -> int:
    r"""The split of a seed: the only published one; else that of the seed's number, modulo the number of published
    ones. A folder with splits of its own counts as having one.

    Raises:
        ValueError: If the data set is unknown.
    """
    try:
        published = re.match(r"(\d+) published", find_dataset(data).protocol)
    except ValueError:
        if not Path(data).is_dir():
            raise
        return 0 if SPLIT_FILES & {path.stem for path in Path(data).iterdir()} else seed
    return seed % int(published[1]) if published else seed


def check_known(given: Mapping[str, Any], known: Sequence[str], kind: str) -> None:
    r"""Raises a :obj:`ValueError` if a key is none of those known; names the nearest one."""
    for key in given:
        if key not in known:
            near = "".join(f"; did you mean '{match}'?" for match in get_close_matches(key, known, n=1))
            raise ValueError(f"unknown {kind} '{key}'{near or '; known: ' + ', '.join(known)}")


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _range(value: Any) -> list[Any]:
    return list(range(value)) if isinstance(value, int) else _list(value)
