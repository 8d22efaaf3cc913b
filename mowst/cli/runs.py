r""":obj:`mowst evaluate` and :obj:`mowst predict`: the model of a finished run."""

import sys
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch_geometric.data import Data

from mowst.cli.places import add_places, choose_device
from mowst.data import load_graph
from mowst.io import atomic_write, read_json
from mowst.nn.mowst import EXPERTS, Mowst
from mowst.study.run import load_run_task
from mowst.study.values import TASK_TYPES, parse_value
from mowst.task import SPLITS, GraphTask
from mowst.train.evaluate import score_model
from mowst.train.run_dir import RunDir

if TYPE_CHECKING:
    import pandas as pd
    from jsonargparse import ArgumentParser, Namespace

CONFIG_TYPES: dict[str, Any] = {  # what a run needs to be evaluated
    **dict.fromkeys(("data", "method", *EXPERTS), str),
    **{"split": int | str, "root": str | None},
    **TASK_TYPES,
}
CLASSES, FEATURES = "classes.json", "features.json"  # files of a run that hold names
FORMATS = (".csv", ".csv.gz", ".parquet")


def read_evaluate(parser: "ArgumentParser", argv: Sequence[str]) -> "Namespace":
    r"""Returns the options of :obj:`mowst evaluate`."""
    parser.description = "Scores the model of a run, on its own data or on another split."
    _add_run(parser)
    return parser.parse_args(argv)


def evaluate(options: "Namespace") -> None:
    r"""Prints the scores of a run's model and of its experts."""
    run_dir, model, device = _open_run(options)
    config, trained = run_dir.config, run_dir.read_result()["scores"]
    task = _renumber_classes(_load_task(options, config), run_dir)
    task = replace(task, data=_order_features(task.data, run_dir, task.name))
    task = _fit_classes(task, model).to(device)
    print(f"{task}\n{model}")
    result = score_model(model, task)
    if "mixture" not in trained:
        result["scores"] = {result["route"]: result["scores"][result["route"]]}
    print_scores({}, result, str(task.metric), config)
    if options.data in (None, config["data"]):
        _warn_of_seen_nodes(task, options, config)


def read_predict(parser: "ArgumentParser", argv: Sequence[str]) -> "Namespace":
    r"""Returns the options of :obj:`mowst predict`."""
    parser.description = (
        "Writes the predictions of the model of a run: node, label, the expert that predicted it, "
        "the confidence in the weak expert, and the probability of each class. The graph needs no "
        "labels."
    )
    _add_run(parser)
    nodes = ("all", *SPLITS)
    parser.add_argument("--nodes", choices=nodes, default="all", help="All, or those of one split.")
    text = "Defer nodes with a lower confidence to the strong expert."
    parser.add_argument("--threshold", type=float | None, help=text)
    text = f"File to write ({', '.join(FORMATS)}) (default: CSV to the terminal)."
    parser.add_argument("--output", type=str | None, help=text)
    return parser.parse_args(argv)


def predict(options: "Namespace") -> None:
    r"""Writes the predictions of a run's model as a table."""
    if options.output is not None:
        _check_output(options.output)
    run_dir, model, device = _open_run(options)
    name = options.data or run_dir.config["data"]
    data, nodes = _load_nodes(options, run_dir.config)
    data = _order_features(data, run_dir, name)
    _check_num_features(model, data, name)
    table = make_predictions(
        model,
        data.to(device),
        nodes,
        options.threshold,
        names=name_experts(run_dir.config),
        classes=_read_names(run_dir, CLASSES),
    )
    if options.output is None:
        table.to_csv(sys.stdout, index=False)
        return
    write_table(table, options.output)
    print(f"{len(table)} nodes of '{name}': {options.output}")


def make_predictions(
    model: Mowst,
    data: Data,
    nodes: torch.Tensor,
    threshold: float | None,
    names: Mapping[str, str],
    classes: Sequence[str] | None = None,
) -> "pd.DataFrame":
    r"""Returns the predictions for some nodes of a graph, given the names of the experts, and of
    the classes if they have names. Nodes have their names in the graph, if they have names.
    """
    import pandas as pd

    from mowst.serve.predictor import Predictor

    if model.multilabel:
        raise ValueError("a table has one label per node: use model.predict_proba(data) in Python")
    found = Predictor(model, data, threshold=threshold).predict(nodes)
    if classes is None:
        classes = [str(number) for number in range(found.prob.size(1))]
        labels = found.labels.tolist()
    else:
        if len(classes) != found.prob.size(1):
            raise ValueError(
                f"the model has {found.prob.size(1)} classes, but {len(classes)} names of classes "
                f"({CLASSES}): {', '.join(classes)}"
            )
        labels = [classes[number] for number in found.labels.tolist()]
    table = pd.DataFrame({"node": nodes.tolist(), "label": labels})
    if "node_ids" in data:
        table["node"] = [data.node_ids[number] for number in nodes.tolist()]
    if model.route == "mixture" and threshold is None:
        table["expert"] = "mixture"
    else:
        table["expert"] = [names[EXPERTS[deferred]] for deferred in found.deferred.tolist()]
    table["confidence"] = found.confidence.cpu().numpy()
    columns = [f"prob_{name}" for name in classes]
    return table.join(pd.DataFrame(found.prob.cpu().numpy(), columns=columns))


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
            rows[f"{name} in {config['method']}"] = result["scores"][role]
    if "mixture" in result["scores"] or not rows:
        rows[f"{config['method']} ({result['route']})"] = result["scores"][result["route"]]
    table = 100 * pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"{metric} in %")
    print(table.to_string(float_format="{:.2f}".format))
    nodes = "test" if "test" in table else "val"
    print(f"deferred to {names['strong']}: {100 * result['deferred_share']:.2f} % of {nodes} nodes")
    if result["expected"] is not None:
        print(f"expected test {metric} of sampled routing: {100 * result['expected']:.2f} %")


def list_names(task: GraphTask) -> dict[str, list[str]]:
    r"""Returns the names of a task's classes and features, if they have names, by the files of a
    run that hold them: another folder may have them in another order.
    """
    found = {CLASSES: task.data.get("class_names"), FEATURES: task.data.get("feature_names")}
    return {file: names for file, names in found.items() if names}


def _add_run(parser: "ArgumentParser") -> None:
    parser.add_argument("run", help="Folder that 'mowst train' wrote.")
    parser.add_argument("--data", type=str | None, help="Another data set than that of the run.")
    parser.add_argument(
        "--split", type=int | str | None, help="Another split than that of the run."
    )
    parser.add_argument("--trust", action="store_true", help="Follow import paths of the run.")
    add_places(parser)


def _open_run(options: "Namespace") -> tuple[RunDir, Mowst, str]:
    device, run_dir = choose_device(options.device), RunDir.open(options.run)
    with run_dir.explain_version():
        _check_config(run_dir)
        model = Mowst.load(run_dir.model_path, trust=options.trust)
    return run_dir, model.to(device), device


def _check_config(run_dir: RunDir) -> None:
    config = run_dir.config
    missing = [key for key in CONFIG_TYPES if key not in config]
    if missing:
        raise ValueError(
            f"'{run_dir.path}' was not written by 'mowst train', or its config.yaml is incomplete: "
            f"it lacks {', '.join(missing)}"
        )
    for key, wanted in CONFIG_TYPES.items():
        try:
            config[key] = parse_value(key, config[key], wanted)
        except ValueError as error:
            raise ValueError(f"{run_dir.path / 'config.yaml'}: {error}") from error


def _load_task(options: "Namespace", config: Mapping[str, Any]) -> GraphTask:
    name, root = options.data or config["data"], options.root or config.get("root")
    split = config["split"] if options.split is None else options.split
    return load_run_task(name, split, config, root)


def _load_nodes(options: "Namespace", config: Mapping[str, Any]) -> tuple[Data, torch.Tensor]:
    # The graph, and the nodes to predict. Only a split needs labels.
    if options.nodes != "all":
        task = _load_task(options, config)
        return task.data, task.index(options.nodes)
    name, root = options.data or config["data"], options.root or config.get("root")
    data = load_graph(name, root, config.get("transforms", ()))
    return data, torch.arange(data.x.size(0))


def _read_names(run_dir: RunDir, file: str) -> list[str] | None:
    path = run_dir.path / file
    if not path.is_file():
        return None
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} must hold a list of names")
    return names


def _order_features(data: Data, run_dir: RunDir, name: str) -> Data:
    # The columns in the order of the run. Columns without names are taken as they come.
    known, names = _read_names(run_dir, FEATURES), data.get("feature_names")
    if known is None or names is None or names == known:
        return data
    if set(names) != set(known):
        lacking = ", ".join(sorted(set(known) - set(names))) or "none"
        unknown = ", ".join(sorted(set(names) - set(known))) or "none"
        raise ValueError(
            f"the features of '{name}' are not those of the model in '{run_dir.path}': "
            f"missing: {lacking}; unknown: {unknown}"
        )
    data = copy(data)
    data.x = data.x[:, [names.index(column) for column in known]]
    data.feature_names = known
    return data


def _check_num_features(model: Mowst, data: Data, name: str) -> None:
    # Experts of other packages may not have the size as an attribute.
    for expert in (model.strong, model.weak):
        features = getattr(expert, "in_channels", data.x.size(1))
        if features != data.x.size(1):
            raise ValueError(
                f"the model of this run has {features} features, '{name}' has {data.x.size(1)}"
            )


def _check_output(path: str) -> None:
    if not path.endswith(FORMATS):
        raise ValueError(f"the output '{path}' must end in {', '.join(FORMATS)}")
    if path.endswith(".parquet"):
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            hint = "'pip install pyarrow', or write it as .csv"
            raise ImportError(f"'{path}' needs pyarrow: {hint}") from None


def write_table(table: "pd.DataFrame", path: str) -> None:
    r"""Writes a table in the format that the name of the file ends in, atomically."""
    with atomic_write(path) as file:
        if path.endswith(".parquet"):
            table.to_parquet(file, engine="pyarrow", index=False)
        else:
            compression: Any = "gzip" if path.endswith(".gz") else None
            table.to_csv(file, index=False, compression=compression)


def _renumber_classes(task: GraphTask, run_dir: RunDir) -> GraphTask:
    # Numbers and names of classes as the run has them, without names if the run has none.
    known, data = _read_names(run_dir, CLASSES), copy(task.data)
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
    _check_num_features(model, task.data, task.name)
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
