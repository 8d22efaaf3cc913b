r"""Help in plain text from docstrings with markup."""

import re
from argparse import Action

from jsonargparse import DefaultHelpFormatter

MARKUP = (
    (r"\s*\(default: :obj:`[^`]*`\)", ""),  # the default of the option follows its type
    (r":\w+:`~(?:\w+\.)*(\w+)`", r"\1"),
    (r":\w+:`([^`]*)`", r"\1"),
    (r"\bNone\b", "null"),
)


class PlainHelp(DefaultHelpFormatter):
    r"""A help formatter that removes the markup of docstrings."""

    def start_section(self, heading: str | None) -> None:
        super().start_section(heading and remove_markup(heading))

    def _expand_help(self, action: Action) -> str:
        return remove_markup(super()._expand_help(action))


def remove_markup(text: str) -> str:
    r"""Returns a text without markup."""
    for markup, plain in MARKUP:
        text = re.sub(markup, plain, text)
    return text
