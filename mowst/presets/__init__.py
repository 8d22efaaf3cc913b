r"""Settings shipped with the package, as YAML rows."""

from importlib.resources import files
from typing import Any

import yaml


def preset(data: str, name: str = "default") -> dict[str, Any]:
    r"""The settings that a preset file holds for a data set; empty where it holds none.

    Args:
        data (str): name of the data set.
        name (str, optional): name of the preset file. (default: :obj:`"default"`)
    """
    rows = yaml.safe_load(files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    return rows.get(data.lower().replace("_", "-"), {})
