r"""Help in plain text from docstrings with markup."""

import re
import shutil
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Mapping
from copy import copy
from typing import Any

from jsonargparse import DefaultHelpFormatter

MARKUP = (
    (r"\s*\(default: :obj:`[^`]*`\)", ""),  # the formatter appends the default of the option
    (r":\w+:`~(?:\w+\.)*(\w+)`", r"\1"),
    (r":\w+:`([^`]*)`", r"\1"),
    (r"\bNone\b", "null"),
    (r"\bTrue\b", "true"),
    (r"\bFalse\b", "false"),
)
METAVARS: dict[Any, str] = {int: "INT", int | None: "INT", float: "FLOAT", float | None: "FLOAT"}
INDENT = 14


class PlainHelp(DefaultHelpFormatter):
    r"""A help formatter that removes the markup of docstrings, and shows no types and no defaults
    that are empty.
    """

    def start_section(self, heading: str | None) -> None:
        super().start_section(heading and remove_markup(heading))

    def _expand_help(self, action: Action) -> str:
        return remove_markup(super()._expand_help(action))

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if action.nargs == 0:
            text = text[:1].upper() + text[1:]  # argparse's own begin in lower case
        has_value = action.option_strings and action.nargs != 0
        if has_value and action.default not in (None, SUPPRESS, [], {}):
            text += " (default: %(default)s)"
        return text

    def _format_action_invocation(self, action: Action) -> str:
        # Without the form of an option that appends to a list, such as --transforms+.
        shown = copy(action)
        shown.option_strings = [name for name in action.option_strings if name[-1] != "+"]
        return super()._format_action_invocation(shown)

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        name = super()._get_default_metavar_for_optional(action)
        return METAVARS.get(getattr(action, "_typehint", action.type), name)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:  # a table
            return text
        return super()._fill_text(text, width, indent)


def remove_markup(text: str) -> str:
    r"""Returns a text without markup."""
    for markup, plain in MARKUP:
        text = re.sub(markup, plain, text)
    return text


def format_table(title: str, rows: Mapping[str, str]) -> str:
    r"""Returns a title and, below it, named texts that are wrapped to the width of the terminal."""
    width = shutil.get_terminal_size().columns - 2
    lines = [f"{title}:"]
    for name, text in rows.items():
        wrapped = textwrap.wrap(
            text,
            width=width,
            initial_indent=f"  {name}".ljust(INDENT),
            subsequent_indent=" " * INDENT,
            break_on_hyphens=False,
        )
        lines.extend(wrapped)
    return "\n".join(lines)
