r""":obj:`mowst evaluate` and :obj:`mowst predict`: the model of a finished run, used again."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from jsonargparse import ArgumentParser, Namespace

from mowst.cli.classes import renumbered
from mowst.cli.places import add_places, device_of, load
from mowst.cli.scores import names_of, print_scores
from mowst.inference import Predictor
from mowst.io import atomic_write
from mowst.nn.cascade import Cascade
from mowst.nn.evaluating import evaluating
from mowst.nn.mowst import Mowst
from mowst.task import GraphTask
from mowst.train import RunFolder, score_model


def evaluate_parser() -> ArgumentParser:
    r"""The options of :obj:`mowst evaluate`."""
    parser = ArgumentParser(description="Scores the model of a run again, on its own data or on another split.")
    _add_run(parser)
    return parser


def evaluate(options: Namespace) -> None:
    r"""Prints the scores of a run's model and of its experts."""
    task, model, config = _open(options)
    scores = score_model(model, task)
    print(f"{task}\n{model}")
    rows, names = {}, names_of(model, config)
    if config["method"].startswith("mowst"):
        rows = {f"{name} in it": scores["scores"][part] for part, name in names.items()}
    rows[f"{config['method']} ({model.route})"] = scores
    shares = {name: scores["shares"][part] for part, name in names.items()}
    print_scores(rows, task.metric, shares, scores["expected"])
    if options.data in (None, config["data"]) and (seen := _seen(task, options, config)):
        told = f"{seen} of the {task.index('test').numel()} test nodes of split {task.split}"
        print(f"mowst: {told} trained or selected this model, on split {config['split']}", file=sys.stderr)


def _seen(task: GraphTask, options: Namespace, config: Mapping[str, Any]) -> int:
    if task.split == config["split"]:
        return 0
    own = load(config["data"], options.root or config.get("root"), config["split"], config).masks
    return int((task.masks["test"].cpu() & (own["train"] | own["val"])).sum())


def predict_parser() -> ArgumentParser:
    r"""The options of :obj:`mowst predict`."""
    parser = ArgumentParser(
        description="Writes what the model of a run answers, as CSV: node, label and its probability, the expert that "
        "was asked last, and the confidence in the first one."
    )
    _add_run(parser)
    parser.add_argument("--nodes", default="all", help="all, or those of one part of the split: train, val or test")
    parser.add_argument("--threshold", type=float | None, help="ask the next expert only where confidence is lower")
    parser.add_argument("--out", type=str | None, help="file to write, else the terminal")
    return parser


def predict(options: Namespace) -> None:
    r"""Writes what a run's model answers as CSV."""
    task, model, config = _open(options)
    if options.nodes not in (known := ("all", *task.splits)):
        raise ValueError(f"unknown nodes '{options.nodes}', choose from {', '.join(known)}")
    nodes = torch.arange(task.num_nodes) if options.nodes == "all" else task.index(options.nodes).cpu()
    table = answers(model, task, nodes, options.threshold, list(names_of(model, config).values()))
    if options.out is None:
        table.to_csv(sys.stdout, index=False)
        return
    with atomic_write(options.out, mode="w") as file:
        table.to_csv(file, index=False)
    print(f"{len(table)} nodes of '{task.name}': {options.out}")


@torch.no_grad()
def answers(
    model: Cascade, task: GraphTask, nodes: torch.Tensor, threshold: float | None, names: list[str]
) -> pd.DataFrame:
    r"""What a model answers on some nodes, by their names and those of the classes where the data set has some."""
    data, found = task.data, Predictor(model, task.data, threshold=threshold).predict(nodes)
    ids, classes = data.get("node_ids"), data.get("class_names")
    labels = found.labels.tolist()
    with evaluating(model):
        at = nodes.to(data.x.device)
        confidence = model.gate(0, model.logits(0, data.x, data.edge_index, data.edge_weight, nodes=at), data.x[at])
    mixed = model.route == "mixture" and threshold is None
    return pd.DataFrame(
        {
            "node": nodes if ids is None else [ids[node] for node in nodes.tolist()],
            "label": labels if classes is None else [classes[label] for label in labels],
            "prob": found.prob.max(dim=-1).values.tolist(),
            "expert": "mixture" if mixed else [names[expert] for expert in found.expert.tolist()],
            "confidence": confidence.tolist(),
        }
    )


def _add_run(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="folder that 'mowst train' wrote")
    parser.add_argument("--data", type=str | None, help="another data set than the run's")
    parser.add_argument("--split", type=int | str | None, help="another split than the run's")
    parser.add_argument("--trust", action="store_true", help="follow import paths that the run names")
    add_places(parser)


def _open(options: Namespace) -> tuple[GraphTask, Cascade, dict[str, Any]]:
    device, folder = device_of(options), RunFolder.open(options.run)
    config = folder.config
    if lacking := [key for key in ("data", "split", "method", "weak", "strong") if key not in config]:
        raise ValueError(f"'{options.run}' was not made by 'mowst train': its config.yaml lacks {', '.join(lacking)}")
    data = options.data or config["data"]
    split = config["split"] if options.split is None else options.split
    task = renumbered(load(data, options.root or config.get("root"), split, config), folder)
    model = (Cascade if config.get("middle") else Mowst).load(folder.model_path, trust=options.trust)
    return _fitting(task, model).to(device), model.to(device), config


def _fitting(task: GraphTask, model: Cascade) -> GraphTask:
    r"""A task with the classes of a model, of which its graph may have fewer; refused where sizes cannot fit."""
    experts = [getattr(model, name) for name in model.expert_names]
    # Modules by import path need not say their sizes.
    features, classes = (
        next((getattr(expert, size) for expert in experts if hasattr(expert, size)), given)
        for size, given in (("in_channels", task.num_features), ("out_channels", task.num_classes))
    )
    if task.num_features != features or task.num_classes > classes:
        found = f"'{task.name}' has {task.num_features} and {task.num_classes}"
        raise ValueError(f"the model of this run reads {features} features and knows {classes} classes, {found}")
    return replace(task, num_classes=classes)
