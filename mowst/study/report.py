r"""The report of a study: tables in Markdown, CSV and LaTeX, and an HTML page with plots."""

import base64
import json
import logging
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safetensors.torch import load_file

from mowst.io import atomic_write, parsing
from mowst.metrics import EXACT
from mowst.study import figures
from mowst.study.leaderboard import make_leaderboard
from mowst.study.lines import RESULTS, read_lines, read_runs
from mowst.study.markup import Table, make_table, make_tables
from mowst.study.run_spec import RunSpec
from mowst.study.tables import (
    ALONE,
    PLACE,
    Line,
    difference_table,
    failed_table,
    results_table,
    run_table,
    sort_lines,
)
from mowst.train.plots import plot_history

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

NO_PLOTS = "The plots are missing, because matplotlib is not installed: pip install mowst[plots]"
PROVENANCE = """What made the finished and the failed runs. A commit that ends in -dirty had
uncommitted changes."""
HISTORY = """Learning curves of split {split}, seed {seed}, in the color of the trained part; a dot
is the best epoch of a stage."""
CONFIDENCE = """Confidence of all nodes after each round, in % of the nodes; split {split}, seed
{seed}."""
PREDICTIONS = """Accuracy of the experts on the test nodes of all runs by confidence, degree and
local homophily; routes: {routes}."""
DEFERRAL = (
    "Score by the share of deferred test nodes, the least confident first; pale: single runs."
)
COLORS = 32
PIXELS = 80  # per inch
RECORD = ("stage", "round", "part", "val", "val_loss", "confidence", "best")


class Plot(NamedTuple):
    caption: str
    png: str
    width: int


class Section(NamedTuple):
    title: str
    runs: Table
    plots: list[Plot]
    settings: str


def write_report(folder: str | PathLike[str], out: str | PathLike[str] | None = None) -> Path:
    r"""Writes the report of a study and returns the path of the page, which needs no other file.
    Next to it are :obj:`results.md`, :obj:`results.csv`, :obj:`differences.csv` and
    :obj:`results.tex`. The same lines and run folders give the same bytes. Without matplotlib, the
    page has no plots and says so.

    Args:
        folder (str): The folder of the study, see :func:`~mowst.study.run_study`.
        out (str, optional): The page to write, by default :obj:`report.html` in the folder.
            (default: :obj:`None`)

    Raises:
        FileNotFoundError: If the folder has no results.
        ValueError: If a line is damaged, or two runs have the same settings.
    """
    from jinja2 import Environment, StrictUndefined

    folder = Path(folder)
    page = Path(out) if out else folder / "report.html"
    lines = sort_lines(read_runs(folder, reported=True))
    if not lines:
        raise FileNotFoundError(f"'{folder}' has no {RESULTS} with a line: give a study's folder")
    results, differences = results_table(lines), difference_table(lines)
    tables = make_tables(results, differences, failed_table(lines))
    leaderboard = make_leaderboard(lines)
    tables += [leaderboard] if leaderboard.rows else []
    tables.append(_make_provenance(lines))
    summary = _summarize(lines)
    markdown = [f"# Results of a study\n\n{summary}\n"]
    markdown.extend(table.to_markdown() for table in tables)
    texts = {
        "results.md": "\n".join(markdown),
        "results.csv": results.to_csv(index=False),
        "differences.csv": differences.to_csv(index=False),
        "results.tex": "\n".join(table.to_latex() for table in tables),
    }
    for name, text in texts.items():
        _write_text(page.with_name(name), text)
    template = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    options: Any = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    jinja = Environment(undefined=StrictUndefined, **options)
    shown: dict[str, Any] = {"summary": summary, "files": list(texts), "tables": tables}
    try:
        shown["plots"] = _plot_differences(differences)
        shown["sections"] = _make_sections(lines, folder / "runs")
    except ImportError:
        logger.warning(NO_PLOTS)
        shown.update(missing=NO_PLOTS, plots=[], sections=_make_sections(lines, None))
    _write_text(page, jinja.from_string(template).render({"missing": "", **shown}))
    return page


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path, mode="w") as file:
        file.write(text)


def _summarize(lines: Sequence[Line]) -> str:
    counts = Counter(line["status"] for line in lines)
    data = ", ".join(sorted({line["data"] for line in lines}))
    strong = ", ".join(sorted({line["strong"] for line in lines}))
    runs = f"{counts['finished']} finished and {counts['failed']} failed runs"
    return f"{runs}; data: {data}; GNNs: {strong}."


def _make_provenance(lines: Sequence[Line]) -> Table:
    import pandas as pd

    counts: Counter[tuple[Any, ...]] = Counter()
    for line in lines:
        if line.get("environment"):
            counts[tuple(_describe_environment(line["environment"]).items())] += 1
    rows = [{**dict(made_by), "runs": str(count)} for made_by, count in sorted(counts.items())]
    return make_table("Provenance", PROVENANCE, pd.DataFrame(rows))


def _describe_environment(environment: Mapping[str, Any]) -> dict[str, str]:
    machine = environment.get("machine", {})
    versions = environment.get("versions", {})
    parts = [machine.get(key) for key in ("processor", "cuda", "platform")]
    return {
        "commit": environment.get("commit") or "",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "python": environment.get("python", ""),
        "machine": ", ".join(part for part in parts if part),
        "threads": str(environment.get("threads", machine.get("threads", ""))),
        "command": shlex.join(environment.get("command", [])),
    }


def _plot_differences(differences: "pd.DataFrame") -> list[Plot]:
    plots = []
    for against, rows in differences.groupby("against", sort=False):
        caption = f"Points above '{against}', trained separately."
        if against == ALONE:
            caption = "Points above the strong expert of the same run, trained alone."
        plots.append(_draw_plot(caption, figures.plot_differences(rows), sharpness=2))
    return plots


def _make_sections(lines: Sequence[Line], folder: Path | None) -> list[Section]:
    # Without a folder, there are no plots.
    by_id = {line["id"]: line for line in lines}
    runs = run_table(lines)
    sections = []
    for place, group in runs[runs["finished"]].groupby(PLACE, sort=False):
        members = [by_id[id] for id in group["id"]]
        plots = [] if folder is None else _make_plots(members, folder)
        settings = _describe_settings(members[0])
        sections.append(Section(", ".join(place), _make_runs(members), plots, settings))
    return sections


def _describe_settings(line: Line) -> str:
    # The settings that differ from the defaults.
    defaults = RunSpec(data="", strong=line["strong"]).all_settings
    missing = object()
    texts = []
    for key, value in line["settings"].items():
        if value != defaults.get(key, missing):
            texts.append(f"{key}: {json.dumps(value)}")
    return ", ".join(texts)


def _make_runs(members: Sequence[Line]) -> Table:
    import pandas as pd

    rows = []
    for line in members:
        row = {key: str(line[key]) for key in ("id", "split", "seed", "route")}
        for split in ("train", "val", "test"):
            score = line[split]
            row[f"{split}, %"] = "" if score is None else f"{100 * score:.2f}"
        row["evaluations"] = str(line["evaluations"])
        row["training, s"] = f"{line['seconds']:.1f}"
        rows.append(row)
    return make_table("", "", pd.DataFrame(rows))


def _make_plots(members: Sequence[Line], folder: Path) -> list[Plot]:
    for line in members:
        if not re.fullmatch(r"\w+", str(line["id"])):
            raise ValueError(f"{line['id']!r} is not the id of a run in {folder}")
    plots = []
    history = folder / members[0]["id"] / "history.jsonl"
    if history.is_file():
        caption = HISTORY.format(**members[0])
        plots.append(_draw_plot(caption, plot_history(_read_history(history))))
    kept, details = [], []
    for line in members:
        path = folder / line["id"] / "details.safetensors"
        if path.is_file():
            kept.append(line)
            with parsing(path, "safetensors file"):
                details.append(load_file(path))
    if not details or "confidence" not in details[0]:
        return plots
    figure = figures.plot_confidence(details[0]["histogram"])
    plots.append(_draw_plot(CONFIDENCE.format(**kept[0]), figure))
    counts = sorted(Counter(line["route"] for line in kept).items())
    routes = ", ".join(f"{route} in {count}" for route, count in counts)
    plots.append(_draw_plot(PREDICTIONS.format(routes=routes), figures.plot_predictions(details)))
    if members[0]["metric"] in EXACT:
        figure = figures.plot_deferral_runs(details, members[0]["metric"])
        plots.append(_draw_plot(DEFERRAL, figure))
    return plots


def _read_history(path: Path) -> list[dict[str, Any]]:
    with parsing(path, "history of a run"):
        records = read_lines(path)
        if not records:
            raise ValueError("it is empty")
        for record in records:
            missing = [key for key in RECORD if key not in record]
            if missing:
                raise ValueError(f"a record lacks {', '.join(missing)}")
    return records


def _draw_plot(caption: str, figure: "Figure", sharpness: int = 1) -> Plot:
    from PIL import Image  # comes with matplotlib

    drawn, packed = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=sharpness * PIXELS)
    # In few colors, a page of a hundred plots takes a fourth of the space, and can be committed.
    image = Image.open(drawn).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    image.save(packed, "png", optimize=True)
    png = base64.b64encode(packed.getvalue()).decode()
    return Plot(caption.replace("\n", " "), png, image.width // sharpness)
