r"""The examples and the README run as shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

pytestmark = pytest.mark.slow


def run(*arguments, folder):
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs_in_at_most_60_lines(path, tmp_path):
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    assert "Expect, in about" in text
    assert re.search("test accuracy|Mowst: |threshold", run(str(path), folder=tmp_path))


def test_readme_example_runs_and_mowst_is_best(tmp_path):
    readme = (ROOT / "README.md").read_text()
    code = "".join(re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL))
    code += "best = max(scores['test'] for scores in result.alone.values())\n"
    code += "assert result.test > best + 0.01\n"
    run("-c", code, folder=tmp_path)
