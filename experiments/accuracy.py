r"""Fills the tables of docs/accuracy.md and of README.md from the lines of the accuracy case, and draws the figure.

python experiments/accuracy.py
"""

from pathlib import Path

import alternation
import controls
import factors
import verdict
from jsonargparse import auto_cli

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
ANSWERS = ("amherst41", "cornell5", "csbm")


def fill(root: Path = ROOT, results: Path = RESULTS) -> None:
    r"""Writes page, figure and the short form.

    Args:
        root: folder of README.md and docs.
        results: folder of the lines.
    """
    page, lines = root / "docs" / "accuracy.md", results / "controls_fresh.jsonl"
    verdict.table(lines, into=page)
    controls.table(lines, into=page)
    controls.table(results / "controls_ensemble.jsonl", into=page, mark="ensemble")
    factors.table(results / "factors.jsonl", into=page)
    verdict.between(results / "controls_rule.jsonl", results / "controls_seen.jsonl", into=page, mark="rule")
    verdict.turns(lines, into=page)
    folds = results / "controls_folds.jsonl"
    verdict.turns(folds, into=page, mark="folds")
    verdict.between(folds, lines, into=page, mark="folds against")
    verdict.turns(results / "controls_narrow.jsonl", into=page, mark="narrow")
    alternation.table(results / "alternation.jsonl", into=page)
    for data in ANSWERS:
        controls.answers(data, "gcn", out=lines, into=page)
    controls.passed(out=lines, into=page)
    controls.table(results / "controls_tuned.jsonl", into=page, mark="tuned")
    controls.table(results / "controls_tuned_mlp.jsonl", into=page, mark="tuned, another MLP")
    verdict.plot(lines, page.with_suffix(".svg"))
    verdict.short(lines, into=root / "README.md")


if __name__ == "__main__":
    auto_cli(fill)
