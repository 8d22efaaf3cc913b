r"""The command line: :obj:`mowst train`, :obj:`evaluate`, :obj:`study`, :obj:`sweep`, :obj:`best`, :obj:`report`,
:obj:`datasets`, :obj:`bench`.
"""

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

import mowst
from mowst.allocator import keep_freed_memory
from mowst.bench import run_suite
from mowst.data import DATASETS, data_root, find_dataset, load_task
from mowst.data.transforms import TRANSFORMS
from mowst.io import write_json
from mowst.metrics import METRICS
from mowst.nn.build import ModelConfig, build_model
from mowst.nn.cascade import Cascade
from mowst.nn.mowst import Mowst
from mowst.presets import PRESETS, preset
from mowst.study import (
    RESULTS,
    best_row,
    expand,
    newest_lines,
    read_lines,
    read_rows,
    run_study,
    sweep,
    write_report,
)
from mowst.task import GraphTask
from mowst.train import METHODS, FitResult, ProgressBar, RunFolder, TrainConfig, environment, fit, score_model
from mowst.train.distributed import from_first, is_first, joined

PERCENT = "{:.2f}".format
NOT_SETTINGS = ("config", "run_dir", "resume", "trust")


def main(argv: Sequence[str] | None = None) -> int:
    r"""Runs a command; returns the exit status. Errors of the user's making are one line on stderr."""
    argv = [_spelled(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    sys.path.append("")  # import paths such as my_gnn.MyGNN start at the current directory, as with python -m
    commands = {
        "train": _train,
        "evaluate": _evaluate,
        "study": _study,
        "sweep": _sweep,
        "best": _best,
        "report": _report,
        "datasets": _datasets,
        "bench": _bench,
    }
    keep_freed_memory()
    options = _parser().parse_args(argv)
    try:
        if options.subcommand == "train":
            if options.train.resume:
                argv = _with_settings_of(options.train.resume, argv)
            train = _parser().parse_args(argv).train
            options = _parser(preset(train.data, name=train.preset, strong=train.strong)).parse_args(argv)
            _check_trust(options.train)
        commands[options.subcommand](options[options.subcommand])
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"mowst: {error}", file=sys.stderr)
        return 128 + signal.SIGTERM if isinstance(error, InterruptedError) else 1
    return 0


def _with_settings_of(run: str, argv: Sequence[str]) -> list[str]:
    # First, so that what is typed beside --resume counts, and is refused where it differs.
    if not (settings := Path(run) / "config.yaml").is_file():
        raise FileNotFoundError(f"'{run}' is not the folder of a run: no config.yaml in it")
    at = argv.index("train") + 1
    return [*argv[:at], "--config", str(settings), *argv[at:]]


def _check_trust(train: Namespace) -> None:
    # Importing runs code, which a file of somebody else's must not do.
    names = (train.weak, *train.middle, train.strong, train.confidence)
    paths = [name for name in names if "." in name]
    if train.config and paths and not train.trust:
        raise ValueError(
            f"with settings from a file, the import path {paths[0]!r} needs --trust: following it runs code"
        )


def _parser(defaults: Mapping[str, Any] | None = None) -> ArgumentParser:
    parser = ArgumentParser(
        prog="mowst",
        description="Mixture of weak and strong experts on graphs.",
        version=mowst.__version__,
    )
    commands = parser.add_subcommands()

    train = ArgumentParser(description="Trains an MLP and a GNN, and the confidence that decides between them.")
    train.add_argument("--config", action=ActionConfigFile, help="YAML file with any of the settings below")
    train.add_argument("data", nargs="?", default="digits", help="a data set, see 'mowst datasets', or a folder")
    train.add_argument("--preset", default="default", help=f"settings to start from, one of {', '.join(PRESETS)}")
    train.add_argument("--transforms", type=list[str], default=[], help=f"of {', '.join(TRANSFORMS)}")
    train.add_argument("--method", default="mowst", help=f"one of {', '.join(METHODS)}")
    train.add_argument("--split", type=int | str, default=0, help="which split, or 'random-SEED'")
    train.add_argument("--metric", type=str | None, help=f"one of {', '.join(METRICS)}, else the data set's own")
    train.add_argument("--class_weight", type=str | list[float] | None, help="'balanced', or one weight for each class")
    train.add_argument("--inductive", type=bool, default=False, help="hide test nodes and their edges from training")
    train.add_argument("--seed", type=int, default=0, help="seed of parameters and training")
    _add_places(train)
    train.add_argument("--resume", type=str | None, help="folder of a killed or stopped run: go on with it")
    train.add_argument("--trust", action="store_true", help="follow import paths although a file holds settings")
    train.add_argument("--run_dir", type=str | None, help="folder to write, by default a new one under runs/")
    train.add_class_arguments(ModelConfig, None, as_group=True)
    train.add_class_arguments(TrainConfig, None, as_group=True)
    train.set_defaults(dict(defaults or {}))
    commands.add_subcommand("train", train, help="train a model and write a run folder")

    evaluate = ArgumentParser(description="Scores the model of a run again, on its own data or on another split.")
    evaluate.add_argument("run", help="folder that 'mowst train' wrote")
    evaluate.add_argument("--data", type=str | None, help="another data set than the run's")
    evaluate.add_argument("--split", type=int | str | None, help="another split than the run's")
    evaluate.add_argument("--trust", action="store_true", help="follow import paths that the run names")
    _add_places(evaluate)
    commands.add_subcommand("evaluate", evaluate, help="score the model of a run")

    study = ArgumentParser(description="Runs the rows of a YAML file that a folder does not hold yet.")
    study.add_argument("rows", help="YAML file of rows, see mowst/study/cell.py")
    study.add_argument("folder", help="folder of the results")
    study.add_function_arguments(run_study, skip={"cells", "folder", "report"})
    commands.add_subcommand("study", study, help="run data sets x experts x methods x seeds")

    search = ArgumentParser(description="Searches settings on the validation nodes; started again, it goes on.")
    search.add_function_arguments(sweep, as_positional=True)
    commands.add_subcommand("sweep", search, help="search settings")

    best = ArgumentParser(description="Prints the best trial of a sweep as a row for 'mowst study'.")
    best.add_function_arguments(best_row, as_positional=True)
    commands.add_subcommand("best", best, help="print the best trial of a sweep")

    report = ArgumentParser(description="Writes tables and plots of a study into one HTML page.")
    report.add_function_arguments(write_report, as_positional=True)
    commands.add_subcommand("report", report, help="tables and plots of a study")

    datasets = ArgumentParser(description="Lists the known data sets, or compares one with what is published of it.")
    datasets.add_argument("name", nargs="?", type=str | None, help="data set to compare, of the files that are here")
    _add_root(datasets)
    commands.add_subcommand("datasets", datasets, help="list the known data sets, or check one")
    bench = ArgumentParser(description="Compares the speed of this package with PyG's, in under two minutes.")
    bench.add_argument("--out", type=str | None, help="JSON file to write")
    commands.add_subcommand("bench", bench, help="compare speeds on this machine")
    return parser


def _add_root(parser: ArgumentParser) -> None:
    parser.add_argument("--root", type=str | None, help="folder of data sets, else $MOWST_DATA, else ~/.cache/mowst")


def _add_places(parser: ArgumentParser) -> None:
    _add_root(parser)
    parser.add_argument("--device", type=str | None, help="cpu, cuda, ... (default: cuda where there is one)")


def _spelled(argument: str) -> str:
    # Both --run-dir and --run_dir are understood.
    name, equals, value = argument.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + equals + value if name.startswith("--") else argument


def _train(options: Namespace) -> None:
    with joined(_device(options)):
        _train_joined(options)


def _train_joined(options: Namespace) -> None:
    mowst.seed_everything(options.seed)
    task = _load(options.data, options.root, options.split, options.as_dict())
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
        device=_device(options),
        run_dir=folder,
        resume=options.resume is not None,
        callbacks=[ProgressBar(disable=None)] if is_first() else [],
        **asdict(_filled(TrainConfig, options)),
    )
    if is_first():
        _print_result(result, model, task.metric, options, folder)


def _print_result(result: FitResult, model: Cascade, metric: str, options: Namespace, folder: RunFolder) -> None:
    names = _names(model, options)
    rows = {f"{names[expert]} alone": scores for expert, scores in result.alone.items()}
    if options.method.startswith("mowst"):
        rows |= {f"{names[part]} in it": scores for part, scores in result.scores.items() if part in names}
        rows[f"{options.method} ({result.route})"] = asdict(result)
    _print_table(rows, metric, {names[expert]: share for expert, share in result.shares.items()}, result.expected)
    print(f"{result.seconds:.1f} s, {len(result.history)} evaluations; run folder: {folder.path}")


def _evaluate(options: Namespace) -> None:
    folder = RunFolder.open(options.run)
    config = folder.config
    data = options.data or config["data"]
    split = config["split"] if options.split is None else options.split
    task = _load(data, options.root or config.get("root"), split, config)
    model = (Cascade if config.get("middle") else Mowst).load(folder.model_path, trust=options.trust)
    device = _device(options)
    scores = score_model(model.to(device), task.to(device))
    print(f"{task}\n{model}")
    rows, names = {}, _names(model, config)
    if config["method"].startswith("mowst"):
        rows = {f"{name} in it": scores["scores"][part] for part, name in names.items()}
    rows[f"{config['method']} ({model.route})"] = scores
    _print_table(rows, task.metric, {name: scores["shares"][part] for part, name in names.items()}, scores["expected"])


def _study(options: Namespace) -> None:
    arguments = options.as_dict()
    cells, folder = expand(read_rows(arguments.pop("rows"))), arguments.pop("folder")
    run_study(cells, folder, **arguments, report=lambda line: print(line["status"], line["name"], line["seed"]))
    lines = newest_lines(read_lines(Path(folder) / RESULTS))
    failed = [line for line in lines if line["status"] == "failed"]
    print(f"{len(lines) - len(failed)} runs finished, {len(failed)} failed; tables and plots: mowst report {folder}")


def _sweep(options: Namespace) -> None:
    found = sweep(**options.as_dict())
    if not any(trial.state.name == "COMPLETE" for trial in found.trials):
        raise ValueError(f"{found.study_name}: none of {len(found.trials)} trials was completed")
    print(f"{found.study_name}: number {found.best_trial.number} of {len(found.trials)} trials is best,")
    print(f"with {found.best_value:.4f} on the validation nodes: {found.best_params}")
    if options.storage:
        print(f"as a row of a study: mowst best {options.storage} --study_name {found.study_name}")


def _best(options: Namespace) -> None:
    print(yaml.safe_dump({"rows": [best_row(**options.as_dict())]}, sort_keys=False))


def _report(options: Namespace) -> None:
    print(write_report(**options.as_dict()))


def _datasets(options: Namespace) -> None:
    if options.name:
        return _check(options.name, options.root)
    root = data_root(options.root)
    rows = [
        {
            "name": info.name,
            **info.statistics,
            "metric": info.metric,
            "splits": info.protocol,
            "preprocessing": ", ".join(info.preprocessing),
            "licence": info.licence,
            "here": "yes" if all(path.is_file() for path in info.paths(root)) else "no",
        }
        for info in DATASETS.values()
    ]
    table = pd.DataFrame(rows).convert_dtypes().astype(object)
    print(table.where(table.notna(), "-").to_string(index=False))


def _check(name: str, root: str | None) -> None:
    published = find_dataset(name).statistics
    task = load_task(name, root=root, split="random-0", fetch=False)
    sizes = (task.num_nodes, task.data.num_edges, task.num_features, task.num_classes)
    found = dict(zip(published, sizes, strict=True))
    table = pd.DataFrame({"published": published, "found": found}, dtype="Int64").astype(object)
    print(table.where(table.notna(), "-").to_string())
    wrong = [f"{published[key]} {key}, found {found[key]}" for key in found if published[key] not in (None, found[key])]
    if wrong:
        raise ValueError(f"'{task.name}' differs from what is published: {'; '.join(wrong)}")
    print(f"'{task.name}' matches what is published")


def _bench(options: Namespace) -> None:
    made_by, rows = environment(), []
    print(made_by["machine"])
    for row in run_suite():
        rows.append(row)
        unit = "ms" if "median_ms" in row else "MiB"
        values = row["median_ms"] if unit == "ms" else row["peak_mib"]
        shown = (f"{name} {value:.1f} {unit}{_times(row, name)}" for name, value in values.items())
        print(f"{row['case']}\n    " + ", ".join(shown))
    if options.out:
        write_json(options.out, {"environment": made_by, "rows": rows})


def _times(row: Mapping[str, Any], name: str) -> str:
    return f" ({row['times_ours'][name]:.1f} times ours)" if name in row["times_ours"] else ""


def _load(data: str, root: str | None, split: int | str, config: Mapping[str, Any]) -> GraphTask:
    task = load_task(data, root=root, split=split, transforms=config.get("transforms", ()))
    chosen = {key: config[key] for key in ("metric", "class_weight", "inductive") if config.get(key)}
    return replace(task, **chosen) if chosen else task


def _names(model: Cascade, options: Mapping[str, Any] | Namespace) -> dict[str, str]:
    chosen = [options["weak"], *(options.get("middle") or ()), options["strong"]]
    twice = len(set(chosen)) < len(chosen)
    return {part: f"{part} {name}" if twice else name for part, name in zip(model.expert_names, chosen, strict=True)}


def _print_table(
    rows: Mapping[str, Mapping[str, Any]], metric: str, shares: Mapping[str, float], expected: float | None
) -> None:
    table = pd.DataFrame(
        {split: [100 * scores[split] for scores in rows.values()] for split in ("train", "val", "test")},
        index=pd.Index(rows, name=f"{metric} in %"),
    )
    print(table.to_string(float_format=PERCENT))
    print("answers on the test nodes: " + ", ".join(f"{name} {PERCENT(100 * s)} %" for name, s in shares.items()))
    if expected is not None:
        print(f"expected test score of sampled routing: {PERCENT(100 * expected)}")


def _filled(kind: type, options: Namespace) -> Any:
    return kind(**{field.name: options[field.name] for field in fields(kind)})


def _device(options: Namespace) -> str:
    return options.device or ("cuda" if torch.cuda.is_available() else "cpu")


def _new_run(options: Namespace) -> Path:
    strong = options.strong.rpartition(".")[2].lower()
    stem = f"{Path(options.data).resolve().name}-{strong}-{options.method}-split{options.split}-seed{options.seed}"
    taken = (Path("runs") / f"{stem}{suffix}" for suffix in ["", *(f"-{k}" for k in range(2, 10_000))])
    return next(path for path in taken if not path.exists())


if __name__ == "__main__":
    raise SystemExit(main())
