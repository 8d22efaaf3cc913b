r"""Settings shipped with the package, as YAML rows."""

from importlib.resources import files
from typing import Any

import yaml

PRESETS = ("default", "tuned", "paper")


def preset(data: str, name: str = "default", strong: str | None = None) -> dict[str, Any]:
    r"""The settings that a preset file holds for a data set: :obj:`"default"` by data set, and empty where it holds
    none; :obj:`"tuned"` and :obj:`"paper"` by data set and strong expert, of the paper with the method, which is that
    of the strong expert alone where it has no mixture with it.

    Args:
        data (str): name of the data set.
        name (str, optional): name of the preset file. (default: :obj:`"default"`)
        strong (str, optional): name of the strong expert. (default: :obj:`None`)

    Raises:
        ValueError: if there is no such file, or it has no row of this data set and strong expert.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset '{name}', choose from {list(PRESETS)}")
    rows = _paper_settings() if name == "paper" else _read(name)
    row = rows.get(data.lower().replace("_", "-"), {})
    if name == "default":
        return row
    if strong is None or strong not in row:
        known = [f"{data} with {expert}" for data, experts in rows.items() for expert in experts]
        raise ValueError(f"preset '{name}' has no row for {data} with {strong}, only for {', '.join(known)}")
    return row[strong] | {"strong": strong}


def paper_tables() -> dict[str, list[dict[str, Any]]]:
    r"""The rows of the `"Mixture of Weak & Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_ paper, as
    :func:`mowst.study.expand` takes them: the tables :obj:`"mowst"`, its 19 settings, and :obj:`"baselines"`, experts
    alone. What :obj:`published` holds is not certified.
    """
    return {name: rows for name, rows in _read("paper").items() if isinstance(rows, list)}


def _paper_settings() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in (row for rows in paper_tables().values() for row in rows if row["method"] != "weak"):
        settings = {key: row[key] for key in row if key not in ("name", "data", "strong", "seeds", "published")}
        found.setdefault(row["data"], {}).setdefault(row["strong"], settings)
    return found


def _read(name: str) -> dict[str, Any]:
    return yaml.safe_load(files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
