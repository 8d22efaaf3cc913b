r""":obj:`mowst datasets`."""

import pandas as pd
from jsonargparse import ArgumentParser, Namespace

from mowst.cli.places import add_root
from mowst.data import DATASETS, data_root, find_dataset, load_task


def parser() -> ArgumentParser:
    r"""The options of :obj:`mowst datasets`."""
    datasets = ArgumentParser(description="Lists the known data sets, or compares one with what is published of it.")
    datasets.add_argument("name", nargs="?", type=str | None, help="data set to compare, of the files that are here")
    add_root(datasets)
    return datasets


def run(options: Namespace) -> None:
    r"""Prints the known data sets, or compares one with what is published of it."""
    if options.name:
        return _check(options.name, options.root)
    root = data_root(options.root)
    rows = [
        {
            "name": info.name,
            **info.statistics,
            "metric": info.metric,
            "splits": info.protocol,
            "preprocessing": ", ".join(info.preprocessing),
            "licence": info.licence,
            "here": "yes" if all(path.is_file() for path in info.paths(root)) else "no",
        }
        for info in DATASETS.values()
    ]
    table = pd.DataFrame(rows).convert_dtypes().astype(object)
    print(table.where(table.notna(), "-").to_string(index=False))


def _check(name: str, root: str | None) -> None:
    published = find_dataset(name).statistics
    task = load_task(name, root=root, split="random-0", fetch=False)
    sizes = (task.num_nodes, task.data.num_edges, task.num_features, task.num_classes)
    found = dict(zip(published, sizes, strict=True))
    table = pd.DataFrame({"published": published, "found": found}, dtype="Int64").astype(object)
    print(table.where(table.notna(), "-").to_string())
    wrong = [f"{published[key]} {key}, found {found[key]}" for key in found if published[key] not in (None, found[key])]
    if wrong:
        raise ValueError(f"'{task.name}' differs from what is published: {'; '.join(wrong)}")
    print(f"'{task.name}' matches what is published")
