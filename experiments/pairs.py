r"""Two experts that were trained apart, and what studies measure of a mixture over them."""

from copy import deepcopy

import torch
from common import build_for
from torch import Tensor
from training import Score, predict, score_val

from mowst import GraphTask, MonotoneGate, Mowst, MowstOutput, TrainConfig, fit, seed_everything
from mowst.nn.build import ModelConfig
from mowst.study.details import node_details
from mowst.train.gate_fit import GateFit, fit_gate

# The bounds of the groups of nodes. Nodes without labelled neighbours have no homophily.
EDGES = {
    "confidence": (0.05, 0.1, 0.2, 0.5),
    "degree": (1, 2, 4, 8, 16, 32, 64),
    "homophily": (0.2, 0.4, 0.6, 0.8),
}


def train_alone(
    config: ModelConfig, task: GraphTask, expert: str, seed: int, training: TrainConfig
) -> torch.nn.Module:
    r"""Trains an expert by itself from a seed."""
    seed_everything(seed)
    model = build_for(task, config)
    fit(model, task, method=expert, config=training)
    return getattr(model, expert)


def train_on(model: Mowst, expert: str, task: GraphTask, training: TrainConfig) -> Mowst:
    r"""Trains an expert on by itself, in as many attempts as Mowst has rounds. Each attempt starts
    from the best state and is accepted if the validation score rises. Returns a copy of the model.
    """
    best_score, best_round = score_expert_val(model, expert, task, training), 0
    for number in range(1, training.rounds + 1):
        attempt = deepcopy(model)
        fit(attempt, task, method=expert, config=training)
        score = score_expert_val(attempt, expert, task, training)
        if score > best_score:
            model, best_score, best_round = attempt, score, number
        elif training.round_patience is not None and number - best_round >= training.round_patience:
            break
    return deepcopy(model)


def score_expert_val(model: Mowst, expert: str, task: GraphTask, training: TrainConfig) -> Score:
    r"""Scores an expert on the validation nodes."""
    prob = predict(getattr(model, expert), task).softmax(dim=-1)
    return score_val(prob[task.index("val")], task, training)


def fit_pair(
    weak: torch.nn.Module, strong: torch.nn.Module, task: GraphTask
) -> tuple[Mowst, GateFit]:
    r"""Fits a gate between two trained experts: where Mowst starts."""
    model = Mowst(weak, strong, MonotoneGate())
    return model, fit_gate(model, task)


@torch.no_grad()
def compute_outputs(model: Mowst, task: GraphTask) -> MowstOutput:
    r"""Computes the output of both experts and the gate on all nodes, in evaluation mode."""
    data = task.data
    return model.eval().outputs(data.x, data.edge_index, data.edge_weight)


def compute_prob(model: Mowst, task: GraphTask, route: str | None = None) -> Tensor:
    r"""Computes the class probabilities of all nodes, by default along the route of the model."""
    out, route = compute_outputs(model, task), route or model.route
    if route == "mixture":
        return out.prob
    return getattr(out, route).softmax(dim=-1)


def score_test(model: Mowst, task: GraphTask, route: str | None = None) -> float:
    r"""Scores the test nodes."""
    return task.evaluate(compute_prob(model, task, route), "test")


def measure_deferred(before: torch.nn.Module, model: Mowst, task: GraphTask) -> dict[str, float]:
    r"""Measures the accuracy of the strong expert on the deferred test nodes, each with the weight
    :math:`1 - C_v`, before and after the rounds.
    """
    test, y = task.index("test"), task.labels("test")
    out = compute_outputs(model, task)
    weight = 1 - out.confidence[test]
    found = {}
    for when, logits in (("before", predict(before, task)), ("after", out.strong)):
        right = logits[test].argmax(dim=-1) == y
        found[when] = float((weight * right).sum() / weight.sum())
    return found


def count_groups(
    before: torch.nn.Module, model: Mowst, task: GraphTask
) -> dict[str, list[dict[str, float]]]:
    r"""Counts test nodes by confidence, degree and local homophily: their number, the sum of their
    confidences, and how many each expert predicts correctly, the strong one before and after the
    rounds.
    """
    nodes = node_details(model, task, "mowst")
    nodes["before"] = predict(before, task).argmax(dim=-1).cpu()[task.index("test")]
    right = {name: nodes[name] == nodes["y"] for name in ("weak", "before", "strong", "mixture")}
    found = {}
    for name, edges in EDGES.items():
        bins = torch.bucketize(nodes[name].float(), torch.tensor(edges), right=True)
        bins[nodes[name].isnan()] = -1
        found[name] = []
        for k in range(len(edges) + 1):
            members = bins == k
            group = {
                "nodes": int(members.sum()),
                "confidence": float(nodes["confidence"][members].sum()),
            }
            for who, correct in right.items():
                group[who] = int(correct[members].sum())
            found[name].append(group)
    return found
