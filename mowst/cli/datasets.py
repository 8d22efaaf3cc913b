r""":obj:`mowst datasets`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mowst.cli.places import add_root
from mowst.data import DATASETS, data_root, find_dataset, load_task

if TYPE_CHECKING:
    import pandas as pd
    from jsonargparse import ArgumentParser, Namespace


def read_datasets(parser: "ArgumentParser", argv: Sequence[str]) -> "Namespace":
    r"""Returns the options of :obj:`mowst datasets`."""
    parser.description = (
        "Lists the known data sets, or describes one and compares its files on this machine with "
        "its published sizes."
    )
    text = "Data set to describe and compare."
    parser.add_argument("name", nargs="?", type=str | None, help=text)
    add_root(parser)
    return parser.parse_args(argv)


def datasets(options: "Namespace") -> None:
    r"""Prints the known data sets, or compares one with its published sizes."""
    import pandas as pd

    if options.name:
        _compare_sizes(options.name, options.root)
        return
    root = data_root(options.root)
    rows = []
    for info in DATASETS.values():
        here = all(path.is_file() for path in info.paths(root))
        row = {"name": info.name, **info.statistics, "metric": str(info.metric)}
        count = f"{info.num_splits} x " if info.num_splits else ""
        row |= {"here": "yes" if here else "no", "splits": count + info.protocol}
        rows.append(row)
    table = _mark_unknown(pd.DataFrame(rows).convert_dtypes())
    for column in ("name", "splits"):  # pandas aligns text to the right
        width = table[column].str.len().max()
        table[column] = table[column].str.ljust(width)
        table = table.rename(columns={column: column.ljust(width)})
    for line in table.to_string(index=False).splitlines():
        print(line.rstrip())
    print("'mowst datasets NAME' describes one and compares it with its published sizes")


def _compare_sizes(name: str, root: str | None) -> None:
    import pandas as pd

    info = find_dataset(name)
    published = info.statistics
    count = f"{info.num_splits} published: " if info.num_splits else ""
    about = {"splits": count + info.protocol, "metric": str(info.metric), "licence": info.licence}
    about |= {"preprocessing": ", ".join(info.preprocessing), "published at": info.home}
    for key, text in about.items():
        print(f"{key}: {text or '-'}")
    task = load_task(name, root=root, split="random-0", fetch=False)
    sizes = (task.num_nodes, task.data.num_edges, task.num_features, task.num_classes)
    found = dict(zip(published, sizes, strict=True))
    table = pd.DataFrame({"published": published, "found": found}, dtype="Int64")
    print(_mark_unknown(table).to_string())
    wrong = []
    for key, size in published.items():
        if size not in (None, found[key]):
            wrong.append(f"{size} {key}, found {found[key]}")
    if wrong:
        raise ValueError(f"'{task.name}' differs from its published sizes: {'; '.join(wrong)}")
    print(f"'{task.name}' matches its published sizes")


def _mark_unknown(table: "pd.DataFrame") -> "pd.DataFrame":
    table = table.astype(object)
    return table.where(table.notna(), "-")
