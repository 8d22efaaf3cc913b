r""":obj:`mowst train`."""

import argparse
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

import mowst
from mowst.cli.classes import write_classes
from mowst.cli.places import add_places, device_of, load
from mowst.cli.scores import names_of, print_scores
from mowst.cli.trust import refuse_import_paths
from mowst.data.transforms import TRANSFORMS
from mowst.metrics import METRICS
from mowst.nn.build import ModelConfig, build_model
from mowst.nn.cascade import Cascade
from mowst.presets import PRESETS, preset
from mowst.task import GraphTask
from mowst.train import METHODS, FitResult, ProgressBar, RunFolder, TrainConfig, fit
from mowst.train.distributed import from_first, is_first, joined

DATA = "digits"
NOT_SETTINGS = ("config", "run_dir", "resume", "trust")


def parser() -> ArgumentParser:
    r"""The options of :obj:`mowst train`."""
    train = ArgumentParser(description="Trains an MLP and a GNN, and the confidence that decides between them.")
    train.add_argument("--config", action=ActionConfigFile, help="YAML file with any of the settings below")
    # The default of a positional argument would replace what a file says.
    told = f"a data set, see 'mowst datasets', or a folder (default: {DATA})"
    train.add_argument("data", nargs="?", default=argparse.SUPPRESS, help=told)
    train.add_argument("--preset", default="default", help=f"settings to start from, one of {', '.join(PRESETS)}")
    train.add_argument("--transforms", type=list[str], default=[], help=f"of {', '.join(TRANSFORMS)}")
    train.add_argument("--method", default="mowst", help=f"one of {', '.join(METHODS)}")
    train.add_argument("--split", type=int | str, default=0, help="which split, or 'random-SEED'")
    train.add_argument("--metric", type=str | None, help=f"one of {', '.join(METRICS)}, else the data set's own")
    train.add_argument("--class_weight", type=str | list[float] | None, help="'balanced', or one weight for each class")
    train.add_argument("--inductive", type=bool, default=False, help="hide test nodes and their edges from training")
    train.add_argument("--seed", type=int, default=0, help="seed of parameters and training")
    add_places(train)
    train.add_argument("--resume", type=str | None, help="folder of a killed or stopped run: go on with it")
    train.add_argument("--trust", action="store_true", help="follow import paths although a file holds settings")
    train.add_argument("--run_dir", type=str | None, help="folder to write, by default a new one under runs/")
    train.add_class_arguments(ModelConfig, None, as_group=True)
    train.add_class_arguments(TrainConfig, None, as_group=True)
    return train


def with_presets(argv: Sequence[str], read: Callable[..., Namespace]) -> Namespace:
    r"""The options of a training command: what is typed, over files, over the run to resume, over the preset."""
    if run := read(argv).train.resume:
        argv = _with_settings_of(run, argv)
    train = read(argv).train
    options = read(argv, preset(train.data, name=train.preset, strong=train.strong))
    if options.train.config:
        refuse_import_paths(options.train, options.train.trust)
    return options


def run(options: Namespace) -> None:
    r"""Trains a model, in each process of a group if there is one."""
    with joined(device_of(options)):
        _run(options)


def _run(options: Namespace) -> None:
    mowst.seed_everything(options.seed)
    task = load(options.data, options.root, options.split, options.as_dict())
    model = build_model(
        _filled(ModelConfig, options),
        in_channels=task.num_features,
        out_channels=task.num_classes,
        num_nodes=task.num_nodes,
    )
    config = {key: value for key, value in options.as_dict().items() if key not in NOT_SETTINGS}
    folder = RunFolder(from_first(lambda: options.resume or options.run_dir or str(_new_run(options))), config)
    if is_first():
        print(task.report() if Path(options.data).is_dir() else task, model, sep="\n")
    signal.signal(signal.SIGTERM, folder.stop)
    result = fit(
        model,
        task,
        method=options.method,
        device=device_of(options),
        run_dir=folder,
        resume=options.resume is not None,
        callbacks=[ProgressBar(disable=None)] if is_first() else [],
        **asdict(_filled(TrainConfig, options)),
    )
    if is_first():
        write_classes(folder, task)
        _print_result(result, model, task, options)
        print(f"{result.seconds:.1f} s, {len(result.history)} evaluations; run folder: {folder.path}")


def _print_result(result: FitResult, model: Cascade, task: GraphTask, options: Namespace) -> None:
    names = names_of(model, options)
    rows = {f"{names[expert]} alone": scores for expert, scores in result.alone.items()}
    if options.method.startswith("mowst"):
        rows |= {f"{names[part]} in it": scores for part, scores in result.scores.items() if part in names}
        rows[f"{options.method} ({result.route})"] = asdict(result)
    print_scores(rows, task.metric, {names[expert]: share for expert, share in result.shares.items()}, result.expected)


def _with_settings_of(run: str, argv: Sequence[str]) -> list[str]:
    # First, so that what is typed beside --resume counts, and is refused where it differs.
    if not (settings := Path(run) / "config.yaml").is_file():
        raise FileNotFoundError(f"'{run}' is not the folder of a run: no config.yaml in it")
    at = argv.index("train") + 1
    return [*argv[:at], "--config", str(settings), *argv[at:]]


def _filled(kind: type, options: Namespace) -> Any:
    return kind(**{field.name: options[field.name] for field in fields(kind)})


def _new_run(options: Namespace) -> Path:
    strong = options.strong.rpartition(".")[2].lower()
    stem = f"{Path(options.data).resolve().name}-{strong}-{options.method}-split{options.split}-seed{options.seed}"
    taken = (Path("runs") / f"{stem}{suffix}" for suffix in ["", *(f"-{k}" for k in range(2, 10_000))])
    return next(path for path in taken if not path.exists())
