r"""Fills the tables of docs/accuracy.md and of README.md from the result lines, and draws the
figure.

python experiments/accuracy.py
"""

from pathlib import Path

import alternation
import controls
import factors
import verdict
from common import RESULTS
from jsonargparse import auto_cli

ROOT = Path(__file__).parents[1]
GROUPED = ("amherst41", "cornell5", "csbm")


def fill(root: Path = ROOT, results: Path = RESULTS) -> None:
    r"""Writes page, figure and the short form.

    Args:
        root: folder of README.md and docs.
        results: folder of the lines.
    """
    page = root / "docs" / "accuracy.md"
    lines = results / "controls_fresh.jsonl"
    fixed = results / "controls_fixed.jsonl"
    seen = results / "controls_seen.jsonl"
    tuned_mlp = results / "controls_tuned_mlp.jsonl"
    verdict.table(lines, into=page)
    controls.table(lines, into=page)
    controls.table(results / "controls_ensemble.jsonl", into=page, mark="ensemble")
    factors.table(results / "factors.jsonl", into=page)
    verdict.between(results / "controls_rule.jsonl", seen, into=page, mark="rule")
    verdict.rounds(lines, into=page)
    verdict.rounds(fixed, into=page, mark="fixed")
    verdict.between(fixed, lines, into=page, mark="fixed against")
    verdict.rounds(results / "controls_narrow.jsonl", into=page, mark="narrow")
    alternation.table(results / "alternation.jsonl", into=page)
    for data in GROUPED:
        controls.groups(data, "gcn", out=lines, into=page)
    controls.deferred(out=lines, into=page)
    controls.table(results / "controls_tuned.jsonl", into=page, mark="tuned")
    controls.table(tuned_mlp, into=page, mark="tuned, another MLP")
    verdict.plot(lines, page.with_suffix(".svg"))
    verdict.short(lines, into=root / "README.md")


if __name__ == "__main__":
    auto_cli(fill)
