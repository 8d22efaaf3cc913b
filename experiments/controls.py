r"""What the rounds add to two separately trained experts, against everything else that could have.

    python experiments/controls.py run --root DATA      # appends to results/controls.jsonl
    python experiments/controls.py table                # prints the table of that file as Markdown
    python experiments/controls.py groups digits gcn    # accuracy on groups of nodes of a data set
    python experiments/controls.py deferred             # accuracy of the GNN on deferred nodes

An MLP and two GNNs that differ in their seed are trained alone, with the settings of `mowst train`,
on split k with seed k (data sets with one split: seed k). With `--preset tuned` the GNNs take the
settings of that preset, and everything that is trained with and after them takes what
`--training` replaces in them. Then, in points of the test metric above the GNN:

    ensemble   the average of the two GNNs' probabilities
    average    the average of the MLP's and the GNN's
    constant   one confidence for all nodes, fitted to validation nodes, mixture chosen as below
    start      where Mowst starts: the confidence 1 - exp(-a D^b) and temperatures fitted to
               validation nodes after training; the mixture or an expert chosen there by
               cross-validation (`mowst.train.gate_fit.fit_gate`)
    mowst      rounds from there, as `fit` runs them; mowst-star: joint training from there
    longer     the GNN trained on alone, in as many attempts from its best state as Mowst has
               rounds, each accepted if the validation loss falls; longer+  the start over that GNN
    ensemble+  the start over the two GNNs' average, in points above that average
    mowst+     rounds from there, in points above that average as well; only with
               `--over_ensemble true`
    oracle     correct where the MLP or the GNN is; independent: the same if their errors were
               (accuracy only)

`--brief true` leaves out the second GNN, the longer training and mowst-star.
"""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from common import (
    RESULTS,
    append_missing,
    count_names,
    load_task_of,
    make_spec,
    markdown,
    read_sorted,
    show,
    spread,
)
from jsonargparse import auto_cli
from pairs import (
    EDGES,
    compute_prob,
    count_groups,
    fit_pair,
    measure_deferred,
    score_test,
    train_alone,
    train_on,
)
from torch import Tensor
from training import predict

from mowst import GraphTask, MonotoneGate, Mowst, TrainConfig, fit, seed_everything
from mowst.nn.call import call_expert
from mowst.study.lines import read_lines
from mowst.train.gate_fit import fit_gate

OUT = RESULTS / "controls.jsonl"
DATA = (
    *("digits", "cora", "citeseer", "chameleon-filtered", "actor", "wisconsin", "amherst41"),
    *("cornell5", "csbm"),
)
MIXES = ("prob", "logit")
MIXTURES = ("mowst", "mowst-star")
OVER_TWO = ("ensemble+", "mowst+")
COLUMNS = (
    *("weak", "ensemble", "average", "constant", "start", "mowst", "mowst-star"),
    *("longer", "longer+", *OVER_TWO),
)
LIMITS = ("oracle", "independent")


class ConstantGate(torch.nn.Module):
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
        first, second = [
            call_expert(expert, x, edge_index, edge_weight).log_softmax(dim=-1)
            for expert in self.experts
        ]
        return torch.logaddexp(first, second)


def run(
    data: tuple[str, ...] = DATA,
    strong: tuple[str, ...] = ("gcn", "sage"),
    seeds: int = 3,
    first_seed: int = 0,
    root: str | None = None,
    out: Path = OUT,
    preset: str = "default",
    settings: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    brief: bool = False,
    over_ensemble: bool = False,
) -> None:
    r"""Runs what the file does not hold yet.

    Args:
        data: names of data sets.
        strong: names of strong experts.
        seeds: one more than the last seed.
        first_seed: the first seed.
        root: folder of the data sets.
        out: file to append to.
        preset: name of the preset.
        settings: settings that replace those of the preset.
        training: training settings that replace them for all but the GNNs trained alone.
        brief: whether columns that cost another GNN are left out.
        over_ensemble: whether Mowst is trained over the two GNNs' average too; not with brief.
    """

    def make(data: str, strong: str, method: str, seed: int) -> dict[str, Any]:
        alone = make_spec(data, strong, "mowst", seed, settings, preset)
        after = replace(alone, settings=alone.settings | (training or {}))
        task = load_task_of(alone, root)
        controls = Controls(task, seed, after.train_config)
        controls.train_experts(alone.model_config, alone.train_config, second=not brief)
        controls.score_averages()
        if not brief:
            controls.train_longer()
            controls.fit_ensemble(train=over_ensemble)
        for one in MIXTURES[:1] if brief else MIXTURES:
            controls.train_mixture(one)
        controls.score_limits()
        return {
            "data": data,
            "strong": strong,
            "method": method,
            "seed": seed,
            "split": alone.split,
            "metric": task.metric,
            "sizes": {name: int(task.index(name).numel()) for name in ("train", "val", "test")},
            "settings": alone.settings,
            "training": training or {},
            "scores": controls.scores,
            **controls.details,
        }

    runs = list(product(data, strong, ["controls"], range(first_seed, seeds)))
    append_missing(out, runs, make)


class Controls:
    r"""The scores of one run, collected step by step."""

    def __init__(self, task: GraphTask, seed: int, training: TrainConfig) -> None:
        self.task = task
        self.seed = seed
        self.training = training
        self.scores: dict[str, float] = {}
        self.details: dict[str, Any] = {}

    def train_experts(self, config: Any, alone: TrainConfig, second: bool) -> None:
        r"""Trains the MLP, the GNN and, if asked, a second GNN of another seed."""
        task, seed = self.task, self.seed
        self.weak = train_alone(config, task, "weak", seed, self.training)
        self.strong = train_alone(config, task, "strong", seed, alone)
        self.prob = {}
        for name, expert in (("weak", self.weak), ("strong", self.strong)):
            self.prob[name] = predict(expert, task).softmax(dim=-1)
            self.scores[name] = task.evaluate(self.prob[name], "test")
        if second:
            other = train_alone(config, task, "strong", (-seed - 1) % 2**32, alone)
            self.ensemble = Ensemble(self.strong, other)
            self.scores["second"] = task.evaluate(predict(other, task).softmax(dim=-1), "test")

    def score_averages(self) -> None:
        r"""Scores the plain average of both experts and the best constant confidence."""
        average = (self.prob["strong"] + self.prob["weak"]) / 2
        self.scores["average"] = self.task.evaluate(average, "test")
        model = Mowst(self.weak, self.strong, ConstantGate())
        self._record("constant", model, fit_gate(model, self.task))

    def train_longer(self) -> None:
        r"""Trains the GNN on by itself, and fits a gate over it."""
        model = Mowst(self.weak, self.strong, MonotoneGate())
        longer = train_on(model, "strong", self.task, self.training)
        self.scores["longer"] = score_test(longer, self.task, "strong")
        self._record("longer+", *fit_pair(self.weak, longer.strong, self.task))

    def fit_ensemble(self, train: bool) -> None:
        r"""Fits a gate over the two GNNs' average and, if asked, trains Mowst from there."""
        model = Mowst(self.weak, self.ensemble, MonotoneGate())
        self.scores["ensemble"] = score_test(model, self.task, "strong")
        self._record("ensemble+", *fit_pair(self.weak, self.ensemble, self.task))
        if train:
            self.scores["mowst+"] = self._fit("mowst", self.ensemble)[1].test

    def train_mixture(self, method: str) -> None:
        r"""Trains a mixture from the two experts."""
        model, result = self._fit(method, self.strong)
        self.scores |= {"start": result.start["test"], method: result.test}
        self.details[method] = {
            "losses": result.choices,
            "chosen": result.chosen,
            "deferred_share": result.deferred_share,
            "evaluations": len(result.history),
            "scores": result.scores,
            "deferred_accuracy": measure_deferred(self.strong, model, self.task),
            "groups": count_groups(self.strong, model, self.task),
        }

    def score_limits(self) -> None:
        r"""Scores an oracle, and what it would score if the experts' errors were independent."""
        if self.task.metric != "accuracy":
            return
        test, y = self.task.index("test"), self.task.labels("test")
        weak, strong = (self.prob[name][test].argmax(dim=-1) != y for name in ("weak", "strong"))
        self.scores["oracle"] = 1 - float((weak & strong).float().mean())
        self.scores["independent"] = 1 - float(weak.float().mean() * strong.float().mean())

    def _fit(self, method: str, strong: torch.nn.Module) -> tuple[Mowst, Any]:
        seed_everything(self.seed)
        model = Mowst(deepcopy(self.weak), deepcopy(strong), MonotoneGate())
        config = replace(self.training, pretrain="none")
        return model, fit(model, self.task, method=method, config=config)

    def _record(self, name: str, model: Mowst, found: Any) -> None:
        self.details[name] = {"losses": found.losses, "chosen": found.chosen}
        self.scores[name] = self.task.evaluate(compute_prob(model, self.task), "test")


def table(out: Path = OUT, into: Path | None = None, mark: str = "controls") -> None:
    r"""Prints, by data set and GNN, the GNN's score and the differences to it, in points.

    Args:
        out: file of the lines.
        into: a Markdown file that gets the table between its markers, of that name and "end".
        mark: the name of the first marker.
    """
    rows = []
    for (data, strong), lines in read_sorted(out).groupby(["data", "strong"], sort=False):
        scores = 100 * pd.DataFrame(lines["scores"].tolist())
        row = {"data (runs)": f"{data} ({len(lines)})", "GNN": strong}
        row["strong"] = spread(scores["strong"])
        for name in (*COLUMNS, *LIMITS):
            base = "ensemble" if name in OVER_TWO else "strong"
            row[name] = ""
            if name in scores:
                row[name] = spread(scores[name] - scores[base], signed=True)
        last = "mowst" if "mowst" in lines else "start"
        row["chosen"] = count_names(pd.Series([details["chosen"] for details in lines[last]]))
        rows.append(row)
    frame = pd.DataFrame(rows)
    show(markdown(frame.loc[:, (frame != "").any()]), into, mark)


def groups(
    data: str, strong: str, method: str = "mowst", out: Path = OUT, into: Path | None = None
) -> None:
    r"""Prints, for the test nodes of all runs on one data set, grouped by confidence, degree and
    local homophily, the mean confidence and the accuracy of each expert, in %.

    Args:
        data: name of the data set.
        strong: name of the strong expert.
        method: name of the method.
        out: file of the lines.
        into: a Markdown file that gets the table between its markers "groups DATA STRONG" and
            "end".
    """
    lines = [line for line in read_lines(out) if line["data"] == data and line["strong"] == strong]
    titles = {
        "confidence": "mean confidence",
        "weak": "MLP",
        "before": "GNN before the rounds",
        "strong": "GNN after",
        "mixture": "mixture",
    }
    rows = []
    for name, edges in EDGES.items():
        labels = [f"below {edges[0]}"]
        labels += [f"{low} to {high}" for low, high in pairwise(edges)]
        labels += [f"{edges[-1]} and more"]
        for k, label in enumerate(labels):
            total = pd.DataFrame([line[method]["groups"][name][k] for line in lines]).sum()
            if not total["nodes"]:
                continue
            row = {"test nodes by": f"{name} {label}", "nodes": int(total["nodes"])}
            for key, title in titles.items():
                row[title] = f"{100 * total[key] / total['nodes']:.1f}"
            rows.append(row)
    show(markdown(rows), into, f"groups {data} {strong}")


def deferred(method: str = "mowst", out: Path = OUT, into: Path | None = None) -> None:
    r"""Prints, by data set and GNN, the accuracy in % of the strong expert on the deferred test
    nodes, each with the weight 1 - C, before and after the rounds, over the runs in which a mixture
    was chosen.

    Args:
        method: name of the method.
        out: file of the lines.
        into: a Markdown file that gets the table between its markers "deferred" and "end".
    """
    rows = []
    for (data, strong), lines in read_sorted(out).groupby(["data", "strong"], sort=False):
        mixed = [
            details["deferred_accuracy"] for details in lines[method] if details["chosen"] in MIXES
        ]
        if not mixed:
            continue
        accuracy = 100 * pd.DataFrame(mixed)
        gain = accuracy["after"] - accuracy["before"]
        rows.append(
            {
                "data (runs)": f"{data} ({len(mixed)})",
                "GNN": strong,
                "before the rounds": spread(accuracy["before"]),
                "after the rounds": spread(accuracy["after"]),
                "difference": spread(gain, signed=True),
            }
        )
    show(markdown(rows), into, "deferred")


if __name__ == "__main__":
    auto_cli([run, table, groups, deferred])
