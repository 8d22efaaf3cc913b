r"""When do turns add to a gate between two experts that were trained apart?

    python experiments/alternation.py run       # appends to experiments/results/alternation.jsonl
    python experiments/alternation.py table     # prints the table of that file as Markdown

On the generated `csbm`, where one half of the nodes speaks through its features and the other through its neighbours,
one thing at a time is changed: the size of the graph, how far the populations differ, capacity and dropout of the GNN,
the noise of the training labels, their number. Test accuracy in points above where Mowst starts (`mowst.train.stack`
over the two trained experts, no turns):

    turns        Mowst from there, as `fit` does it
    normalised   the same, the weights of the strong turn divided by their sum
    long turns   the same with five times the epochs and the patience
    earlier      the same from a GNN of a tenth of the epochs, which has not memorised yet
    longer       no turns, but the GNN trained on alone for as many attempts, then the start anew
    fresh        no turns, but a GNN trained from scratch under fixed weights 1 - C, with the confidences C that MLPs
                 show on the folds that they were not trained on, then the start anew
    weak-to-strong
                 no turns, but the GNN trained on, on more nodes: the MLP's confident predictions are the labels of
                 unlabelled ones, shared with the GNN's own there, then the start anew: after "Weak-to-Strong
                 Generalization" (https://arxiv.org/abs/2312.09390) with its auxiliary confidence loss
    strong-to-weak
                 the GNN's as labels of the MLP, without such a loss
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import auto_cli
from methods import append_missing, markdown, show, spread
from pairs import answer, finish, train_alone, train_on
from sklearn.model_selection import StratifiedKFold
from torch import Tensor
from torch.nn.functional import cross_entropy

from mowst import GraphTask, MonotoneConfidence, Mowst, TrainConfig, fit, seed_everything
from mowst.data.csbm import csbm
from mowst.data.splits import per_class_split, stratified_split
from mowst.loss import reached_loss
from mowst.nn.build import ModelConfig, build_model
from mowst.study.lines import read_lines
from mowst.train import stack
from mowst.train.objective import Loss, Objective
from mowst.train.turn import Turn, score_of, validate

RESULTS = Path(__file__).parent / "results" / "alternation.jsonl"
COLUMNS = ("turns", "normalised", "long turns", "earlier", "longer", "fresh", "weak-to-strong", "strong-to-weak")
TRAINING = {"epochs": 200, "patience": 30}
LONG = {"epochs": 1000, "patience": 150}
FOLDS = 5
CONFIDENT = 0.5  # the share of the unlabelled nodes, the most confident of them, that is drawn in
OWN = 0.5  # of a drawn node's loss, the part that is against the GNN's own prediction


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
    gnn = {"hidden_channels": condition.strong_channels, "dropout": condition.strong_dropout}
    config = ModelConfig(strong_args=gnn)
    weak, strong = (train_alone(config, task, expert, seed, TRAINING) for expert in ("weak", "strong"))
    early = train_alone(config, task, "strong", seed, TRAINING | {"epochs": TRAINING["epochs"] // 10})
    start = stacked(weak, strong, task)
    scores = {expert: score(start, task, expert) for expert in ("weak", "strong")} | {"start": score(start, task)}
    details = {}
    for column, expert, settings in (
        ("turns", strong, {}),
        ("normalised", strong, {"normalize_weights": True}),
        ("long turns", strong, LONG),
        ("earlier", early, {}),
    ):
        seed_everything(seed)
        model = Mowst(deepcopy(weak), deepcopy(expert), MonotoneConfidence())
        result = fit(model, task, method="mowst", **TRAINING | {"pretrain": "none"} | settings)
        scores[column] = result.test
        details[column] = {"chosen": result.chosen, "weak_share": result.weak_share, "scores": result.scores}
    sure = {expert: drawn_in(task, answer(start, task, expert)) for expert in ("weak", "strong")}
    for column, experts in {
        "longer": (weak, train_on(strong, task, TRAINING)),
        "fresh": (weak, train_fresh(config, start, task, seed)),
        "weak-to-strong": (weak, train_on_drawn(start, task, sure["weak"])),
        "strong-to-weak": (train_on(weak, sure["strong"], TRAINING), strong),
    }.items():
        scores[column] = score(stacked(*experts, task), task)
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
    r"""A GNN of another seed, trained from its first epoch on under the weights :math:`1 - C` that the start's
    confidence gives to MLPs on the training nodes that they were not trained on.
    """
    index, y = task.index("train"), task.labels("train")
    logits = torch.empty(y.numel(), task.num_classes)
    for rest, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(y, y):
        train = torch.zeros_like(task.masks["train"]).index_fill(0, index[rest], True)
        expert = train_alone(config, replace(task, masks=task.masks | {"train": train}), "weak", seed, TRAINING)
        with torch.no_grad():
            logits[held] = expert(task.data.x[index[held]])
    with torch.no_grad():
        confidence = start.gate(0, logits / start.temperatures[0], task.features("train"))
    seed_everything(seed + 1)
    fresh = build_model(config, in_channels=task.num_features, out_channels=task.num_classes).strong
    turn = strong_turn(start, fresh, lambda logits, _, y: reached_loss(logits, [confidence], y, expert=1))
    finish(turn.run(task))
    return fresh


def train_on_drawn(start: Mowst, task: GraphTask, more: GraphTask) -> torch.nn.Module:
    r"""The GNN of the start, trained on, which is kept if the validation loss falls: half of the loss of a node that
    was drawn in is against its label there, half against the GNN's own prediction.
    """
    own = OWN * (~task.masks["train"][more.index("train")]).float()

    def loss(logits: Sequence[Tensor], _: Sequence[Tensor], y: Tensor) -> Tensor:
        labels = cross_entropy(logits[1], y, reduction="none")
        return ((1 - own) * labels + own * cross_entropy(logits[1], logits[1].argmax(dim=-1), reduction="none")).mean()

    strong = deepcopy(start.strong)
    turn = strong_turn(start, strong, loss)
    before = validate(Objective(turn.model, more, (), loss).answer(), more)
    finish(turn.run(more, bar=score_of(before, turn.config)))
    return strong


def strong_turn(start: Mowst, strong: torch.nn.Module, loss: Loss) -> Turn:
    r"""A turn of a GNN in the place of the start's, all else as it is there."""
    model = Mowst(start.weak, strong, start.confidence, mix=start.mix)
    model.temperatures = list(start.temperatures)
    return Turn("strong", model, ("strong",), loss, TrainConfig(**TRAINING))


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
    return replace(task, data=data, masks=task.masks | {"train": train, "test": test})


def table(out: Path = RESULTS, into: Path | None = None) -> None:
    r"""Prints, by condition, the scores of the experts and of the start, and the differences to the start, in points.

    Args:
        out: file of the lines.
        into: a Markdown file that gets the table between its markers "alternation" and "end".
    """
    rows = []
    for name, lines in pd.DataFrame(read_lines(out)).groupby("strong", sort=False):
        scores = 100 * pd.DataFrame(lines["scores"].tolist())
        row = {"condition (runs)": f"{name} ({len(lines)})"}
        row |= {column: spread(scores[column]) for column in ("weak", "strong", "start")}
        row |= {column: spread(scores[column] - scores["start"], signed=True) for column in COLUMNS}
        rows.append(row)
    show(markdown(pd.DataFrame(rows)), into, "alternation")


if __name__ == "__main__":
    auto_cli([run, table])
