r"""Fills the tables of docs/accuracy.md from the lines of `controls.py`, and draws its figure.

python experiments/accuracy.py
"""

from pathlib import Path

import controls
import verdict
from jsonargparse import auto_cli

LINES = Path(__file__).parent / "results" / "controls_fresh.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
ANSWERS = ("amherst41", "cornell5", "csbm")


def fill(page: Path = PAGE, lines: Path = LINES) -> None:
    r"""Writes page and figure.

    Args:
        page: the page; the figure lies beside it.
        lines: file of the lines.
    """
    verdict.table(lines, into=page)
    controls.table(lines, into=page)
    verdict.turns(lines, into=page)
    for data in ANSWERS:
        controls.answers(data, "gcn", out=lines, into=page)
    verdict.plot(lines, page.with_suffix(".svg"))


if __name__ == "__main__":
    auto_cli(fill)
