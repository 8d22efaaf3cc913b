r"""The report of a study: tables as Markdown, CSV and LaTeX, and one HTML page with tables, plots and provenance."""

import base64
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from safetensors.torch import load_file

from mowst.io import atomic_write
from mowst.study.figures import plot_answers, plot_confidence, plot_deferral_runs, plot_history
from mowst.study.lines import RESULTS, read_lines, read_runs
from mowst.study.markup import Table, make_table, text_tables
from mowst.study.tables import CELL, Line, difference_table, failed_table, results_table, run_table, sorted_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROVENANCE = "What made the finished and the failed runs. A commit that ends in -dirty had changes on top."
CURVES = (
    "Learning curves of split {split}, seed {seed}, in the colour of what learned; a dot is the best state of a turn."
)
CONFIDENCE = "Confidence of all nodes after each round, in % of the nodes; split {split}, seed {seed}."
ANSWERS = "Who answers what: test nodes of all runs by confidence, degree and local homophily; routes: {routes}."
DEFERRAL = "Score by the share of test nodes that are passed on, the least confident first; pale: single runs."
COLORS = 32


@dataclass(frozen=True)
class Plot:
    caption: str
    png: str


@dataclass(frozen=True)
class CellReport:
    title: str
    runs: Table
    plots: list[Plot]
    settings: str


def write_report(folder: str | PathLike[str], out: str | PathLike[str] | None = None) -> Path:
    r"""Writes the report of a study folder and returns the path of the page, which needs no other file. Beside it lie
    :obj:`results.md`, :obj:`results.csv`, :obj:`differences.csv` and :obj:`results.tex`. The same lines and run
    folders give the same bytes.

    Args:
        folder (str): the study folder, see :func:`~mowst.study.run_study`.
        out (str, optional): the page to write, by default :obj:`report.html` in the folder. (default: :obj:`None`)

    Raises:
        FileNotFoundError: if the folder holds no results.
        ImportError: if there is something to plot and matplotlib is missing; the other files are written by then.
        ValueError: if a line is damaged, or two runs cannot be told apart.
    """
    folder = Path(folder)
    page = Path(out) if out else folder / "report.html"
    lines = sorted_lines(read_runs(folder))
    if not lines:
        raise FileNotFoundError(f"'{folder}' holds no {RESULTS} with a line in it: give the folder of a study")
    results, differences = results_table(lines), difference_table(lines)
    tables = [*text_tables(results, differences, failed_table(lines)), _provenance(lines)]
    summary = _summary(lines)
    texts = {
        "results.md": "\n".join([f"# Results of a study\n\n{summary}\n", *(table.markdown() for table in tables)]),
        "results.csv": results.to_csv(index=False),
        "differences.csv": differences.to_csv(index=False),
        "results.tex": "\n".join(table.latex() for table in tables),
    }
    for name, text in texts.items():
        _write(page.with_name(name), text)
    template = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    _write(page, environment.from_string(template).render(summary=summary, tables=tables, cells=_cells(lines, folder)))
    return page


def _write(path: Path, text: str) -> None:
    with atomic_write(path, mode="w") as file:
        file.write(text)


def _summary(lines: Sequence[Line]) -> str:
    counts = Counter(line["status"] for line in lines)
    parts = [f"{counts['finished']} finished and {counts['failed']} failed runs"]
    parts += [
        f"{name}: {', '.join(sorted({line[key] for line in lines}))}"
        for key, name in (("data", "data"), ("strong", "GNNs"))
    ]
    return "; ".join(parts) + "."


def _provenance(lines: Sequence[Line]) -> Table:
    rows = Counter(tuple(_made_by(line["environment"]).items()) for line in lines if line.get("environment"))
    cells = pd.DataFrame([dict(row) | {"runs": str(count)} for row, count in sorted(rows.items())])
    return make_table("Provenance", PROVENANCE, cells)


def _made_by(environment: Mapping[str, Any]) -> dict[str, str]:
    machine = environment.get("machine", {})
    return {
        "commit": environment.get("commit") or "",
        "versions": ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items()),
        "python": environment.get("python", ""),
        "machine": ", ".join(machine[key] for key in ("processor", "cuda", "platform") if machine.get(key)),
        "threads": str(environment.get("threads", machine.get("threads", ""))),
        "command": shlex.join(environment.get("command", [])),
    }


def _cells(lines: Sequence[Line], folder: Path) -> Iterator[CellReport]:
    by_id = {line["id"]: line for line in lines}
    runs = run_table(lines)
    for place, cell in runs[runs["finished"]].groupby(CELL, sort=False):
        members = [by_id[id] for id in cell["id"]]
        settings = ", ".join(f"{key}: {json.dumps(value)}" for key, value in members[0]["settings"].items())
        yield CellReport(", ".join(place), _runs(members), list(_plots(members, folder / "runs")), settings)


def _runs(members: Sequence[Line]) -> Table:
    rows = [
        {
            **{key: str(line[key]) for key in ("id", "split", "seed", "route")},
            **{f"{split}, %": f"{100 * line[split]:.2f}" for split in ("train", "val", "test")},
            "evaluations": str(line["evaluations"]),
            "training, s": f"{line['seconds']:.1f}",
        }
        for line in members
    ]
    return make_table("", "", pd.DataFrame(rows))


def _plots(members: Sequence[Line], runs: Path) -> Iterator[Plot]:
    if strange := [line["id"] for line in members if not re.fullmatch(r"\w+", str(line["id"]))]:
        raise ValueError(f"{strange[0]!r} is no id of a run: its files would be looked for elsewhere than in {runs}")
    first = members[0]
    history = runs / first["id"] / "history.jsonl"
    if history.is_file():
        yield _plot(CURVES.format(**first), plot_history(read_lines(history)))
    kept = [line for line in members if (runs / line["id"] / "details.safetensors").is_file()]
    details = [load_file(runs / line["id"] / "details.safetensors") for line in kept]
    if not details or "confidence" not in details[0]:
        return
    yield _plot(CONFIDENCE.format(**kept[0]), plot_confidence(details[0]["histogram"]))
    routes = Counter(line["route"] for line in kept)
    caption = ANSWERS.format(routes=", ".join(f"{route} in {count}" for route, count in sorted(routes.items())))
    yield _plot(caption, plot_answers(details))
    if first["metric"] != "f1" and "middle1" not in details[0]:
        yield _plot(DEFERRAL, plot_deferral_runs(details, first["metric"]))


def _plot(caption: str, figure: "Figure") -> Plot:
    from PIL import Image  # comes with matplotlib

    drawn, packed = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    # A page of a hundred plots can be committed: in few colours they take a fourth of the space.
    Image.open(drawn).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(packed, "png", optimize=True)
    return Plot(caption, base64.b64encode(packed.getvalue()).decode())
