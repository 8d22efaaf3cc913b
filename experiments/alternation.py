r"""When do turns add to a gate between two experts that were trained apart?

    python experiments/alternation.py run       # appends to experiments/results/alternation.jsonl
    python experiments/alternation.py table     # prints the table of that file as Markdown

On the generated `csbm`, where one half of the nodes speaks through its features and the other through its neighbours,
one thing at a time is changed: the size of the graph, how far the populations differ, the capacity of the GNN, the
noise of the training labels, their number. Test accuracy in points above where Mowst starts (`mowst.train.stack` over
the two trained experts, no turns):

    turns        Mowst from there, as `fit` does it
    normalised   the same, the weights of the strong turn divided by their sum
    longer       no turns, but the GNN trained on alone for as many attempts, then the start anew
    fresh        no turns, but a GNN trained from scratch under the fixed weights 1 - C of the start, then the start
                 anew
    weak-to-strong
                 the MLP's confident predictions on unlabelled nodes as labels of the GNN, then the start anew: after
                 "Weak-to-Strong Generalization" (https://arxiv.org/abs/2312.09390), with the mean loss over all labels
    strong-to-weak
                 the GNN's as labels of the MLP
"""

from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from methods import append_missing, markdown, read, show, spread
from pairs import answer, finish, train_alone, train_on
from torch import Tensor

from mowst import GraphTask, MonotoneConfidence, Mowst, TrainConfig, fit, seed_everything
from mowst.data.csbm import csbm
from mowst.data.splits import per_class_split, stratified_split
from mowst.loss import reached_loss
from mowst.nn.build import ModelConfig, build_model
from mowst.train import stack
from mowst.train.turn import Turn

RESULTS = Path(__file__).parent / "results" / "alternation.jsonl"
COLUMNS = ("turns", "normalised", "longer", "fresh", "weak-to-strong", "strong-to-weak")
TRAINING = {"epochs": 200, "patience": 30}
CONFIDENT = 0.5  # the share of the unlabelled nodes, the most confident of them, that is drawn in


@dataclass(frozen=True)
class Condition:
    r"""A graph and a GNN.

    Args:
        num_nodes: nodes of the graph.
        separation: how clearly the features of population 0 tell the class.
        strong_channels: hidden channels of the GNN.
        noise: the share of training labels that is replaced by a random class.
        per_class: training nodes of each class; half of all nodes by default.
    """

    num_nodes: int = 4000
    separation: float = 3.0
    strong_channels: int = 64
    noise: float = 0.0
    per_class: int | None = None


CONDITIONS = {
    "as it is": Condition(),
    "10,000 nodes": Condition(num_nodes=10_000),
    "30,000 nodes": Condition(num_nodes=30_000),
    "100,000 nodes": Condition(num_nodes=100_000),
    "separation 1": Condition(separation=1.0),
    "separation 2": Condition(separation=2.0),
    "separation 5": Condition(separation=5.0),
    "GNN of 2": Condition(strong_channels=2),
    "GNN of 4": Condition(strong_channels=4),
    "GNN of 8": Condition(strong_channels=8),
    "20 % wrong labels": Condition(noise=0.2),
    "40 % wrong labels": Condition(noise=0.4),
    "20 labels a class": Condition(per_class=20),
    "50 labels a class": Condition(per_class=50),
}


def run(
    seeds: int = 5,
    condition: tuple[str, ...] = tuple(CONDITIONS),
    out: Path = RESULTS,
    threads: int = 1,
) -> None:
    r"""Runs the cells that the file does not hold yet.

    Args:
        seeds: number of graphs, splits and initialisations of each condition.
        condition: names of the conditions.
        out: file to append to.
        threads: number of CPU threads.
    """
    torch.set_num_threads(threads)
    cells = [("csbm", name, "alternation", k) for k in range(seeds) for name in condition]
    append_missing(out, cells, lambda data, name, method, k: run_cell(name, k))


def run_cell(name: str, seed: int) -> dict[str, Any]:
    condition = CONDITIONS[name]
    task = make_task(condition, seed)
    config = ModelConfig(strong_args={"hidden_channels": condition.strong_channels})
    weak, strong = (train_alone(config, task, expert, seed, TRAINING) for expert in ("weak", "strong"))
    start = stacked(weak, strong, task)
    scores = {expert: score(start, task, expert) for expert in ("weak", "strong")} | {"start": score(start, task)}
    details = {}
    for column, settings in (("turns", {}), ("normalised", {"normalize_weights": True})):
        seed_everything(seed)
        model = Mowst(deepcopy(weak), deepcopy(strong), MonotoneConfidence())
        result = fit(model, task, method="mowst", pretrain="none", **TRAINING, **settings)
        scores[column] = result.test
        details[column] = {"route": result.route, "weak_share": result.weak_share, "scores": result.scores}
    scores["longer"] = score(stacked(weak, train_on(strong, task, TRAINING), task), task)
    scores["fresh"] = score(stacked(weak, train_fresh(config, start, task, seed), task), task)
    more = drawn_in(task, answer(start, task, "weak"))
    scores["weak-to-strong"] = score(stacked(weak, train_on(strong, more, TRAINING), task), task)
    more = drawn_in(task, answer(start, task, "strong"))
    scores["strong-to-weak"] = score(stacked(train_on(weak, more, TRAINING), strong, task), task)
    cell = {"data": "csbm", "strong": name, "method": "alternation", "seed": seed}
    return cell | {"condition": asdict(condition), "scores": scores, **details}


def make_task(condition: Condition, seed: int) -> GraphTask:
    r"""A graph of its own for each seed; wrong labels are in the training nodes alone."""
    data = csbm(condition.num_nodes, seed=seed, separation=condition.separation)
    if condition.per_class is None:
        masks = stratified_split(data.y, seed)
    else:
        masks = per_class_split(data.y, seed, condition.per_class)
    task = GraphTask(data, masks=masks, num_classes=4, metric="accuracy", name="csbm", split=seed)
    generator = torch.Generator().manual_seed(seed)
    train = task.index("train")
    wrong = train[torch.rand(train.numel(), generator=generator) < condition.noise]
    data.y = data.y.index_copy(0, wrong, torch.randint(4, wrong.shape, generator=generator))
    return GraphTask(data, masks=masks, num_classes=4, metric="accuracy", name="csbm", split=seed)


def stacked(weak: torch.nn.Module, strong: torch.nn.Module, task: GraphTask) -> Mowst:
    r"""The start state over two experts."""
    model = Mowst(weak, strong, MonotoneConfidence())
    stack(model, task)
    return model


def score(model: Mowst, task: GraphTask, route: str | None = None) -> float:
    r"""The test score of a model, or of one of its experts."""
    kept = model.route
    found = float(task.score(answer(model, task, route), "test"))
    model.route = kept
    return found


def train_fresh(config: ModelConfig, start: Mowst, task: GraphTask, seed: int) -> torch.nn.Module:
    r"""A GNN of another seed that was trained under the weights :math:`1 - C` of the start from its first epoch on."""
    seed_everything(seed + 1)
    fresh = build_model(config, in_channels=task.num_features, out_channels=task.num_classes).strong
    model = Mowst(start.weak, fresh, start.confidence, mix=start.mix)
    model.temperatures[0] = start.temperatures[0]
    finish(Turn("strong", model, ("strong",), partial(reached_loss, expert=1), TrainConfig(**TRAINING)).run(task))
    return model.strong


def drawn_in(task: GraphTask, prob: Tensor) -> GraphTask:
    r"""The task with more training nodes: those of the test set and of none on which an expert is most confident, under
    the labels that it gives them.
    """
    unlabelled = (~task.masks["train"] & ~task.masks["val"]).nonzero().view(-1)
    sure = prob[unlabelled].max(dim=-1).values.topk(round(CONFIDENT * unlabelled.numel())).indices
    data, nodes = task.data.clone(), unlabelled[sure]
    data.y = data.y.index_copy(0, nodes, prob[nodes].argmax(dim=-1))
    train = task.masks["train"].index_fill(0, nodes, True)
    test = task.masks["test"].index_fill(0, nodes, False)
    return GraphTask(
        data,
        masks=task.masks | {"train": train, "test": test},
        num_classes=task.num_classes,
        metric=task.metric,
        name=task.name,
        split=task.split,
    )


def table(out: Path = RESULTS, into: Path | None = None) -> None:
    r"""Prints, by condition, the scores of the experts and of the start, and the differences to the start, in points.

    Args:
        out: file of the lines.
        into: a Markdown file that gets the table between its markers "alternation" and "end".
    """
    rows = []
    for name, lines in pd.DataFrame(read(out)).groupby("strong", sort=False):
        scores = 100 * pd.DataFrame(lines["scores"].tolist())
        row = {"condition (runs)": f"{name} ({len(lines)})"}
        row |= {column: spread(scores[column]) for column in ("weak", "strong", "start")}
        row |= {column: spread(scores[column] - scores["start"], signed=True) for column in COLUMNS}
        rows.append(row)
    show(markdown(pd.DataFrame(rows)), into, "alternation")


if __name__ == "__main__":
    auto_cli([run, table])
