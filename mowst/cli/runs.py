r"""The folder of a finished run, on which :obj:`mowst evaluate` and :obj:`mowst predict` work."""

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from torch_geometric.data import Data

from mowst.cli.places import add_places, choose_device
from mowst.io import read_json
from mowst.nn.mowst import EXPERTS, Mowst
from mowst.study.run import load_run_task
from mowst.study.values import TASK_TYPES, parse_value
from mowst.task import GraphTask
from mowst.train.run_dir import RunDir

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

CONFIG_TYPES: dict[str, Any] = {  # what a run needs to be evaluated
    **dict.fromkeys(("data", "method", *EXPERTS), str),
    **{"split": int | str, "root": str | None},
    **TASK_TYPES,
}
CLASSES, FEATURES = "classes.json", "features.json"  # files of a run that hold names


def add_run(parser: "ArgumentParser") -> None:
    r"""Adds the options of a command on a run."""
    parser.add_argument("run", help="Folder that 'mowst train' wrote.")
    parser.add_argument("--data", type=str | None, help="Another data set than that of the run.")
    parser.add_argument(
        "--split", type=int | str | None, help="Another split than that of the run."
    )
    parser.add_argument("--trust", action="store_true", help="Follow import paths of the run.")
    add_places(parser)


def open_run(options: "Namespace") -> tuple[RunDir, Mowst, str]:
    r"""Returns the folder, the model and the device of a run."""
    device, run_dir = choose_device(options.device), RunDir.open(options.run)
    with run_dir.explain_version():
        _check_config(run_dir)
        model = Mowst.load(run_dir.model_path, trust=options.trust)
    return run_dir, model.to(device), device


def load_task(options: "Namespace", config: Mapping[str, Any]) -> GraphTask:
    r"""Loads the task of a run, or another one that the options name."""
    name, root = options.data or config["data"], options.root or config.get("root")
    split = config["split"] if options.split is None else options.split
    return load_run_task(name, split, config, root)


def name_experts(config: Mapping[str, Any]) -> dict[str, str]:
    r"""Returns the name of each expert, with its role if both have the same name."""
    names = {role: config[role] for role in EXPERTS}
    if names["weak"] == names["strong"]:
        names = {role: f"{role} {name}" for role, name in names.items()}
    return names


def list_names(task: GraphTask) -> dict[str, list[str]]:
    r"""Returns the names of a task's classes and features, if they have names, by the files of a
    run that hold them: another folder may have them in another order.
    """
    found = {CLASSES: task.data.get("class_names"), FEATURES: task.data.get("feature_names")}
    return {file: names for file, names in found.items() if names}


def read_names(run_dir: RunDir, file: str) -> list[str] | None:
    r"""Returns the names that a file of a run holds, or :obj:`None` without it."""
    path = run_dir.path / file
    if not path.is_file():
        return None
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} must hold a list of names")
    return names


def order_features(data: Data, run_dir: RunDir, name: str) -> Data:
    r"""Returns a graph with its columns in the order of the run. Columns without names are taken as
    they come.
    """
    known, names = read_names(run_dir, FEATURES), data.get("feature_names")
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


def check_num_features(model: Mowst, data: Data, name: str) -> None:
    r"""Raises an error if the model was trained on another number of features."""
    # Experts of other packages may not have the size as an attribute.
    for expert in (model.strong, model.weak):
        features = getattr(expert, "in_channels", data.x.size(1))
        if features != data.x.size(1):
            raise ValueError(
                f"the model of this run has {features} features, '{name}' has {data.x.size(1)}"
            )


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
