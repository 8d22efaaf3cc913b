r"""Our tuned backbones and the published scores of the settings that they take.

    python experiments/methods.py run --preset tuned --method '[strong]' --data '[computers]' \
        --strong '[tuned-gcn]' --out experiments/results/tuned.jsonl --root DATA
    python experiments/tuned.py                      # prints the table of that file as Markdown

The scores are those of "Classic GNNs are Strong Baselines" (https://arxiv.org/abs/2406.08993): mean
and standard deviation of three seeds (computers, cs) or splits (minesweeper, ROC-AUC). `cs-counts`
is cs with the word counts of its archive, which PyG turns into 0 and 1.
"""

from pathlib import Path

import pandas as pd
from common import RESULTS, markdown, spread
from jsonargparse import auto_cli

from mowst.study.lines import read_lines

OUT = RESULTS / "tuned.jsonl"
PUBLISHED = {
    ("computers", "tuned-gcn"): (93.99, 0.12),
    ("computers", "tuned-sage"): (93.25, 0.14),
    ("cs", "tuned-gcn"): (96.17, 0.06),
    ("cs", "tuned-sage"): (96.38, 0.11),
    ("minesweeper", "tuned-gcn"): (97.86, 0.24),
    ("minesweeper", "tuned-sage"): (97.77, 0.62),
}


def table(out: Path = OUT) -> None:
    r"""Prints ours, the published score, the difference, and what is allowed: the larger of 0.3
    points and two standard errors of our mean.

    Args:
        out: file to read.
    """
    frame, rows = pd.DataFrame(read_lines(out)), []
    for (data, strong), runs in frame.groupby(["data", "strong"], sort=False):
        mean, std = PUBLISHED[data.removesuffix("-counts"), strong]
        test = 100 * runs.test
        allowed = max(0.3, 2 * test.std(ddof=1) / len(test) ** 0.5)
        rows.append(
            {
                "data (runs)": f"{data} ({len(runs)})",
                "GNN": strong,
                "epochs": runs.settings.iloc[0]["epochs"],
                "ours": spread(test),
                "published": f"{mean:.2f} +- {std:.2f}",
                "difference": f"{test.mean() - mean:+.2f}",
                "allowed": f"{allowed:.2f}",
                "minutes per run": f"{runs.seconds.mean() / 60:.1f}",
            }
        )
    print(markdown(rows))


if __name__ == "__main__":
    auto_cli(table)
