r""":obj:`mowst evaluate`."""

import sys
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from mowst.cli.runs import (
    CLASSES,
    add_run,
    check_num_features,
    load_task,
    name_experts,
    open_run,
    order_features,
    read_names,
)
from mowst.nn.mowst import Mowst
from mowst.study.run import load_run_task
from mowst.task import GraphTask
from mowst.train.evaluate import score_model
from mowst.train.run_dir import RunDir

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def read_evaluate(parser: "ArgumentParser", argv: Sequence[str]) -> "Namespace":
    r"""Returns the options of :obj:`mowst evaluate`."""
    parser.description = "Scores the model of a run, on its own data or on another split."
    add_run(parser)
    return parser.parse_args(argv)


def evaluate(options: "Namespace") -> None:
    r"""Prints the scores of a run's model and of its experts."""
    run_dir, model, device = open_run(options)
    config, trained = run_dir.config, run_dir.read_result()["scores"]
    task = _renumber_classes(load_task(options, config), run_dir)
    task = replace(task, data=order_features(task.data, run_dir, task.name))
    task = _fit_classes(task, model).to(device)
    print(f"{task}\n{model}")
    result = score_model(model, task)
    if "mixture" not in trained:
        result["scores"] = {result["route"]: result["scores"][result["route"]]}
    print_scores({}, result, str(task.metric), config)
    if options.data in (None, config["data"]):
        _warn_of_seen_nodes(task, options, config)


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
            rows[f"{name} in {config['method']}"] = result["scores"][role]
    if "mixture" in result["scores"] or not rows:
        rows[f"{config['method']} ({result['route']})"] = result["scores"][result["route"]]
    table = 100 * pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"{metric} in %")
    print(table.to_string(float_format="{:.2f}".format))
    nodes = "test" if "test" in table else "val"
    print(f"deferred to {names['strong']}: {100 * result['deferred_share']:.2f} % of {nodes} nodes")
    if result["expected"] is not None:
        print(f"expected test {metric} of sampled routing: {100 * result['expected']:.2f} %")


def _renumber_classes(task: GraphTask, run_dir: RunDir) -> GraphTask:
    # Numbers and names of classes as the run has them, without names if the run has none.
    known, data = read_names(run_dir, CLASSES), copy(task.data)
    names = data.pop("class_names", None)
    if known is None:
        return replace(task, data=data)
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
    # not have the number as an attribute.
    check_num_features(model, task.data, task.name)
    classes = task.num_classes
    for expert in (model.strong, model.weak):
        classes = getattr(expert, "out_channels", classes)
    if task.num_classes > classes:
        raise ValueError(
            f"the model of this run has {classes} classes, '{task.name}' has {task.num_classes}"
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
