import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "mowst"
FILES = sorted(ROOT.rglob("*.py"))
MAY_IMPORT = {
    "sparse": set(),
    "io": set(),
    "labels": set(),
    "locks": set(),
    "metrics": {"labels"},
    "official": {"labels"},
    "forms": set(),
    "convert": {"forms"},
    "notebook": set(),
    "presets": set(),
    "pickles": {"io"},
    "sealed": {"io"},
    "nn": {"labels", "sparse", "io", "sealed"},
    "experts": {"sparse", "nn"},
    "graph_checks": set(),
    "validation": {"graph_checks", "labels", "metrics"},
    "task": {"labels", "metrics", "official", "forms", "convert", "validation", "notebook"},
    "data": {
        *("task", "io", "locks", "pickles", "sealed", "convert", "labels", "metrics"),
        *("validation", "graph_checks"),
    },
    "estimator": {"nn", "task", "convert", "train"},
    "train": {"labels", "sparse", "nn", "task", "io", "locks", "sealed", "notebook"},
    "serve": {"labels", "sparse", "nn", "task", "metrics", "forms"},
    "process": {"sparse"},
    "study": {
        *("sparse", "nn", "train", "serve", "task", "data", "io", "metrics", "presets"),
        *("official", "process", "locks"),
    },
}


def name_module(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_imports(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("mowst"))
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            if node.module.split(".")[0] == "mowst":
                for alias in node.names:
                    inner = ROOT.parent / f"{node.module}.{alias.name}".replace(".", "/")
                    is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                    yield f"{node.module}.{alias.name}" if is_module else node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_file_imports_what_its_room_may(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__", "cli"):
        return
    assert room in MAY_IMPORT, f"the room {room} has no place among the arrows"
    imported = {name.split(".")[1] for name in find_imports(ast.walk(ast.parse(path.read_text())))}
    assert imported <= MAY_IMPORT[room] | {room}


def test_no_file_imports_itself_through_others():
    modules = {name_module(path): path for path in FILES}
    below = {}
    for name, path in modules.items():
        # Only imports that run when the module is imported.
        found = set(find_imports(ast.parse(path.read_text()).body))
        below[name] = {other for other in found if other in modules and other != name}
    while ground := [name for name, others in below.items() if not others]:
        below = {name: others - set(ground) for name, others in below.items() if name not in ground}
    assert not below, f"these files import each other: {sorted(below)}"


def test_only_the_command_line_prints():
    for path in FILES:
        if "cli" not in path.parts:
            calls = [
                node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
            ]
            assert not [call for call in calls if getattr(call.func, "id", "") == "print"], path


def list_new_modules(code, before=""):
    lines = ["import sys", before, "known = set(sys.modules)", code]
    code = "\n".join([*lines, "print(*(set(sys.modules) - known))"])
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_importing_the_package_loads_no_torch():
    assert "torch" not in list_new_modules("import mowst")


def test_heavy_libraries_load_where_they_are_used():
    heavy = {"optuna", "ogb", "sqlalchemy", "jinja2", "torchmetrics", "sklearn", "pandas"}
    heavy |= {"matplotlib", "scipy.io", "scipy.optimize", "scipy.stats"}
    code = "from mowst import *; assert 'jsonargparse' not in sys.modules\n"
    code += "from mowst.cli.commands import read_command; read_command(['train'])"
    loaded = list_new_modules(code, before="import torch_geometric")
    assert {"mowst.train.fit", "mowst.cli.train"} <= loaded
    assert not loaded & heavy


def test_an_older_python_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    monkeypatch.setitem(sys.modules, "lazy_loader", None)  # it may be missing there
    with pytest.raises(
        ImportError, match=r"^mowst needs Python 3.11 or later, this is Python 3.10.4$"
    ):
        runpy.run_path(str(ROOT / "__init__.py"))


def test_every_public_name_is_importable():
    import mowst

    for name in mowst.__all__:
        assert getattr(mowst, name) is not None
