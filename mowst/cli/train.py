r""":obj:`mowst train`."""

import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch_geometric import seed_everything

from mowst.cli.evaluate import print_scores
from mowst.cli.places import choose_device, refuse_import_paths
from mowst.cli.runs import list_names, name_experts
from mowst.cli.train_options import LOGGERS, add_options
from mowst.io import read_json, read_yaml
from mowst.presets import load_preset
from mowst.process import are_threads_chosen, choose_threads
from mowst.study.run import build_run_model, load_run_task
from mowst.study.run_spec import RunSpec, read_rows
from mowst.study.values import SETTINGS, TYPES, check_known, parse_value
from mowst.task import GraphTask
from mowst.train.callbacks import Callback
from mowst.train.distributed import is_first, join_processes, run_in_first
from mowst.train.evaluate import FitResult
from mowst.train.fit import fit
from mowst.train.run_dir import RunDir

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

DATA = "digits"
# What a file may have besides settings.
PLACES: dict[str, Any] = {
    **dict.fromkeys(("data", "preset", "strong", "method"), str),
    **{"split": int | str, "seed": int, "root": str | None, "device": str | None},
}


def read_train(parser: "ArgumentParser", argv: Sequence[str]) -> dict[str, Any]:
    r"""Returns the options of :obj:`mowst train`: those of the command line, before those of the
    file, of the resumed run, and of the preset.
    """
    add_options(parser, only_most_used=bool({"-h", "--help"} & set(argv)))
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
        with RunDir(typed["resume"], {}).explain_version():
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
    if device == "cpu" and not are_threads_chosen():
        torch.set_num_threads(_choose_threads(options, task))
    config = {key: options[key] for key in PLACES} | spec.all_settings
    folder = run_in_first(lambda: _choose_folder(options))
    run_dir = RunDir(folder, config, names=list_names(task))
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
        _print_result(result, str(task.metric), config)
        seconds, count = result.seconds, len(result.history)
        threads = f"{torch.get_num_threads()} threads".replace("1 threads", "1 thread")
        done = f"training: {seconds:.1f} s, {threads}, {count} evaluations"
        print(f"{done}; run folder: {run_dir.path}")


def _choose_threads(options: Mapping[str, Any], task: GraphTask) -> int:
    if options["resume"]:
        with suppress(
            OSError, ValueError, TypeError, KeyError
        ):  # as many threads give the same bits
            return int(read_json(Path(options["resume"], "env.json"))["machine"]["threads"])
    return choose_threads(task.num_nodes, task.data.num_edges, options["hidden_channels"])


def _print_result(result: FitResult, metric: str, config: Mapping[str, Any]) -> None:
    names = name_experts(config)
    rows: dict[str, Mapping[str, Any]] = {}
    for expert, scores in result.alone.items():
        rows[f"{names[expert]} alone"] = scores
    print_scores(rows, vars(result), metric, config)


def _read_settings(path: Path) -> dict[str, Any]:
    types = {**TYPES, **PLACES}
    settings = read_yaml(path)
    if "rows" in settings:  # as 'mowst best' writes it
        rows = read_rows(path)
        if len(rows) > 1:
            raise ValueError(f"{path} has {len(rows)} rows, which are for 'mowst study': keep one")
        settings = rows[0]
    try:
        check_known(settings, [*PLACES, *SETTINGS], "setting")
        return {key: parse_value(key, value, types[key]) for key, value in settings.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


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
