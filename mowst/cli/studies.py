r""":obj:`mowst study`, :obj:`sweep`, :obj:`best`, :obj:`report`."""

import shlex
import sys

import yaml
from jsonargparse import ArgumentParser, Namespace

from mowst.cli.places import checked
from mowst.cli.trust import refuse_import_paths
from mowst.study import best_row, expand, newest_lines, read_rows, read_runs, run_study, sweep, write_report


def study_parser() -> ArgumentParser:
    r"""The options of :obj:`mowst study`."""
    study = ArgumentParser(description="Runs the rows of a YAML file that a folder does not hold yet.")
    study.add_argument("rows", help="YAML file of rows, see mowst/study/cell.py")
    study.add_argument("folder", help="folder of the results")
    study.add_argument("--trust", action="store_true", help="follow import paths that rows name")
    study.add_function_arguments(run_study, as_group=False, skip={"cells", "folder", "report"})
    return study


def study(options: Namespace) -> None:
    r"""Runs what is missing of a study, and raises :obj:`ChildProcessError` if runs failed."""
    checked(options.device)
    arguments = options.as_dict()
    cells, folder = expand(read_rows(arguments.pop("rows"))), arguments.pop("folder")
    trust = arguments.pop("trust")
    for cell in cells:
        refuse_import_paths(cell.model_config, trust)
    run_study(cells, folder, **arguments, report=lambda line: print(line["status"], line["name"], line["seed"]))
    lines = {line["id"]: line for line in newest_lines(read_runs(folder))}
    ended = [lines[cell.id] for cell in cells if cell.id in lines]
    failed = [line for line in ended if line["status"] == "failed"]
    print(f"{len(ended) - len(failed)} runs finished, {len(failed)} failed; tables and plots: mowst report {folder}")
    for line in failed:
        print(f"{line['name']} {line['seed']}: {line['error']}", file=sys.stderr)
    if failed:
        raise ChildProcessError(f"{len(failed)} of {len(ended)} runs failed; --retry_failed true runs them again")


def sweep_parser() -> ArgumentParser:
    r"""The options of :obj:`mowst sweep`."""
    found = ArgumentParser(description="Searches settings on the validation nodes; started again, it goes on.")
    found.add_function_arguments(sweep, as_group=False, as_positional=True)
    return found


def search(options: Namespace) -> None:
    r"""Runs the missing trials of a sweep and prints the best one."""
    checked(options.device)
    found = sweep(**options.as_dict())
    if not any(trial.state.name == "COMPLETE" for trial in found.trials):
        raise ValueError(f"{found.study_name}: none of {len(found.trials)} trials was completed")
    print(f"{found.study_name}: number {found.best_trial.number} of {len(found.trials)} trials is best,")
    print(f"with {found.best_value:.4f} on the validation nodes: {found.best_params}")
    if options.storage:
        print(f"as a row of a study: mowst best {options.storage} --study_name {shlex.quote(found.study_name)}")


def best_parser() -> ArgumentParser:
    r"""The options of :obj:`mowst best`."""
    found = ArgumentParser(description="Prints the best trial of a sweep as a row for 'mowst study'.")
    found.add_function_arguments(best_row, as_group=False, as_positional=True)
    return found


def best(options: Namespace) -> None:
    r"""Prints the best trial of a sweep as a row of a study."""
    print(yaml.safe_dump({"rows": [best_row(**options.as_dict())]}, sort_keys=False))


def report_parser() -> ArgumentParser:
    r"""The options of :obj:`mowst report`."""
    page = ArgumentParser(description="Writes tables and plots of a study into one HTML page.")
    page.add_function_arguments(write_report, as_group=False, as_positional=True)
    return page


def report(options: Namespace) -> None:
    r"""Writes the page of a study and prints where."""
    print(write_report(**options.as_dict()))
