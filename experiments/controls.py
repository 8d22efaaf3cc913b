r"""What turns add to two separately trained experts, against everything else that could have added it.

    python experiments/controls.py run --root DATA      # appends to experiments/results/controls.jsonl
    python experiments/controls.py table                # prints the table of that file as Markdown
    python experiments/controls.py answers digits gcn   # and who answers what on one of its data sets
    python experiments/controls.py passed               # and how well the GNN answers what is passed on to it

An MLP and two GNNs that differ in their seed are trained alone, with the settings of `mowst train`, on split k with
seed k (data sets with one split: seed k); with `--preset tuned` the GNNs with those of that preset, and all that is
trained beside and after them with what `--turns` replaces in them. Then, in points of the test metric above the GNN:

    ensemble   the average of the two GNNs' probabilities
    average    the average of the MLP's and the GNN's
    constant   one confidence for all nodes, fitted to validation nodes, mixture chosen as below
    start      where Mowst starts: the confidence 1 - exp(-a D^b) and temperatures fitted to validation nodes after
               training, and who answers chosen there by cross-validation (`mowst.train.stack`)
    mowst      turns from there, as `fit` does them; mowst-star: joint training from there
    longer     the GNN trained on alone, in as many attempts from its best state as Mowst has rounds, each kept if the
               validation loss falls; longer+  the start state over that GNN
    ensemble+  the start state over the two GNNs' average, in points above that average
    mowst+     turns from there, in points above that average as well; only with `--over_ensemble true`
    oracle     right where one of MLP and GNN is; independent: what it would be if their errors were (accuracy only)

`--brief true` leaves out the second GNN, the longer training and mowst-star, where a GNN takes an hour.
"""

from copy import deepcopy
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from methods import append_missing, markdown, read_cells, show, spread
from pairs import EDGES, answer, passed_on, train_alone, train_on, who_answers
from torch import Tensor

from mowst import MonotoneConfidence, Mowst, TrainConfig, fit, load_task, seed_everything
from mowst.nn.build import ModelConfig
from mowst.nn.contract import call_expert
from mowst.nn.mixture import MIXES
from mowst.presets import preset as row_of
from mowst.study.cell import split_of
from mowst.study.lines import read_lines
from mowst.train import stack
from mowst.train.config import MIXTURES

RESULTS = Path(__file__).parent / "results" / "controls.jsonl"
DATA = ("digits", "cora", "citeseer", "chameleon-filtered", "actor", "wisconsin", "amherst41", "cornell5", "csbm")
OVER_TWO = ("ensemble+", "mowst+")
COLUMNS = ("weak", "ensemble", "average", "constant", "start", "mowst", "mowst-star", "longer", "longer+", *OVER_TWO)
LIMITS = ("oracle", "independent")


class ConstantConfidence(torch.nn.Module):
    r"""One learnable confidence for all nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.logit = torch.nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        return self.logit.sigmoid().expand(logits.size(0))


class Ensemble(torch.nn.Module):
    r"""The average of two experts' probabilities, as logits."""

    def __init__(self, *experts: torch.nn.Module) -> None:
        super().__init__()
        self.experts = torch.nn.ModuleList(experts)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        logits = [call_expert(expert, x, edge_index, edge_weight).log_softmax(dim=-1) for expert in self.experts]
        return torch.logaddexp(*logits)


def run(
    data: tuple[str, ...] = DATA,
    strong: tuple[str, ...] = ("gcn", "sage"),
    seeds: int = 3,
    first_seed: int = 0,
    root: str | None = None,
    out: Path = RESULTS,
    preset: str = "default",
    settings: dict[str, Any] | None = None,
    turns: dict[str, Any] | None = None,
    brief: bool = False,
    over_ensemble: bool = False,
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
        preset: name of the preset file.
        settings: model or training settings in place of the preset ones.
        turns: training settings in place of the preset ones, for all but the GNNs trained alone.
        brief: whether columns that cost another GNN are left out.
        over_ensemble: whether Mowst is trained over the two GNNs' average too; not with brief.
        threads: number of CPU threads.
    """
    torch.set_num_threads(threads)
    cells = [(d, s, "controls", k) for k in range(first_seed, seeds) for d in data for s in strong]

    def run_one(data: str, strong: str, _: str, seed: int) -> dict[str, Any]:
        chosen = row_of(data, preset, strong) | (settings or {}) | {"strong": strong}
        return run_cell(data, strong, seed, root, chosen, turns or {}, brief, over_ensemble)

    append_missing(out, cells, run_one)


def run_cell(
    data: str,
    strong: str,
    seed: int,
    root: str | None,
    settings: dict[str, Any],
    turns: dict[str, Any],
    brief: bool,
    over_ensemble: bool,
) -> dict[str, Any]:
    split = split_of(data, seed)
    task = load_task(data, root=root, split=split, transforms=settings.get("transforms", ()))
    config = ModelConfig(**{f.name: settings[f.name] for f in fields(ModelConfig) if f.name in settings})
    alone = {f.name: settings[f.name] for f in fields(TrainConfig) if f.name in settings}
    training = alone | turns
    trained = {"weak": train_alone(config, task, "weak", seed, training)}
    trained["strong"] = train_alone(config, task, "strong", seed, alone)
    if not brief:
        trained["second"] = train_alone(config, task, "strong", (-seed - 1) % 2**32, alone)
    pair = trained["weak"], trained["strong"]
    mixtures = {name: Mowst(trained["weak"], expert, MonotoneConfidence()) for name, expert in trained.items()}
    probs = {name: answer(mixture, task, "strong")[task.index("test")] for name, mixture in mixtures.items()}
    scores = {name: float(task.score(prob, "test")) for name, prob in probs.items()}
    scores["average"] = float(task.score((probs["strong"] + probs["weak"]) / 2, "test"))
    details: dict[str, Any] = {}

    def stacked(name: str, weak: torch.nn.Module, strong: torch.nn.Module, gate: torch.nn.Module) -> None:
        mixture = Mowst(weak, strong, gate)
        found = stack(mixture, task)
        details[name] = {"losses": found.losses, "chosen": found.chosen}
        scores[name] = float(task.score(answer(mixture, task), "test"))

    stacked("constant", *pair, ConstantConfidence())
    if not brief:
        ensemble, longer = Ensemble(trained["strong"], trained["second"]), train_on(pair[1], task, training)
        for name, other in (("ensemble", ensemble), ("longer", longer)):
            mixture = Mowst(pair[0], other, MonotoneConfidence())
            scores[name] = float(task.score(answer(mixture, task, "strong"), "test"))
            stacked(f"{name}+", pair[0], other, MonotoneConfidence())
        if over_ensemble:
            seed_everything(seed)
            mixture = Mowst(deepcopy(pair[0]), deepcopy(ensemble), MonotoneConfidence())
            scores["mowst+"] = fit(mixture, task, method="mowst", **training | {"pretrain": "none"}).test
    for method in MIXTURES[: 1 if brief else None]:
        seed_everything(seed)
        mixture = Mowst(*deepcopy(pair), MonotoneConfidence())
        result = fit(mixture, task, method=method, **training | {"pretrain": "none"})
        scores |= {"start": result.start["test"], method: result.test}
        details[method] = {
            "losses": result.choices,
            "chosen": result.chosen,
            "weak_share": result.weak_share,
            "evaluations": len(result.history),
            "scores": result.scores,
            "passed_on": passed_on(pair[1], mixture, task),
            "answers": who_answers(pair[1], mixture, task),
        }
    if task.metric == "accuracy":
        y = task.labels("test")
        wrong = [probs[name].argmax(dim=-1) != y for name in ("weak", "strong")]
        scores["oracle"] = 1 - float((wrong[0] & wrong[1]).float().mean())
        scores["independent"] = 1 - float(wrong[0].float().mean() * wrong[1].float().mean())
    cell = {"data": data, "strong": strong, "method": "controls", "seed": seed, "split": split, "metric": task.metric}
    cell["sizes"] = {name: int(task.index(name).numel()) for name in ("train", "val", "test")}
    return cell | {"settings": settings, "turns": turns, "scores": scores, **details}


def table(out: Path = RESULTS, into: Path | None = None, mark: str = "controls") -> None:
    r"""Prints, by data set and GNN, the GNN's score and the differences to it, in points.

    Args:
        out: file of the lines.
        into: a Markdown file that gets the table between its markers, of that name and "end".
        mark: the name of the first marker.
    """
    rows = []
    for (data, strong), lines in read_cells(out).groupby(["data", "strong"], sort=False):
        scores = 100 * pd.DataFrame(lines["scores"].tolist())
        row = {"data (runs)": f"{data} ({len(lines)})", "GNN": strong, "strong": spread(scores["strong"])}
        for name in (*COLUMNS, *LIMITS):
            base = "ensemble" if name in OVER_TWO else "strong"
            row[name] = spread(scores[name] - scores[base], signed=True) if name in scores else ""
        chosen = pd.Series([details["chosen"] for details in lines["mowst"]]).value_counts()
        rows.append(row | {"chosen": ", ".join(f"{name} ({count})" for name, count in chosen.items())})
    frame = pd.DataFrame(rows)
    show(markdown(frame.loc[:, (frame != "").any()]), into, mark)


def answers(data: str, strong: str, method: str = "mowst", out: Path = RESULTS, into: Path | None = None) -> None:
    r"""Prints who answers what on one data set: by confidence, degree and local homophily, the share of the weak expert
    and the accuracy of each, in %, over the test nodes of all runs.

    Args:
        data: name of the data set.
        strong: name of the strong expert.
        method: name of the method.
        out: file of the lines.
        into: a Markdown file that gets the table between its markers "answers DATA STRONG" and "end".
    """
    lines = [line for line in read_lines(out) if (line["data"], line["strong"]) == (data, strong)]
    rows = []
    for name, edges in EDGES.items():
        labels = [f"below {edges[0]}", *(f"{a} to {b}" for a, b in pairwise(edges)), f"{edges[-1]} and more"]
        for k, label in enumerate(labels):
            total = pd.DataFrame([line[method]["answers"][name][k] for line in lines]).sum()
            if not total["nodes"]:
                continue
            shares = (100 * total.drop("nodes") / total["nodes"]).map("{:.1f}".format)
            rows.append({"test nodes by": f"{name} {label}", "nodes": int(total["nodes"]), **shares})
    names = {"weak_share": "answered by the MLP", "weak": "MLP", "before": "GNN before turns", "strong": "GNN after"}
    show(markdown(pd.DataFrame(rows).rename(columns=names)), into, f"answers {data} {strong}")


def passed(method: str = "mowst", out: Path = RESULTS, into: Path | None = None) -> None:
    r"""Prints, by data set and GNN, the accuracy in % of the strong expert on what is passed on to it (test nodes, each
    with the weight 1 - C), before and after the turns, over the runs in which a mixture answers.

    Args:
        method: name of the method.
        out: file of the lines.
        into: a Markdown file that gets the table between its markers "passed" and "end".
    """
    rows = []
    for (data, strong), lines in read_cells(out).groupby(["data", "strong"], sort=False):
        mixed = [details["passed_on"] for details in lines[method] if details["chosen"] in MIXES]
        if mixed:
            accuracy = 100 * pd.DataFrame(mixed)
            row = {"data (runs)": f"{data} ({len(mixed)})", "GNN": strong}
            row |= {f"{when} turns": spread(accuracy[when]) for when in ("before", "after")}
            rows.append(row | {"difference": spread(accuracy["after"] - accuracy["before"], signed=True)})
    show(markdown(pd.DataFrame(rows)), into, "passed")


if __name__ == "__main__":
    auto_cli([run, table, answers, passed])
