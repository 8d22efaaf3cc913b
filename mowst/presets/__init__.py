r"""Settings shipped with the package, as YAML rows."""

from importlib.resources import files
from typing import Any

import yaml

PRESETS = ("default", "tuned")


def preset(data: str, name: str = "default", strong: str | None = None) -> dict[str, Any]:
    r"""The settings that a preset file holds for a data set: :obj:`"default"` by data set, and empty where it holds
    none; :obj:`"tuned"` by data set and strong expert.

    Args:
        data (str): name of the data set.
        name (str, optional): name of the preset file. (default: :obj:`"default"`)
        strong (str, optional): name of the strong expert. (default: :obj:`None`)

    Raises:
        ValueError: if there is no such file, or "tuned" has no row of this data set and strong expert.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset '{name}', choose from {list(PRESETS)}")
    rows = yaml.safe_load(files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    row = rows.get(data.lower().replace("_", "-"), {})
    if name == "default":
        return row
    if strong not in row:
        known = [f"{data} with {expert}" for data, experts in rows.items() for expert in experts]
        raise ValueError(f"preset '{name}' has no row for {data} with {strong}, only for {', '.join(known)}")
    return row[strong] | {"strong": strong}
