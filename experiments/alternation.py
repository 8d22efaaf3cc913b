r"""When do rounds add to a gate between two experts that were trained apart?

    python experiments/alternation.py run       # appends to experiments/results/alternation.jsonl
    python experiments/alternation.py table     # prints the table of that file as Markdown

On the generated `csbm`, the features of one half of the nodes tell the class, and the neighbours of
the other half do. One thing at a time is changed: the size of the graph, how far the populations
differ, capacity and dropout of the GNN, the noise of the training labels, their number. Test
accuracy in points above where Mowst starts (`mowst.train.gate_fit.fit_gate` over the two trained
experts, no rounds):

    rounds       Mowst from there, as `fit` trains it
    long rounds  the same with five times the epochs and the patience
    earlier      the same from a GNN of a tenth of the epochs, which has not memorised yet
    longer       no rounds, but the GNN trained on alone for as many attempts, then a new start
    fresh        no rounds, but a GNN trained from scratch under fixed weights 1 - C, with the
                 confidences C of MLPs on the folds that they were not trained on, then a new start
    weak-to-strong
                 no rounds, but the GNN trained on, on more nodes: the MLP's confident predictions
                 are the labels of unlabelled ones, shared with the GNN's own there, then a start:
                 after "Weak-to-Strong Generalization" (https://arxiv.org/abs/2312.09390) with its
                 auxiliary confidence loss
    strong-to-weak
                 the GNN's as labels of the MLP, without such a loss
"""

from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from common import RESULTS, append_missing, build_for, markdown, show, spread
from jsonargparse import auto_cli
from pairs import compute_outputs, compute_prob, fit_pair, score_test, train_alone, train_on
from torch import Tensor
from torch.nn.functional import cross_entropy
from training import score_val, train

from mowst import GraphTask, MonotoneGate, Mowst, TrainConfig, fit, seed_everything
from mowst.data.csbm import csbm
from mowst.data.splits import per_class_split, stratified_split
from mowst.nn.build import ModelConfig
from mowst.study.lines import read_lines

OUT = RESULTS / "alternation.jsonl"
COLUMNS = (
    *("rounds", "long rounds", "earlier", "longer", "fresh"),
    *("weak-to-strong", "strong-to-weak"),
)
TRAINING = TrainConfig(epochs=200, patience=30)
EARLY = TrainConfig(epochs=20, patience=30)
LONG = TrainConfig(epochs=1000, patience=150)
FOLDS = 5
CONFIDENT = 0.5  # the share of the unlabelled nodes, the most confident of them, that get a label
OWN = 0.5  # of the loss of such a node, the part against the GNN's own prediction


@dataclass(frozen=True)
class Condition:
    r"""A graph and a GNN.

    Args:
        num_nodes: nodes of the graph.
        separation: how clearly the features of population 0 tell the class.
        strong_channels: hidden channels of the GNN.
        strong_dropout: its dropout.
        noise: the share of training labels that is replaced by a random class.
        per_class: training nodes of each class; half of all nodes by default.
    """

    num_nodes: int = 4000
    separation: float = 3.0
    strong_channels: int = 64
    strong_dropout: float = 0.5
    noise: float = 0.0
    per_class: int | None = None


CONDITIONS = {
    "as it is": Condition(),
    "10,000 nodes": Condition(num_nodes=10_000),
    "30,000 nodes": Condition(num_nodes=30_000),
    "100,000 nodes": Condition(num_nodes=100_000),
    "300,000 nodes": Condition(num_nodes=300_000),
    "separation 1": Condition(separation=1.0),
    "separation 2": Condition(separation=2.0),
    "separation 5": Condition(separation=5.0),
    "GNN of 2": Condition(strong_channels=2),
    "GNN of 4": Condition(strong_channels=4),
    "GNN of 8": Condition(strong_channels=8),
    "GNN dropout 0.8": Condition(strong_dropout=0.8),
    "20 % wrong labels": Condition(noise=0.2),
    "40 % wrong labels": Condition(noise=0.4),
    "20 labels a class": Condition(per_class=20),
    "50 labels a class": Condition(per_class=50),
}


def run(
    seeds: int = 5,
    condition: tuple[str, ...] = tuple(CONDITIONS),
    out: Path = OUT,
) -> None:
    r"""Runs what the file does not hold yet.

    Args:
        seeds: number of graphs, splits and initialisations of each condition.
        condition: names of the conditions.
        out: file to append to.
    """
    runs = list(product(["csbm"], condition, ["alternation"], range(seeds)))
    append_missing(out, runs, make_line)


def make_line(data: str, name: str, method: str, seed: int) -> dict[str, Any]:
    r"""Runs every column under one condition and returns the line."""
    condition = CONDITIONS[name]
    task = make_task(condition, seed)
    sizes = {"hidden_channels": condition.strong_channels, "dropout": condition.strong_dropout}
    config = ModelConfig(strong_args=sizes)
    weak = train_alone(config, task, "weak", seed, TRAINING)
    strong = train_alone(config, task, "strong", seed, TRAINING)
    early = train_alone(config, task, "strong", seed, EARLY)
    start, _ = fit_pair(weak, strong, task)
    scores = {expert: score_test(start, task, expert) for expert in ("weak", "strong")}
    scores["start"] = score_test(start, task)
    line: dict[str, Any] = {"data": data, "strong": name, "method": method, "seed": seed}
    line |= {"condition": asdict(condition), "scores": scores}
    for column, expert, training in (
        ("rounds", strong, TRAINING),
        ("long rounds", strong, LONG),
        ("earlier", early, TRAINING),
    ):
        seed_everything(seed)
        model = Mowst(deepcopy(weak), deepcopy(expert), MonotoneGate())
        result = fit(model, task, method="mowst", config=replace(training, pretrain="none"))
        scores[column] = result.test
        line[column] = {
            "chosen": result.chosen,
            "deferred_share": result.deferred_share,
            "scores": result.scores,
        }
    labelled = {name: label_confident(task, start, name) for name in ("weak", "strong")}
    pairs = {
        "longer": (weak, train_on(start, "strong", task, TRAINING).strong),
        "fresh": (weak, train_fresh(config, start, task, seed)),
        "weak-to-strong": (weak, train_on_labelled(start, task, labelled["weak"])),
        "strong-to-weak": (train_on(start, "weak", labelled["strong"], TRAINING).weak, strong),
    }
    for column, pair in pairs.items():
        scores[column] = score_test(fit_pair(*pair, task)[0], task)
    return line


def make_task(condition: Condition, seed: int) -> GraphTask:
    r"""Generates a graph for each seed. Only training nodes have wrong labels."""
    data = csbm(condition.num_nodes, seed=seed, separation=condition.separation)
    if condition.per_class is None:
        masks = stratified_split(data.y, seed)
    else:
        masks = per_class_split(data.y, seed, condition.per_class)
    names = {"num_classes": 4, "metric": "accuracy", "name": "csbm", "split": seed}
    train_nodes = GraphTask(data, masks=masks, **names).index("train")
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.rand(train_nodes.numel(), generator=generator) < condition.noise
    wrong = train_nodes[noisy]
    data.y = data.y.index_copy(0, wrong, torch.randint(4, wrong.shape, generator=generator))
    return GraphTask(data, masks=masks, **names)


def train_fresh(config: ModelConfig, start: Mowst, task: GraphTask, seed: int) -> torch.nn.Module:
    r"""Trains a GNN of another seed from its first epoch on under the weights :math:`1 - C` that
    the start's gate gives to MLPs on the training nodes that they were not trained on.
    """
    from sklearn.model_selection import StratifiedKFold

    index, y = task.index("train"), task.labels("train")
    logits = torch.empty(y.numel(), task.num_classes)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for seen, unseen in folds.split(y, y):
        mask = torch.zeros_like(task.masks["train"]).index_fill(0, index[seen], True)
        part = replace(task, masks=task.masks | {"train": mask})
        expert = train_alone(config, part, "weak", seed, TRAINING)
        with torch.no_grad():
            logits[unseen] = expert(task.data.x[index[unseen]])
    with torch.no_grad():
        calibrated = logits / start.temperatures["weak"]
        weight = 1 - start.confidence(calibrated, task.features("train"))
    seed_everything(seed + 1)
    fresh = build_for(task, config).strong

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return (weight * cross_entropy(logits, y, reduction="none")).mean()

    train(fresh, task, TRAINING, loss, predict_val=predict_with(start, fresh, task))
    return fresh


def train_on_labelled(start: Mowst, task: GraphTask, more: GraphTask) -> torch.nn.Module:
    r"""Trains the GNN of the start on, on more training nodes; the result is accepted if the
    validation score rises. Half of the loss of an added node is against its label, half against the
    GNN's own prediction.
    """
    own = OWN * (~task.masks["train"][more.index("train")]).float()

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        labels = cross_entropy(logits, y, reduction="none")
        itself = cross_entropy(logits, logits.argmax(dim=-1), reduction="none")
        return ((1 - own) * labels + own * itself).mean()

    strong = deepcopy(start.strong)
    predict_val = predict_with(start, strong, more)
    before = score_val(predict_val(), more, TRAINING)
    after = train(strong, more, TRAINING, loss, predict_val=predict_val)
    return strong if after > before else start.strong


def predict_with(start: Mowst, strong: torch.nn.Module, task: GraphTask) -> Any:
    r"""Returns a function that predicts the validation nodes with a GNN in the place of the
    start's.
    """
    model = Mowst(start.weak, strong, start.gate, mix=start.mix)
    model.temperatures = dict(start.temperatures)
    return lambda: compute_outputs(model, task).prob[task.index("val")]


def label_confident(task: GraphTask, start: Mowst, expert: str) -> GraphTask:
    r"""Adds training nodes to a task: those nodes, of the test split and of none, on which an
    expert is most confident, with its predictions as their labels.
    """
    prob = compute_prob(start, task, expert)
    unlabelled = (~task.masks["train"] & ~task.masks["val"]).nonzero().view(-1)
    count = round(CONFIDENT * unlabelled.numel())
    nodes = unlabelled[prob[unlabelled].max(dim=-1).values.topk(count).indices]
    data = task.data.clone()
    data.y = data.y.index_copy(0, nodes, prob[nodes].argmax(dim=-1))
    masks = {
        "train": task.masks["train"].index_fill(0, nodes, True),
        "test": task.masks["test"].index_fill(0, nodes, False),
    }
    return replace(task, data=data, masks=task.masks | masks)


def table(out: Path = OUT, into: Path | None = None) -> None:
    r"""Prints, by condition, the scores of the experts and of the start, and the differences to the
    start, in points.

    Args:
        out: file of the lines.
        into: a Markdown file that gets the table between its markers "alternation" and "end".
    """
    rows = []
    for name, lines in pd.DataFrame(read_lines(out)).groupby("strong", sort=False):
        scores = 100 * pd.DataFrame(lines["scores"].tolist())
        row = {"condition (runs)": f"{name} ({len(lines)})"}
        for column in ("weak", "strong", "start"):
            row[column] = spread(scores[column])
        for column in COLUMNS:
            row[column] = spread(scores[column] - scores["start"], signed=True)
        rows.append(row)
    show(markdown(rows), into, "alternation")


if __name__ == "__main__":
    auto_cli([run, table])
