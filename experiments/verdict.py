r"""What the lines of `controls.py` prove: paired differences to the GNN, with intervals and tests.

    python experiments/verdict.py experiments/results/controls_fresh.jsonl

For each data set and GNN the mean difference of a column to the GNN alone, in points; its 95 % interval and two-sided
p-value by the t-test of Nadeau and Bengio where the splits are random and overlap, by the ordinary one where only the
seed changes; p-values adjusted by Holm within one GNN. "worse" marks a cell whose interval lies wholly below -0.3.
Last, for each GNN, the mean difference to the better of the two experts, chosen by its validation loss, and
one Wilcoxon signed-rank test over data sets.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from jsonargparse import auto_cli
from methods import markdown, read
from scipy import stats

from mowst.study.paired import corrected_t_test, holm

WORSE = -0.3


def main(lines: Path, column: str = "mowst") -> None:
    r"""Prints the tables.

    Args:
        lines: file of the lines.
        column: what is compared with the GNN.
    """
    cells = [_cell(runs, column) for _, runs in pd.DataFrame(read(lines)).groupby(["data", "strong"], sort=False)]
    frame = pd.DataFrame(cells)
    frame["Holm"] = frame.groupby("strong")["p"].transform(holm)
    shown = pd.DataFrame(
        {
            "data (runs)": frame["data"] + frame["runs"].map(" ({})".format),
            "GNN": frame["strong"],
            f"{column} - GNN": frame["mean"].map("{:+.2f}".format),
            "95 % interval": [
                f"{low:+.2f} to {high:+.2f}" for low, high in zip(frame["low"], frame["high"], strict=True)
            ],
            "p": frame["p"].map("{:.3f}".format),
            "p, Holm": frame["Holm"].map("{:.3f}".format),
            f"{column} - better expert": frame["better"].map("{:+.2f}".format),
            "worse": np.where(frame["high"] < WORSE, "worse", ""),
        }
    )
    print(markdown(shown))
    summary = [
        {
            "GNN": strong,
            "data sets": len(group),
            f"{column} - GNN": f"{group['mean'].mean():+.2f}",
            f"{column} - better expert": f"{group['better'].mean():+.2f}",
            "Wilcoxon p": f"{_wilcoxon(group['better']):.3f}",
        }
        for strong, group in frame.groupby("strong", sort=False)
    ]
    print("\n" + markdown(pd.DataFrame(summary)))


def _cell(runs: pd.DataFrame, column: str) -> dict[str, object]:
    scores = 100 * pd.DataFrame(runs["scores"].tolist())
    difference = (scores[column] - scores["strong"]).to_numpy()
    first = runs.iloc[0]
    ratio = first["sizes"]["test"] / first["sizes"]["train"] if runs["split"].nunique() > 1 else 0.0
    n, mean = len(difference), difference.mean()
    half = stats.t.ppf(0.975, n - 1) * math.sqrt((1 / n + ratio) * difference.var(ddof=1)) if n > 1 else math.nan
    losses = pd.DataFrame([details["losses"] for details in runs["constant"]])
    better = np.where(losses["weak"] < losses["strong"], scores["weak"], scores["strong"])
    return {
        "data": first["data"],
        "strong": first["strong"],
        "runs": n,
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "p": corrected_t_test(difference, ratio) if n > 2 else math.nan,
        "better": (scores[column] - better).mean(),
    }


def _wilcoxon(differences: pd.Series) -> float:
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else math.nan


if __name__ == "__main__":
    auto_cli(main)
