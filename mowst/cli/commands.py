r"""Reads a command and runs it. Only the module of the chosen command is imported."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from mowst.process import prepare_process

SIGPIPE = 13  # signal.SIGPIPE, which Windows does not have

# The module of each command, in which read_NAME(parser, argv) returns its options and NAME(options)
# runs it.
COMMANDS = {
    "train": ("train", "train a model and write a run folder"),
    "evaluate": ("evaluate", "score the model of a run"),
    "predict": ("predict", "write the predictions of the model of a run"),
    "study": ("studies", "run data sets x experts x methods x seeds"),
    "sweep": ("studies", "search settings"),
    "best": ("studies", "print the best settings of a sweep"),
    "report": ("studies", "write tables and plots of a study"),
    "datasets": ("datasets", "list the known data sets, or describe one"),
}
EXAMPLES = {
    "evaluate": "mowst evaluate runs/my_run --split random-1",
    "predict": "mowst predict runs/my_run --data new --output new.csv",
    "study": "mowst study rows.yaml results --workers 4",
    "sweep": "mowst sweep cora --strong sage --trials 50 --storage sqlite:///cora.db",
    "best": "mowst best sqlite:///cora.db > best.yaml",
    "report": "mowst report results",
    "datasets": "mowst datasets cora",
}


def main(argv: Sequence[str] | None = None) -> int:
    r"""Runs a command and returns the exit status. Errors of the user are one line on stderr."""
    sys.path.append("")  # import paths such as my_gnn.MyGNN start in the current directory
    try:
        run, options = read_command(sys.argv[1:] if argv is None else argv)
        run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("mowst: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader, such as head, has ended. Python would flush into the pipe again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + SIGPIPE
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"mowst: {error}", file=sys.stderr)
        return 128 + signal.SIGTERM if isinstance(error, InterruptedError) else 1
    return 0


def read_command(argv: Sequence[str]) -> tuple[Callable[[Any], None], Any]:
    r"""Returns the function of a command and its options."""
    name = _read_name(argv[:1])
    prepare_process()
    from jsonargparse import ArgumentParser

    from mowst.cli.help import PlainHelp

    module = import_module(f"mowst.cli.{COMMANDS[name][0]}")
    parser = ArgumentParser(prog=f"mowst {name}", formatter_class=PlainHelp)
    parser.epilog = f"example:\n  {EXAMPLES.get(name)}"
    arguments = [_normalize(argument) for argument in argv[1:]]
    return getattr(module, name), getattr(module, f"read_{name}")(parser, arguments)


def _read_name(argv: Sequence[str]) -> str:
    parser = argparse.ArgumentParser(
        prog="mowst",
        description="Mixture of weak and strong experts on graphs.",
        epilog="'mowst COMMAND --help' describes a command. 'mowst train' needs no download.",
    )
    parser.add_argument("--version", action="version", version=f"mowst {version('mowst')}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser.parse_args(argv).command


def _normalize(argument: str) -> str:
    # Both --run-dir and --run_dir are accepted.
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value
