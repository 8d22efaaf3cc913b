r"""What a result is made with."""

import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def environment() -> dict[str, Any]:
    r"""Returns what a result was made with: command, versions, commit and machine."""
    packages = ("mowst", "torch", "torch-geometric", "numpy", "scipy", "scikit-learn")
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": _find_commit(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "machine": {
            "platform": platform.platform(),
            "processor": _find_processor(),
            "threads": torch.get_num_threads(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def describe_other_version(environment: Any) -> str:
    r"""Returns the end of an error about a file that was written in an environment, if that had
    another version of the package than this one.
    """
    try:
        wrote, now = environment["versions"]["mowst"], version("mowst")
    except (TypeError, KeyError):
        return ""
    return "" if wrote == now else f"; mowst {wrote} wrote it, this is mowst {now}"


def _find_commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    )
    return asked.stdout.strip() or None


def _find_processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
