r"""Reads a command and runs it."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser

import mowst
from mowst.allocator import keep_freed_memory
from mowst.cli import bench, datasets, runs, studies, train
from mowst.cli.help import PlainHelp

COMMANDS = {
    "train": (train.parser, train.run, "train a model and write a run folder"),
    "evaluate": (runs.evaluate_parser, runs.evaluate, "score the model of a run"),
    "predict": (runs.predict_parser, runs.predict, "write the answers of the model of a run"),
    "study": (studies.study_parser, studies.study, "run data sets x experts x methods x seeds"),
    "sweep": (studies.sweep_parser, studies.search, "search settings"),
    "best": (studies.best_parser, studies.best, "print the best trial of a sweep"),
    "report": (studies.report_parser, studies.report, "tables and plots of a study"),
    "datasets": (datasets.parser, datasets.run, "list the known data sets, or check one"),
    "bench": (bench.parser, bench.run, "compare speeds on this machine"),
}


def main(argv: Sequence[str] | None = None) -> int:
    r"""Runs a command; returns the exit status. Errors of the user's making are one line on stderr."""
    argv = [_spelled(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    sys.path.append("")  # import paths such as my_gnn.MyGNN start at the current directory, as with python -m
    keep_freed_memory()
    options = read(argv)
    try:
        if options.subcommand == "train":
            options = train.with_presets(argv, read)
        COMMANDS[options.subcommand][1](options[options.subcommand])
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("mowst: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader, such as head, has enough; at its end Python would flush into the pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"mowst: {error}", file=sys.stderr)
        return 128 + signal.SIGTERM if isinstance(error, InterruptedError) else 1
    return 0


def read(argv: Sequence[str], defaults: Mapping[str, Any] | None = None) -> Any:
    r"""The options of a command line, with other defaults of :obj:`train` where they are given."""
    parser = ArgumentParser(
        prog="mowst",
        description="Mixture of weak and strong experts on graphs.",
        version=mowst.__version__,
        formatter_class=PlainHelp,  # of the commands too
    )
    commands = parser.add_subcommands()
    for name, (make, _, told) in COMMANDS.items():
        command = make()
        if name == "train":
            command.set_defaults(dict(defaults or {}))
        commands.add_subcommand(name, command, help=told)
    options = parser.parse_args(list(argv))
    if options.subcommand == "train":
        options.train.data = options.train.get("data") or train.DATA
    return options


def _spelled(argument: str) -> str:
    # Both --run-dir and --run_dir are understood.
    name, equals, value = argument.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + equals + value if name.startswith("--") else argument
