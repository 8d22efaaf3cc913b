r"""The options of :obj:`mowst train`, in groups."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from mowst.cli.help import format_table
from mowst.cli.places import add_places
from mowst.data import DATASETS
from mowst.data.transforms import TRANSFORMS
from mowst.metrics import METRICS
from mowst.nn.build import ModelConfig
from mowst.nn.registry import EXPERTS, GATES
from mowst.presets import PRESETS
from mowst.study.values import MODEL_TYPES, TYPES
from mowst.train.config import OVERRIDES, SETTINGS, Overrides, TrainConfig
from mowst.train.loggers import CSV, MLflow, TensorBoard, WandB
from mowst.train.methods import METHODS

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from mowst.train.callbacks import Callback
    from mowst.train.run_dir import RunDir

LOGGERS: dict[str, Callable[["RunDir"], "Callback"]] = {
    "csv": lambda run: CSV(run.path / "log.csv"),
    "tensorboard": lambda run: TensorBoard(run.path / "tensorboard"),
    "wandb": lambda run: WandB(project="mowst", name=run.path.name, config=run.config),
    "mlflow": lambda run: MLflow(run_name=run.path.name),
}

# The options of each group: fields of ModelConfig or TrainConfig, overrides, or keys of OPTIONS.
GROUPS: dict[str, tuple[str, ...]] = {
    "most used": (
        *("strong", "gate", "hidden_channels", "lr", "epochs"),
        *("method", "preset", "split", "seed", "config"),
    ),
    "run": ("run_dir", "resume", "log", "trust", "root", "device"),
    "task": ("transforms", "metric", "class_weight", "inductive"),
    "model": (
        *("weak", "num_layers", "dropout", "gate_features", "mix", "detach_dispersion"),
        *("weak_args", "strong_args", "gate_args"),
    ),
    "training": (
        *("weight_decay", "optimizer", "patience", "rounds", "round_patience"),
        *("pretrain", "select", "eval_every", "gate_fit", "gate_folds"),
    ),
    "batches": (
        *("batches", "num_parts", "batch_size", "num_neighbors", "batches_per_step"),
        *("precision", "checkpoint_activations"),
    ),
    "overrides": tuple(OVERRIDES),
}
MOST_USED = "most used"
TITLES = {
    "run": "folders, device and logging",
    "task": "data and metric",
    "batches": "mini-batches, memory and precision",
    "overrides": "settings of one expert, or of pretraining, that replace those above",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "method": {
        "default": "mowst",
        "help": "Method: mowst (alternating), mowst-star (joint), weak or strong (one expert "
        "alone), or the import path of a method.",
    },
    "preset": {
        "default": "default",
        "help": f"Settings to start from: {', '.join(PRESETS)}.",
    },
    "split": {
        "type": int | str,
        "default": 0,
        "help": "Number of the split, or 'random-SEED'.",
    },
    "seed": {"type": int, "default": 0, "help": "Seed of parameters and training."},
    "config": {
        "type": str | None,
        "metavar": "FILE",
        "help": "YAML file of settings, such as the output of 'mowst best'. Typed options take "
        "precedence.",
    },
    "run_dir": {
        "type": str | None,
        "metavar": "FOLDER",
        "help": "Folder to write (default: a new one in runs/).",
    },
    "resume": {
        "type": str | None,
        "metavar": "FOLDER",
        "help": "Folder of a killed or stopped run to continue.",
    },
    "log": {
        "type": Literal[*LOGGERS] | None,
        "metavar": f"{{{','.join(LOGGERS)}}}",
        "help": "Tool to write the scores of each epoch for.",
    },
    "trust": {"action": "store_true", "help": "Follow import paths that a file names."},
    "transforms": {
        "type": list[str],
        "default": [],
        "help": f"Any of {', '.join(TRANSFORMS)}, as a list: '[undirected]'.",
    },
    "metric": {
        "type": str | None,
        "help": f"Metric: {', '.join(METRICS)} (default: that of the data set).",
    },
    "class_weight": {
        "type": str | list[float] | None,
        "help": "'balanced', or one weight for each class.",
    },
    "inductive": {
        "type": bool,
        "default": False,
        "help": "Hide test nodes and their edges in training.",
    },
}
EXAMPLES = """
examples:
  mowst train cora --strong sage --method mowst-star
  mowst train my_folder --split random-0 --lr 0.003 --weak.lr 0.03
  mowst train cora --config best.yaml --seed 1 --run_dir runs/best
"""


def add_options(parser: "ArgumentParser", only_most_used: bool = False) -> None:
    r"""Adds the options of :obj:`mowst train`, or only the most used ones, with a help that lists
    the others by name.
    """
    parser.usage = "mowst train [data] [options]"
    parser.description = "Trains an MLP and a GNN, and the gate that decides between them."
    parser.add_argument("--help_all", action="help", help="Explain all options and exit")
    text = "Name of a data set, or folder of tables (default: digits)."
    parser.add_argument("data", nargs="?", type=str | None, help=text)
    for title, names in GROUPS.items():
        if title == MOST_USED or not only_most_used:
            _add_group(parser, TITLES.get(title, title), names)
    tables = [_format_names(), EXAMPLES.strip()]
    if only_most_used:
        others = {}
        for title, names in GROUPS.items():
            if title not in (MOST_USED, "overrides"):
                others[title] = " ".join(f"--{name}" for name in names)
        others["overrides"] = "--weak.X --strong.X --pretraining.X where X is any of "
        others["overrides"] += ", ".join(entry.name for entry in fields(Overrides))
        tables.insert(0, format_table("further options, explained by --help_all", others))
    parser.epilog = "\n\n".join(tables)


def _add_group(parser: "ArgumentParser", title: str, names: Sequence[str]) -> None:
    group: Any = parser.add_argument_group(title)
    for config, settings in ((ModelConfig, MODEL_TYPES), (TrainConfig, SETTINGS)):
        wanted = set(settings) & set(names)
        if wanted:
            others = {entry.name for entry in fields(config)} - wanted
            group.add_class_arguments(config, None, as_group=False, skip=others)
    for name in names:
        if name in OPTIONS:
            group.add_argument(f"--{name}", **OPTIONS[name])
        elif name == "root":
            add_places(group)
        elif name in OVERRIDES:
            # jsonargparse takes a dot in the name of an option for an entry of another one.
            setting = name.partition(".")[2]
            keys: Any = {"dest": name.replace(".", "__"), "metavar": setting.upper()}
            group.add_argument(f"--{name}", type=TYPES[name], **keys)


def _format_names() -> str:
    rows = {"data sets": list(DATASETS), "experts": EXPERTS.names(), "gates": GATES.names()}
    rows |= {"methods": METHODS.names(), "presets": list(PRESETS)}
    return format_table("names", {kind: ", ".join(names) for kind, names in rows.items()})
