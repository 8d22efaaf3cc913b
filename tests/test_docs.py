import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", GUARANTEES)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_promise_is_kept_by_a_test_that_exists(file, name):
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.M)


def test_every_row_of_the_promises_names_a_test():
    rows = [line for line in GUARANTEES.splitlines() if re.match(r"\| [^|*-]+ \| ", line)][1:]
    assert len(rows) > 20 and all("`tests/" in row for row in rows)
