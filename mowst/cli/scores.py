r"""The table of scores that :obj:`train` and :obj:`evaluate` print."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from jsonargparse import Namespace

from mowst.nn.cascade import Cascade

PERCENT = "{:.2f}".format


def names_of(model: Cascade, options: Mapping[str, Any] | Namespace) -> dict[str, str]:
    r"""What each part of a model is called: its expert, and which of two that are alike."""
    chosen = [options["weak"], *(options.get("middle") or ()), options["strong"]]
    twice = len(set(chosen)) < len(chosen)
    return {part: f"{part} {name}" if twice else name for part, name in zip(model.expert_names, chosen, strict=True)}


def print_scores(
    rows: Mapping[str, Mapping[str, Any]], metric: str, shares: Mapping[str, float], expected: float | None
) -> None:
    r"""Prints the scores of each row in %, and who answers."""
    table = pd.DataFrame(
        {split: [100 * scores[split] for scores in rows.values()] for split in ("train", "val", "test")},
        index=pd.Index(rows, name=f"{metric} in %"),
    )
    print(table.to_string(float_format=PERCENT))
    print("answers on the test nodes: " + ", ".join(f"{name} {PERCENT(100 * s)} %" for name, s in shares.items()))
    if expected is not None:
        print(f"expected test score of sampled routing: {PERCENT(100 * expected)}")
