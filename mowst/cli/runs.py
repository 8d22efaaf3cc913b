r""":obj:`mowst evaluate` and :obj:`mowst predict`: the model of a finished run."""

import sys
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mowst.cli.places import add_places, choose_device
from mowst.io import atomic_write, read_json, write_json
from mowst.nn.evaluating import evaluating
from mowst.nn.mowst import EXPERTS, Mowst
from mowst.study.run import load_run_task
from mowst.task import GraphTask
from mowst.train.evaluate import score_model
from mowst.train.run_dir import RunDir

if TYPE_CHECKING:
    import pandas as pd
    from jsonargparse import ArgumentParser, Namespace

CLASSES = "classes.json"


def read_evaluate(parser: "ArgumentParser", argv: Sequence[str]) -> "Namespace":
    r"""Returns the options of :obj:`mowst evaluate`."""
    parser.description = "Scores the model of a run, on its own data or on another split."
    _add_run(parser)
    return parser.parse_args(argv)


def evaluate(options: "Namespace") -> None:
    r"""Prints the scores of a run's model and of its experts."""
    task, model, config = _open_run(options)
    print(f"{task}\n{model}")
    result = score_model(model, task)
    trained = read_json(Path(options.run) / "result.json")["scores"]
    result["scores"] = {part: result["scores"][part] for part in trained}
    print_scores({}, result, task.metric, config)
    if options.data in (None, config["data"]):
        _warn_of_seen_nodes(task, options, config)


def read_predict(parser: "ArgumentParser", argv: Sequence[str]) -> "Namespace":
    r"""Returns the options of :obj:`mowst predict`."""
    parser.description = (
        "Writes the predictions of the model of a run as CSV: node, label, its probability, the "
        "expert that predicted it, and the confidence in the weak expert."
    )
    _add_run(parser)
    parser.add_argument("--nodes", default="all", help="all, or one split: train, val or test")
    text = "defer nodes with a lower confidence to the strong expert"
    parser.add_argument("--threshold", type=float | None, help=text)
    parser.add_argument("--out", type=str | None, help="file to write, else the terminal")
    return parser.parse_args(argv)


def predict(options: "Namespace") -> None:
    r"""Writes the predictions of a run's model as CSV."""
    task, model, config = _open_run(options)
    known = ("all", *task.splits)
    if options.nodes not in known:
        raise ValueError(f"unknown nodes '{options.nodes}', choose from {', '.join(known)}")
    nodes = torch.arange(task.num_nodes)
    if options.nodes != "all":
        nodes = task.index(options.nodes).cpu()
    table = make_predictions(model, task, nodes, options.threshold, name_experts(config))
    if options.out is None:
        table.to_csv(sys.stdout, index=False)
        return
    with atomic_write(options.out, mode="w") as file:
        table.to_csv(file, index=False)
    print(f"{len(table)} nodes of '{task.name}': {options.out}")


@torch.no_grad()
def make_predictions(
    model: Mowst,
    task: GraphTask,
    nodes: torch.Tensor,
    threshold: float | None,
    names: Mapping[str, str],
) -> "pd.DataFrame":
    r"""Returns the predictions for some nodes. Nodes and classes have their names in the data set,
    if they have names.
    """
    import pandas as pd

    from mowst.serve.predictor import Predictor

    data = task.data
    found = Predictor(model, data, threshold=threshold).predict(nodes)
    with evaluating(model):
        at = nodes.to(data.x.device)
        weak = model.logits("weak", data.x, data.edge_index, data.edge_weight, nodes=at)
        confidence = model.confidence(weak, data.x[at])
    table = pd.DataFrame({"node": nodes.tolist(), "label": found.labels.tolist()})
    for column, key in (("node", "node_ids"), ("label", "class_names")):
        if key in data:
            table[column] = [data[key][number] for number in table[column]]
    table["prob"] = found.prob.max(dim=-1).values.tolist()
    if model.route == "mixture" and threshold is None:
        table["expert"] = "mixture"
    else:
        table["expert"] = [names[EXPERTS[deferred]] for deferred in found.deferred.tolist()]
    table["confidence"] = confidence.tolist()
    return table


def name_experts(config: Mapping[str, Any]) -> dict[str, str]:
    r"""Returns the name of each expert, with its role if both have the same name."""
    names = {role: config[role] for role in EXPERTS}
    if names["weak"] == names["strong"]:
        names = {role: f"{role} {name}" for role, name in names.items()}
    return names


def print_scores(
    rows: Mapping[str, Mapping[str, Any]],
    result: Mapping[str, Any],
    metric: str,
    config: Mapping[str, Any],
) -> None:
    r"""Prints scores in %, some given rows first, then those of a
    :class:`~mowst.train.FitResult`, and the deferred share and expected score.
    """
    import pandas as pd

    names, rows = name_experts(config), dict(rows)
    if "mixture" in result["scores"]:
        for role, name in names.items():
            rows[f"{name} in it"] = result["scores"][role]
    if "mixture" in result["scores"] or not rows:
        rows[f"{config['method']} ({result['route']})"] = result["scores"][result["route"]]
    table = 100 * pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"{metric} in %")
    print(table.to_string(float_format="{:.2f}".format))
    print(f"deferred to {names['strong']}: {100 * result['deferred_share']:.2f} %")
    if result["expected"] is not None:
        print(f"expected test score of sampled routing: {100 * result['expected']:.2f}")


def write_classes(run_dir: RunDir, task: GraphTask) -> None:
    r"""Writes the names of a task's classes, if they have names: a folder numbers them in
    alphabetical order, and another folder may number them in another way.
    """
    names = task.data.get("class_names")
    if names:
        write_json(run_dir.path / CLASSES, names)


def _add_run(parser: "ArgumentParser") -> None:
    parser.add_argument("run", help="folder that 'mowst train' wrote")
    parser.add_argument("--data", type=str | None, help="another data set than that of the run")
    parser.add_argument("--split", type=int | str | None, help="another split than that of the run")
    parser.add_argument("--trust", action="store_true", help="follow import paths of the run")
    add_places(parser)


def _open_run(options: "Namespace") -> tuple[GraphTask, Mowst, dict[str, Any]]:
    device, run_dir = choose_device(options.device), RunDir.open(options.run)
    config = run_dir.config
    missing = [key for key in ("data", "split", "method", *EXPERTS) if key not in config]
    if missing:
        raise ValueError(
            f"'{options.run}' was not written by 'mowst train': its config.yaml lacks "
            f"{', '.join(missing)}"
        )
    data = options.data or config["data"]
    split = config["split"] if options.split is None else options.split
    task = load_run_task(data, split, config, options.root or config.get("root"))
    task = _renumber_classes(task, run_dir)
    model = Mowst.load(run_dir.model_path, trust=options.trust)
    return _fit_classes(task, model).to(device), model.to(device), config


def _renumber_classes(task: GraphTask, run_dir: RunDir) -> GraphTask:
    # Numbers and names of classes as the run has them, without names if the run has none.
    path, data = run_dir.path / CLASSES, copy(task.data)
    names = data.pop("class_names", None)
    if not path.is_file():
        return replace(task, data=data)
    known = read_json(path)
    if names is None or set(names) - set(known):
        found = "are numbers" if names is None else f"are {', '.join(names)}"
        raise ValueError(
            f"the classes of the model in '{run_dir.path}' are {', '.join(known)}, those of "
            f"'{task.name}' {found}"
        )
    data.class_names = known
    numbers = [known.index(name) for name in names]
    data.y = torch.tensor([*numbers, -1])[data.y]  # -1 is the last entry: nodes without a label
    return replace(task, data=data, num_classes=len(known))


def _fit_classes(task: GraphTask, model: Mowst) -> GraphTask:
    # The classes of the model, of which the graph may have fewer. Experts of other packages may
    # not have the sizes as attributes.
    features, classes = task.num_features, task.num_classes
    for expert in (model.strong, model.weak):
        features = getattr(expert, "in_channels", features)
        classes = getattr(expert, "out_channels", classes)
    if task.num_features != features or task.num_classes > classes:
        raise ValueError(
            f"the model of this run has {features} features and {classes} classes, '{task.name}' "
            f"has {task.num_features} and {task.num_classes}"
        )
    return replace(task, num_classes=classes)


def _warn_of_seen_nodes(task: GraphTask, options: "Namespace", config: Mapping[str, Any]) -> None:
    if task.split == config["split"] or "test" not in task.splits:
        return
    root = options.root or config.get("root")
    own = load_run_task(config["data"], config["split"], config, root).masks
    seen = int((task.masks["test"].cpu() & (own["train"] | own["val"])).sum())
    if seen:
        count = task.index("test").numel()
        print(
            f"mowst: {seen} of the {count} test nodes of split {task.split} trained or selected "
            f"this model, on split {config['split']}",
            file=sys.stderr,
        )
