r"""Reproduces rows of "Mixture of Weak & Strong Experts on Graphs" (arXiv:2311.05185).

    python experiments/paper.py rows                                 # all rows
    python experiments/paper.py run --row 'Mowst*-GCN penn94' --root DATA # or --row '[NAME, NAME]'
    python experiments/paper.py run --table mowst --dry true         # the 19 mixtures: the runs
    python experiments/paper.py run --all true --workers 2
    mowst report experiments/results/paper                           # tables, with published scores

Settings are those of `mowst/presets/paper.yaml`, which lists the differences to the paper. The
folder of results is a study: finished runs are skipped, and several of these commands may share it.
No published score is certified.
"""

from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from mowst.data import data_root, find_dataset
from mowst.presets import load_paper_tables
from mowst.study import RESULTS, expand, read_lines, run_study, select_newest

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
    changes = dict(settings or {})
    if seeds:
        changes["seeds"] = seeds
    names = [row] if isinstance(row, str) else row or []
    runs = expand([chosen | changes for chosen in choose(names, table, all)])
    if not dry:
        run_study(runs, out, workers, threads, root, retry_failed, device, report=_print)
        return
    status = {line["id"]: line["status"] for line in select_newest(read_lines(out / RESULTS))}
    for one in runs:
        print(f"{one.name}, seed {one.seed}, split {one.split}: {status.get(one.id, 'to do')}")


def rows(root: str | None = None) -> None:
    r"""Prints the rows by table, with the published score and whether the files of the data set are
    here.

    Args:
        root: folder of the data sets.
    """
    for table, found in load_paper_tables().items():
        print(f"{table}:")
        for row in found:
            paths = find_dataset(row["data"]).paths(data_root(root))
            here = "here" if all(path.is_file() for path in paths) else "not here"
            print(f"  {row['name']}: published {_format_published(row)}; data {here}")


def choose(names: list[str], table: str | None, every: bool) -> list[dict[str, Any]]:
    r"""Chooses the rows of these names, or of a table, or all."""
    tables = load_paper_tables()
    if table and table not in tables:
        raise SystemExit(f"there is no table '{table}', choose from {', '.join(tables)}")
    known = {row["name"]: row for found in tables.values() for row in found}
    for name in names:
        if name not in known:
            raise SystemExit(f"there is no row '{name}', choose from {', '.join(known)}")
    if every:
        return list(known.values())
    if not names and not table:
        raise SystemExit("choose rows: --row NAME, --table NAME, or --all true")
    return [known[name] for name in names] + tables.get(table or "", [])


def _format_published(row: dict[str, Any]) -> str:
    if "published" not in row:
        return "nothing"
    score = row["published"]
    mark = "" if score["certified"] else " (not certified)"
    return f"{score['mean']:.2f} +- {score['std']:.2f}{mark}"


def _print(line: dict[str, Any], left: int) -> None:
    shown = line.get("error", "")
    if line["status"] == "finished":
        shown = f"test {100 * line['test']:.2f}"
        if line["method"] == "mowst":
            shown += f", of sampled routing {100 * line['expected']:.2f}"
    run = f"{line['name']}, seed {line['seed']}, split {line['split']}"
    print(f"{run}: {shown}; published {_format_published(line)}; {left} runs left", flush=True)


if __name__ == "__main__":
    auto_cli([run, rows])
