r""":obj:`mowst train`."""

import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch_geometric import seed_everything

from mowst.cli.places import add_places, choose_device, refuse_import_paths
from mowst.cli.runs import name_experts, print_scores, write_names
from mowst.data.transforms import TRANSFORMS
from mowst.io import read_yaml
from mowst.metrics import METRICS
from mowst.nn.build import ModelConfig
from mowst.presets import PRESETS, load_preset
from mowst.study.run import build_run_model, load_run_task
from mowst.study.run_spec import RunSpec
from mowst.study.values import SETTINGS, TYPES, check_known, parse_value
from mowst.train.callbacks import Callback
from mowst.train.config import OVERRIDES, TrainConfig
from mowst.train.distributed import is_first, join_processes, run_in_first
from mowst.train.evaluate import FitResult
from mowst.train.fit import fit
from mowst.train.loggers import CSV, MLflow, TensorBoard, WandB
from mowst.train.methods import METHODS
from mowst.train.run_dir import RunDir

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

DATA = "digits"
OVERRIDE_TITLES = {
    "weak": "the weak expert",
    "strong": "the strong expert",
    "pretraining": "pretraining",
}
LOGGERS: dict[str, Callable[[RunDir], Callback]] = {
    "csv": lambda run: CSV(run.path / "log.csv"),
    "tensorboard": lambda run: TensorBoard(run.path / "tensorboard"),
    "wandb": lambda run: WandB(project="mowst", name=run.path.name, config=run.config),
    "mlflow": lambda run: MLflow(run_name=run.path.name),
}
# What a file may have besides settings.
PLACES: dict[str, Any] = {
    **dict.fromkeys(("data", "preset", "strong", "method"), str),
    **{"split": int | str, "seed": int, "root": str | None, "device": str | None},
}


def read_train(parser: "ArgumentParser", argv: Sequence[str]) -> dict[str, Any]:
    r"""Returns the options of :obj:`mowst train`: those of the command line, before those of the
    file, of the resumed run, and of the preset.
    """
    _add_options(parser)
    # The command line without defaults, which would replace the settings of files.
    typed = parser.parse_args(argv, defaults=False).as_dict()
    typed = {key.replace("__", "."): value for key, value in typed.items()}
    if typed["data"] is None:
        del typed["data"]
    files: dict[str, Any] = {}
    if typed.get("resume"):
        path = Path(typed["resume"], "config.yaml")
        if not path.is_file():
            folder = typed["resume"]
            raise FileNotFoundError(f"'{folder}' is not the folder of a run: it has no config.yaml")
        files.update(_read_settings(path))
    if typed.get("config"):
        files.update(_read_settings(Path(typed["config"])))
    files = {key: value for key, value in files.items() if key not in typed}
    refuse_import_paths(files, typed.get("trust", False))
    defaults = parser.get_defaults().as_dict()
    defaults = {key: value for key, value in defaults.items() if "__" not in key}
    chosen = {**defaults, "data": DATA, **files, **typed}
    preset = load_preset(chosen["data"], chosen["preset"], chosen["strong"])
    return {**chosen, **preset, **files, **typed}


def train(options: Mapping[str, Any]) -> None:
    r"""Trains a model, in each process of a group if there is one."""
    device = choose_device(options["device"])
    with join_processes(device):
        _train(options, device)


def _train(options: Mapping[str, Any], device: str) -> None:
    settings = {key: options[key] for key in SETTINGS if key in options}
    place = {key: options[key] for key in ("data", "strong", "method", "seed", "split")}
    spec = RunSpec(**place, settings=settings)
    seed_everything(spec.seed)
    task = load_run_task(spec.data, spec.split, settings, options["root"])
    model = build_run_model(spec, task)
    config = {key: options[key] for key in PLACES} | spec.all_settings
    run_dir = RunDir(run_in_first(lambda: _choose_folder(options)), config)
    if is_first():
        print(task.report() if Path(spec.data).is_dir() else task, model, sep="\n")
    callbacks: list[Callback] = []
    if options["log"] and is_first():
        callbacks.append(LOGGERS[options["log"]](run_dir))
    signal.signal(signal.SIGTERM, run_dir.stop)
    result = fit(
        model,
        task,
        spec.method,
        spec.train_config,
        device=device,
        run_dir=run_dir,
        resume=options["resume"] is not None,
        callbacks=callbacks,
    )
    if is_first():
        write_names(run_dir, task)
        _print_result(result, task.metric, config)
        seconds, count = result.seconds, len(result.history)
        print(f"{seconds:.1f} s, {count} evaluations; run folder: {run_dir.path}")


def _print_result(result: FitResult, metric: str, config: Mapping[str, Any]) -> None:
    names = name_experts(config)
    rows: dict[str, Mapping[str, Any]] = {}
    for expert, scores in result.alone.items():
        rows[f"{names[expert]} alone"] = scores
    print_scores(rows, vars(result), metric, config)


def _add_options(parser: "ArgumentParser") -> None:
    parser.description = "Trains an MLP and a GNN, and the gate that decides between them."
    add = parser.add_argument
    add("--config", type=str | None, help="YAML file with any of the settings below")
    add("data", nargs="?", type=str | None, help="data set, see 'mowst datasets', or folder")
    add("--preset", default="default", help=f"settings to start from: {', '.join(PRESETS)}")
    add("--transforms", type=list[str], default=[], help=f"any of {', '.join(TRANSFORMS)}")
    methods = ", ".join(METHODS.names())
    add("--method", default="mowst", help=f"{methods}, or the import path of a method")
    add("--split", type=int | str, default=0, help="number of the split, or 'random-SEED'")
    metrics = ", ".join(METRICS)
    add("--metric", type=str | None, help=f"{metrics} (default: that of the data set)")
    text = "'balanced', or one weight for each class"
    add("--class_weight", type=str | list[float] | None, help=text)
    add("--inductive", type=bool, default=False, help="hide test nodes and their edges in training")
    add("--seed", type=int, default=0, help="seed of parameters and training")
    add_places(parser)
    add("--resume", type=str | None, help="folder of a killed or stopped run to continue")
    add("--trust", action="store_true", help="follow import paths that a file names")
    add("--run_dir", type=str | None, help="folder to write (default: a new one in runs/)")
    text = "write the scores of each epoch for this tool"
    add("--log", type=Literal[*LOGGERS] | None, help=text)
    parser.add_class_arguments(ModelConfig, None, as_group=True)
    parser.add_class_arguments(TrainConfig, None, as_group=True, skip=set(OVERRIDE_TITLES))
    for scope, title in OVERRIDE_TITLES.items():
        group = parser.add_argument_group(f"Settings of {title} instead of those above")
        for name in OVERRIDES:
            outer, _, setting = name.partition(".")
            if outer == scope:
                # jsonargparse takes a dot in the name of an option for an entry of another one.
                names: Any = {"dest": name.replace(".", "__"), "metavar": setting.upper()}
                group.add_argument(f"--{name}", type=TYPES[name], **names)


def _read_settings(path: Path) -> dict[str, Any]:
    types = {**TYPES, **PLACES}
    settings = read_yaml(path)
    check_known(settings, [*PLACES, *SETTINGS], "setting")
    return {key: parse_value(key, value, types[key]) for key, value in settings.items()}


def _choose_folder(options: Mapping[str, Any]) -> str:
    if options["resume"] or options["run_dir"]:
        return options["resume"] or options["run_dir"]
    strong, method = (options[key].rpartition(".")[2].lower() for key in ("strong", "method"))
    data, split, seed = Path(options["data"]).resolve().name, options["split"], options["seed"]
    stem = f"{data}-{strong}-{method}-split{split}-seed{seed}"
    path, number = Path("runs", stem), 1
    while path.exists():
        number += 1
        path = Path("runs", f"{stem}-{number}")
    return str(path)
