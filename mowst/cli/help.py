r"""Help in plain text of docstrings with markup."""

import re
from argparse import Action

from jsonargparse import DefaultHelpFormatter

MARKUP = (
    (r"\s*\(default: :obj:`[^`]*`\)", ""),  # the value that is used stands behind the type
    (r":\w+:`~(?:\w+\.)*(\w+)`", r"\1"),
    (r":\w+:`([^`]*)`", r"\1"),
    (r"\bNone\b", "null"),
)


class PlainHelp(DefaultHelpFormatter):
    r"""A formatter of help that writes the markup of docstrings as what is typed."""

    def start_section(self, heading: str | None) -> None:
        super().start_section(heading and plain(heading))

    def _expand_help(self, action: Action) -> str:
        return plain(super()._expand_help(action))


def plain(text: str) -> str:
    r"""The text without markup."""
    for markup, typed in MARKUP:
        text = re.sub(markup, typed, text)
    return text
