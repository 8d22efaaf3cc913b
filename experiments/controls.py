r"""What a mixture of two separately trained experts is worth without any turn: the controls of any claim about turns.

    python experiments/controls.py run --root DATA      # appends to experiments/results/controls.jsonl
    python experiments/controls.py table                # prints the table of that file as Markdown

An MLP and two GNNs that differ in their seed are trained alone, with the settings of `mowst train`, on split k with
seed k (data sets with one split: seed k). Then, in points of the test metric above the GNN:

    ensemble   the average of the two GNNs' probabilities
    average    the average of the MLP's and the GNN's
    constant   one confidence for all nodes, fitted to validation nodes, mixture chosen as below
    stack      `mowst.train.stack`: the confidence 1 - exp(-a D^b) and temperatures fitted to validation nodes, and who
               answers chosen there by cross-validation
    oracle     right where one of MLP and GNN is; independent: what it would be if their errors were (accuracy only)
"""

from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from methods import ONE_SPLIT, append_missing, markdown, read, spread
from torch import Tensor

from mowst import GraphTask, MonotoneConfidence, Mowst, TrainConfig, fit, load_task, seed_everything
from mowst.nn.build import ModelConfig, build_model
from mowst.presets import preset
from mowst.train import stack

RESULTS = Path(__file__).parent / "results" / "controls.jsonl"
DATA = ("digits", "cora", "citeseer", "chameleon-filtered", "actor", "wisconsin", "amherst41", "cornell5")
COLUMNS = ("weak", "ensemble", "average", "constant", "stack", "oracle", "independent")


class ConstantConfidence(torch.nn.Module):
    r"""One learnable confidence for all nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = torch.nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        return self.logit.sigmoid().expand(logits.size(0))


def run(
    data: tuple[str, ...] = DATA,
    strong: tuple[str, ...] = ("gcn", "sage"),
    seeds: int = 3,
    first_seed: int = 0,
    root: str | None = None,
    out: Path = RESULTS,
    threads: int = 1,
) -> None:
    r"""Runs the cells that the file does not hold yet.

    Args:
        data: names of data sets.
        strong: names of strong experts.
        seeds: one more than the last seed.
        first_seed: the seed to begin with.
        root: folder of the data sets.
        out: file to append to.
        threads: number of CPU threads.
    """
    torch.set_num_threads(threads)
    cells = [(d, s, "controls", k) for k in range(first_seed, seeds) for d in data for s in strong]
    append_missing(out, cells, lambda d, s, _, k: run_cell(d, s, k, root))


def run_cell(data: str, strong: str, seed: int, root: str | None) -> dict[str, Any]:
    split = 0 if data in ONE_SPLIT | {"citeseer"} else seed
    task, settings = load_task(data, root=root, split=split), preset(data)
    config = ModelConfig(strong=strong, **{f.name: settings[f.name] for f in fields(ModelConfig) if f.name in settings})
    training = {f.name: settings[f.name] for f in fields(TrainConfig) if f.name in settings}
    sizes = {"in_channels": task.num_features, "out_channels": task.num_classes, "num_nodes": task.num_nodes}
    trained = {}
    for name, expert, expert_seed in (
        ("weak", "weak", seed),
        ("strong", "strong", seed),
        ("second", "strong", -seed - 1),
    ):
        seed_everything(expert_seed % 2**32)
        model = build_model(config, **sizes)
        fit(model, task, method=expert, **training)
        trained[name] = getattr(model, expert)
    probs = {name: _answer(Mowst(deepcopy(e), deepcopy(e), MonotoneConfidence()), task) for name, e in trained.items()}
    scores = {name: float(task.score(prob, "test")) for name, prob in probs.items()}
    scores["ensemble"] = float(task.score((probs["strong"] + probs["second"]) / 2, "test"))
    scores["average"] = float(task.score((probs["strong"] + probs["weak"]) / 2, "test"))
    details: dict[str, Any] = {}
    for name, gate in (("constant", ConstantConfidence()), ("stack", MonotoneConfidence())):
        mixture = Mowst(trained["weak"], trained["strong"], gate)
        losses = stack(mixture, task)
        details[name] = {"losses": losses, "chosen": min(losses, key=losses.__getitem__)}
        scores[name] = float(task.score(_answer(mixture, task), "test"))
    if task.metric == "accuracy":
        y = task.labels("test")
        wrong = [probs[name].argmax(dim=-1) != y for name in ("weak", "strong")]
        scores["oracle"] = 1 - float((wrong[0] & wrong[1]).float().mean())
        scores["independent"] = 1 - float(wrong[0].float().mean() * wrong[1].float().mean())
    cell = {"data": data, "strong": strong, "method": "controls", "seed": seed, "split": split, "metric": task.metric}
    return cell | {"settings": settings, "scores": scores, **details}


@torch.no_grad()
def _answer(model: Mowst, task: GraphTask) -> Tensor:
    model.eval()
    return model(task.data.x, task.data.edge_index, task.data.edge_weight).prob[task.index("test")]


def table(out: Path = RESULTS) -> None:
    r"""Prints, by data set and GNN, the GNN's score and the differences to it, in points.

    Args:
        out: file of the lines.
    """
    rows = []
    for (data, strong), lines in pd.DataFrame(read(out)).groupby(["data", "strong"], sort=False):
        scores = 100 * pd.DataFrame(lines["scores"].tolist())
        row = {"data (runs)": f"{data} ({len(lines)})", "GNN": strong, "strong": spread(scores["strong"])}
        for name in COLUMNS:
            if name in scores:
                row[name] = spread(scores[name] - scores["strong"], signed=True)
        rows.append(row | {"chosen": ", ".join(details["chosen"] for details in lines["stack"])})
    print(markdown(pd.DataFrame(rows)))


if __name__ == "__main__":
    auto_cli([run, table])
