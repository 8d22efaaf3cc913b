r"""Files do not say what is imported: importing runs code, and a file may be somebody else's."""

from typing import Any


def refuse_import_paths(settings: Any, trust: bool) -> None:
    r"""Raises a :obj:`ValueError` if settings that were read from a file name an import path, unless they are trusted.

    Args:
        settings: a :class:`~mowst.nn.build.ModelConfig`, or what has its parts.
        trust (bool): whether the user said so.
    """
    names = (settings.weak, *settings.middle, settings.strong, settings.confidence)
    if not trust and (paths := [name for name in names if "." in name]):
        raise ValueError(
            f"with settings from a file, the import path {paths[0]!r} needs --trust: following it runs code"
        )
