r""":obj:`mowst study`, :obj:`sweep`, :obj:`best` and :obj:`report`."""

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from mowst.cli.places import check_device, refuse_import_paths
from mowst.cli.progress import RunPrinter, TrialPrinter, describe_trial
from mowst.study.best import best_row, load_sweep, rank_best
from mowst.study.lines import read_runs, select_newest
from mowst.study.report import write_report
from mowst.study.run_spec import expand, read_rows
from mowst.study.runner import run_study
from mowst.study.sweep import sweep as run_sweep

if TYPE_CHECKING:
    import optuna
    from jsonargparse import ArgumentParser

Options = dict[str, Any]


def read_study(parser: "ArgumentParser", argv: Sequence[str]) -> Options:
    r"""Returns the options of :obj:`mowst study`."""
    parser.add_argument("rows", help="YAML file of rows, see mowst/study/run_spec.py.")
    parser.add_argument("folder", help="Folder of the results.")
    parser.add_argument("--trust", action="store_true", help="Follow import paths of the rows.")
    text = "Runs the rows of a YAML file that a folder does not have yet."
    return _read_call(parser, argv, run_study, text, skip={"specs", "folder", "report"})


def study(options: Options) -> None:
    r"""Runs what is missing of a study.

    Raises:
        ChildProcessError: If a run failed.
    """
    check_device(options["device"])
    rows, folder, trust = (options.pop(key) for key in ("rows", "folder", "trust"))
    rows = read_rows(rows)
    for row in rows:
        refuse_import_paths(row, trust)
    specs = expand(rows)
    run_study(specs, folder, **options, report=RunPrinter(len(specs)))
    lines = {line["id"]: line for line in select_newest(read_runs(folder))}
    ended = [lines[spec.id] for spec in specs if spec.id in lines]
    failed = [line for line in ended if line["status"] == "failed"]
    print(
        f"{len(ended) - len(failed)} runs finished, {len(failed)} failed; tables and plots: mowst "
        f"report {folder}"
    )
    for line in failed:
        print(f"{line['name']}, seed {line['seed']}: {line['error']}", file=sys.stderr)
    if failed:
        raise ChildProcessError(
            f"{len(failed)} of {len(ended)} runs failed; --retry_failed true runs them again"
        )


def read_sweep(parser: "ArgumentParser", argv: Sequence[str]) -> Options:
    r"""Returns the options of :obj:`mowst sweep`."""
    text = "Searches settings on the validation nodes. The same command continues a sweep."
    return _read_call(parser, argv, run_sweep, text, skip={"callbacks"})


def sweep(options: Options) -> None:
    r"""Runs the missing trials of a sweep and prints the best one."""
    from optuna.logging import WARNING, set_verbosity

    check_device(options["device"])
    set_verbosity(WARNING)  # each trial has a line of ours
    found = run_sweep(**options, callbacks=[TrialPrinter(options["trials"])])
    name, trials = found.study_name, found.trials
    best = rank_best(found)
    if not best:
        raise ValueError(f"{name}: none of {len(trials)} trials was completed")
    print(f"{name}, {len(trials)} trials")
    print("\n".join(_list_best(found)))
    print(f"settings of trial {best[0].number}: {best[0].params}")
    if options["storage"]:
        command = f"mowst best {options['storage']} --study_name {shlex.quote(name)}"
        print(f"train with them: {command} > best.yaml && mowst train --config best.yaml")


def read_best(parser: "ArgumentParser", argv: Sequence[str]) -> Options:
    r"""Returns the options of :obj:`mowst best`."""
    text = "Prints the best trial of a sweep as a row for 'mowst study'."
    return _read_call(parser, argv, best_row, text)


def best(options: Options) -> None:
    r"""Prints the best trial of a sweep, or the Pareto front, and a trial as a row of a study."""
    row = best_row(**options)
    study, _ = load_sweep(options["storage"], options["study_name"])
    for text in _list_best(study):
        print(f"# {text}")
    print(yaml.safe_dump({"rows": [row]}, sort_keys=False))


def read_report(parser: "ArgumentParser", argv: Sequence[str]) -> Options:
    r"""Returns the options of :obj:`mowst report`."""
    text = "Writes tables and plots of a study into one HTML page."
    return _read_call(parser, argv, write_report, text)


def report(options: Options) -> None:
    r"""Writes the page of a study and prints its path."""
    print(write_report(**options))


def _list_best(study: "optuna.Study") -> list[str]:
    best = rank_best(study)
    if len(study.directions) == 1:
        return [f"best trial {best[0].number}: {describe_trial(study, best[0])}"]
    texts = ["Pareto front, of which --trial NUMBER chooses another trial than the first:"]
    for trial in best:
        texts.append(f"trial {trial.number}: {describe_trial(study, trial)}")
    return texts


def _read_call(
    parser: "ArgumentParser",
    argv: Sequence[str],
    function: Callable[..., Any],
    description: str,
    skip: Any = None,
) -> Options:
    # The options are the arguments of a function.
    parser.description = description
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=skip)
    return parser.parse_args(argv).as_dict()
