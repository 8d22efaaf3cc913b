r"""Two experts trained apart, and what a study asks of them and of a mixture over them."""

from collections.abc import Generator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from mowst import GraphTask, MonotoneConfidence, Mowst, TrainConfig, fit, seed_everything
from mowst.nn.build import ModelConfig, build_model
from mowst.nn.contract import call_expert
from mowst.study.details import node_details
from mowst.train.objective import Objective
from mowst.train.turn import Score, Turn, score_of, validate

# Between the bins of who answers what; neighbourhoods with none that is labelled have no homophily.
EDGES = {"confidence": (0.05, 0.1, 0.2, 0.5), "degree": (1, 2, 4, 8, 16, 32, 64), "homophily": (0.2, 0.4, 0.6, 0.8)}


def train_alone(
    config: ModelConfig, task: GraphTask, expert: str, seed: int, training: dict[str, Any]
) -> torch.nn.Module:
    r"""The expert of that name, trained by itself from a seed."""
    seed_everything(seed)
    sizes = {"in_channels": task.num_features, "out_channels": task.num_classes, "num_nodes": task.num_nodes}
    model = build_model(config, **sizes)
    fit(model, task, method=expert, **training)
    return getattr(model, expert)


def train_on(expert: torch.nn.Module, task: GraphTask, training: dict[str, Any]) -> torch.nn.Module:
    r"""A copy of a trained expert, trained on alone for as many attempts from its best state as Mowst has rounds, each
    of which is kept if the validation loss falls.
    """
    config = TrainConfig(**training)
    model = Mowst(torch.nn.Identity(), deepcopy(expert), MonotoneConfidence())
    model.route = "strong"
    turn = Turn("strong", model, ("strong",), lambda *_: torch.zeros(()), config)
    best, best_round = score_of(validate(Objective(model, task, (), turn.loss).answer(), task), config), 0
    for round in range(1, config.rounds + 1):
        before, best = best, finish(turn.run(task, bar=best, round=round))
        best_round = round if best > before else best_round
        if config.round_patience is not None and round - best_round >= config.round_patience:
            break
    return model.strong


def finish(records: Generator[dict, None, Score]) -> Score:
    r"""Runs a turn to its end and returns its best score."""
    while True:
        try:
            next(records)
        except StopIteration as stop:
            return stop.value


@torch.no_grad()
def answer(model: Mowst, task: GraphTask, route: str | None = None) -> Tensor:
    r"""The class probabilities of all nodes, from one expert if the route says so."""
    model.eval()
    model.route = route or model.route
    return model(task.data.x, task.data.edge_index, task.data.edge_weight).prob


@torch.no_grad()
def passed_on(before: torch.nn.Module, model: Mowst, task: GraphTask) -> dict[str, float]:
    r"""The accuracy of the strong expert on the test nodes, weighed by how much of each is passed on to it, before and
    after the turns.
    """
    data, test, y = task.data, task.index("test"), task.labels("test")
    weight = 1 - model.gate(0, model.logits(0, data.x), data.x)[test]
    experts = {"before": before.eval(), "after": model.eval().strong}
    logits = {k: call_expert(e, data.x, data.edge_index, data.edge_weight)[test] for k, e in experts.items()}
    return {k: float((weight * (z.argmax(dim=-1) == y)).sum() / weight.sum()) for k, z in logits.items()}


def who_answers(before: torch.nn.Module, model: Mowst, task: GraphTask) -> dict[str, list[dict[str, float]]]:
    r"""By confidence, degree and local homophily of the test nodes: their number, how many of them the weak expert
    answers (the sum of its confidences), and how many each gets right, the strong one before and after the turns.
    """
    nodes = node_details(model, task, "mowst")
    nodes["before"] = node_details(Mowst(model.weak, before, model.confidence), task, "mowst")["strong"]
    right = {name: nodes[name] == nodes["y"] for name in ("weak", "before", "strong", "mixture")}
    found = {}
    for name, edges in EDGES.items():
        bins = torch.bucketize(nodes[name].float(), torch.tensor(edges), right=True)
        bins[nodes[name].isnan()] = -1
        members = [bins == k for k in range(len(edges) + 1)]
        found[name] = [
            {"nodes": int(chosen.sum()), "weak_share": float(nodes["confidence"][chosen].sum())}
            | {who: int(answers[chosen].sum()) for who, answers in right.items()}
            for chosen in members
        ]
    return found
