r"""What is shown to users runs as it is shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

pytestmark = pytest.mark.slow


def run(code_or_path, folder):
    command = [sys.executable, *(["-c", code_or_path] if "\n" in code_or_path else [code_or_path])]
    done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs_in_at_most_100_lines(path, tmp_path):
    assert len(path.read_text().splitlines()) <= 100
    assert re.search("Mowst|cascade|threshold", run(str(path), tmp_path))


def test_readme_example_runs_and_mowst_is_best(tmp_path):
    code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
    code += "assert result.test > max(scores['test'] for scores in result.alone.values()) + 0.01\n"
    run(code, tmp_path)
