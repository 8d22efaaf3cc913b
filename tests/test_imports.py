import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "mowst"
MAY_IMPORT = {
    "io": set(),
    "pickles": {"io"},
    "sealed": {"io"},
    "allocator": set(),
    "metrics": set(),
    "graph": {"io", "allocator"},
    "nn": {"graph", "io", "sealed", "allocator"},
    "loss": {"nn"},
    "convert": set(),
    "validation": {"metrics"},
    "task": {"metrics", "convert", "validation"},
    "data": {"task", "io", "pickles", "sealed", "convert", "validation"},
    "train": {"nn", "graph", "loss", "metrics", "task", "io", "sealed"},
    "inference": {"nn", "graph", "metrics", "task", "io"},
    "study": {"train", "data", "nn", "task", "io", "presets", "inference", "metrics", "allocator"},
    "bench": {"train", "inference", "graph", "nn", "loss", "task", "io"},
    "presets": set(),
}


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" if node.module == "mowst" else node.module for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("mowst."))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    room = room_of(path)
    if room in ("__init__", "cli"):
        return
    assert room in MAY_IMPORT, f"the room {room} has no place among the arrows"
    assert set(imported_rooms(path)) <= MAY_IMPORT[room] | {room}


def test_the_arrows_have_no_circle():
    above = {room: set(below) for room, below in MAY_IMPORT.items()}
    while ground := [room for room, below in above.items() if not below]:
        above = {room: below - set(ground) for room, below in above.items() if room not in ground}
    assert not above


def test_the_model_needs_neither_ogb_nor_optuna_nor_a_command_line_library():
    heavy = ("ogb", "optuna", "jsonargparse")  # torchmetrics imports matplotlib where it finds it
    code = f"import sys, mowst; sys.exit(', '.join(m for m in {heavy} if m in sys.modules) or 0)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
