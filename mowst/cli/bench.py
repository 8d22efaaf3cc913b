r""":obj:`mowst bench`."""

from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from mowst.bench import run_suite
from mowst.io import write_json
from mowst.train import environment


def parser() -> ArgumentParser:
    r"""The options of :obj:`mowst bench`."""
    bench = ArgumentParser(description="Compares the speed of this package with PyG's, in under two minutes.")
    bench.add_argument("--out", type=str | None, help="JSON file to write")
    return bench


def run(options: Namespace) -> None:
    r"""Prints the speed of this package and of PyG, case by case."""
    made_by, rows = environment(), []
    print(made_by["machine"])
    for row in run_suite():
        rows.append(row)
        unit = "ms" if "median_ms" in row else "MiB"
        values = row["median_ms"] if unit == "ms" else row["peak_mib"]
        shown = (f"{name} {value:.1f} {unit}{_times(row, name)}" for name, value in values.items())
        print(f"{row['case']}\n    " + ", ".join(shown))
    if options.out:
        write_json(options.out, {"environment": made_by, "rows": rows})


def _times(row: Mapping[str, Any], name: str) -> str:
    return f" ({row['times_ours'][name]:.1f} times ours)" if name in row["times_ours"] else ""
