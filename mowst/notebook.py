r"""Small HTML tables, as which notebooks show objects."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def make_html(title: str, rows: Iterable[Sequence[Any]], notes: Iterable[str] = ()) -> str:
    r"""Returns a table with a title, and notes under it. Text is escaped.

    Args:
        title (str): The title.
        rows (list): The cells of each row, of which the first one is a heading.
        notes (list, optional): The notes. (default: :obj:`()`)
    """
    lines = [f"<table><caption>{escape(title)}</caption>"]
    for first, *others in rows:
        cells = [f"<td>{escape(str(cell))}</td>" for cell in others]
        lines.append(f"<tr><th>{escape(str(first))}</th>{''.join(cells)}</tr>")
    lines.append("</table>")
    lines += [f"<p>{escape(note)}</p>" for note in notes]
    return "\n".join(lines)
