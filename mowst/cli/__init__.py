r"""The command line, the only part of the package that reads arguments."""

from mowst.cli.commands import main

__all__ = ["main"]
