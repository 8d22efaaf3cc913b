r"""Settings that come with the package, as YAML files."""

from importlib.resources import files
from typing import Any

import yaml

PRESETS = ("default", "tuned", "paper")
NO_SETTINGS = ("name", "data", "strong", "seeds", "published")


def load_preset(data: str, name: str = "default", strong: str | None = None) -> dict[str, Any]:
    r"""Returns the settings of a preset for a data set. :obj:`"default"` has settings by data set,
    and none for most. :obj:`"tuned"` and :obj:`"paper"` have settings by data set and strong
    expert; those of the paper include the method, which is the strong expert alone where the paper
    has no mixture with it. For a data set that is not in the paper, :obj:`"paper"` is its algorithm
    with the default sizes and learning rates.

    Args:
        data (str): The name of the data set.
        name (str, optional): The name of the preset. (default: :obj:`"default"`)
        strong (str, optional): The name of the strong expert. (default: :obj:`None`)

    Raises:
        ValueError: If the preset is unknown, or has no settings for this data set and strong
            expert.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset '{name}', choose from {list(PRESETS)}")
    rows = _read_rows(name)
    data = _normalize(data)
    row = rows.get(data, {})
    if name == "default":
        return row
    if name == "paper" and data not in rows:
        return {**_read_file("paper")["shared"]["algorithm"]}
    if strong is None or strong not in row:
        known: list[str] = []
        for other, experts in rows.items():
            known.extend(f"{other} with {expert}" for expert in experts)
        found = ", ".join(known)
        raise ValueError(f"preset '{name}' has no row for {data} with {strong}, only for {found}")
    return {**row[strong], "strong": strong}


def list_presets(data: str, strong: str) -> list[str]:
    r"""Returns the presets that have settings of their own for a data set and strong expert, and
    :obj:`"default"`.
    """
    found = ["default"]
    for name in ("tuned", "paper"):
        if strong in _read_rows(name).get(_normalize(data), {}):
            found.append(name)
    return found


def load_paper_tables() -> dict[str, list[dict[str, Any]]]:
    r"""Returns the rows of the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper, as :func:`mowst.study.expand` takes them: the tables
    :obj:`"mowst"`, its 19 settings, and :obj:`"baselines"`, experts alone. The scores in
    :obj:`published` are not certified.
    """
    return {name: rows for name, rows in _read_file("paper").items() if isinstance(rows, list)}


def _normalize(data: str) -> str:
    return data.lower().replace("_", "-")


def _read_rows(name: str) -> dict[str, Any]:
    return _index_paper_rows() if name == "paper" else _read_file(name)


def _index_paper_rows() -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for rows in load_paper_tables().values():
        for row in rows:
            if row["method"] != "weak":
                settings = {key: row[key] for key in row if key not in NO_SETTINGS}
                found.setdefault(row["data"], {}).setdefault(row["strong"], settings)
    return found


def _read_file(name: str) -> dict[str, Any]:
    text = files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)
