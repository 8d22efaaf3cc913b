r"""Reproduces rows of "Mixture of Weak & Strong Experts on Graphs" (https://arxiv.org/abs/2311.05185).

    python experiments/paper.py rows                                        # what there is, and whose data is here
    python experiments/paper.py run --row 'Mowst*-GCN penn94' --root DATA   # or --row '[NAME, NAME]'
    python experiments/paper.py run --table mowst --dry true                # the 19 settings of the paper: runs to do
    python experiments/paper.py run --all true --workers 2
    mowst report experiments/results/paper                                  # tables, beside the published scores

Settings are those of `mowst/presets/paper.yaml`, which says what differs from the paper. The folder of results is a
study: runs that it holds are skipped, and several of these commands may work on it. No published score is certified.
"""

from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from mowst.data import data_root, find_dataset
from mowst.presets import paper_tables
from mowst.study import RESULTS, expand, newest_lines, read_lines, run_study

OUT = Path(__file__).parent / "results" / "paper"


def run(
    row: list[str] | str | None = None,
    table: str | None = None,
    all: bool = False,
    dry: bool = False,
    out: Path = OUT,
    seeds: int | None = None,
    settings: dict[str, Any] | None = None,
    workers: int = 1,
    threads: int | None = None,
    root: str | None = None,
    retry_failed: bool = False,
    device: str | None = None,
) -> None:
    r"""Runs rows of the paper.

    Args:
        row: name of a row, or a list of names.
        table: "mowst" or "baselines".
        all: run both tables.
        dry: only print the runs that are left to do.
        out: folder of the results.
        seeds: runs of each row, in place of the paper's 5 or 10.
        settings: settings in place of the paper's, such as fewer epochs.
        workers: most runs at a time.
        threads: CPU threads that they share.
        root: folder of the data sets.
        retry_failed: run failed runs again.
        device: where to train.
    """
    changes = (settings or {}) | ({"seeds": seeds} if seeds else {})
    names = [row] if isinstance(row, str) else row or []
    cells = expand([chosen | changes for chosen in choose(names, table, all)])
    if not dry:
        return run_study(cells, out, workers, threads, root, retry_failed, device, report=_print)
    status = {line["id"]: line["status"] for line in newest_lines(read_lines(out / RESULTS))}
    for cell in cells:
        print(f"{cell.name}, seed {cell.seed}, split {cell.split}: {status.get(cell.id, 'to do')}")


def rows(root: str | None = None) -> None:
    r"""Prints the rows by table, with the published score and whether the files of the data set are here.

    Args:
        root: folder of the data sets.
    """
    for table, found in paper_tables().items():
        print(f"{table}:")
        for row in found:
            here = all(path.is_file() for path in find_dataset(row["data"]).paths(data_root(root)))
            print(f"  {row['name']}: published {_published(row)}; data {'here' if here else 'not here'}")


def choose(names: list[str], table: str | None, every: bool) -> list[dict[str, Any]]:
    r"""The rows of these names, or of a table, or all."""
    tables = paper_tables()
    if table and table not in tables:
        raise SystemExit(f"there is no table '{table}', choose from {', '.join(tables)}")
    known = {row["name"]: row for found in tables.values() for row in found}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"there is no row '{unknown[0]}', choose from {', '.join(known)}")
    if every:
        return list(known.values())
    if not names and not table:
        raise SystemExit("say which rows: --row NAME, --table NAME, or --all true")
    return [*(known[name] for name in names), *tables.get(table or "", [])]


def _published(row: dict[str, Any]) -> str:
    if "published" not in row:
        return "nothing"
    mark = "" if row["published"]["certified"] else " (not certified)"
    return f"{row['published']['mean']:.2f} +- {row['published']['std']:.2f}{mark}"


def _print(line: dict[str, Any]) -> None:
    shown = f"test {100 * line['test']:.2f}" if line["status"] == "finished" else line["error"]
    if line["status"] == "finished" and line["method"] == "mowst":
        shown += f", of sampled routing {100 * line['expected']:.2f}"
    print(
        f"{line['name']}, seed {line['seed']}, split {line['split']}: {shown}; published {_published(line)}", flush=True
    )


if __name__ == "__main__":
    auto_cli([run, rows])
