import base64
import csv
import json
import re
import shutil
import sys
from html.parser import HTMLParser

import pytest

from mowst.study.report import write_report

FILES = ("report.html", "results.md", "results.csv", "differences.csv", "results.tex")


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.alts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]
        self.alts += [value for key, value in attrs if key == "alt"]


def test_the_page_needs_no_other_file_shows_everything_and_ignores_the_order_of_lines(
    study, tmp_path_factory
):
    pytest.importorskip("matplotlib")
    text = write_report(study).read_text()
    check_page(text)
    lines = (study / "results.jsonl").read_text().splitlines(keepends=True)
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(study / "runs", copy / "runs")
    (copy / "results.jsonl").write_text("".join(lines[::-1]))
    write_report(copy)
    for name in FILES:
        assert (copy / name).read_bytes() == (study / name).read_bytes()


def check_page(text):
    page = Page(text)
    assert page.tags.count("details") == 2 and not {"script", "link", "iframe"} & set(page.tags)
    # Two references, four plots of mowst, and one of an expert alone.
    assert page.tags.count("img") == len(page.alts) == 2 + 4 + 1
    tables, images = page.links[:4], page.links[4:]
    assert sorted(tables) == sorted(FILES[1:])
    assert text.index("data:image/png") < text.index("Test scores")
    for link in images:
        assert link.startswith("data:image/png;base64,")
        assert base64.b64decode(link.partition(",")[2]).startswith(b"\x89PNG")
    for shown in (
        "81.00 ± 1.00 (3)",
        "86.10 ± 1.10 (3, 1 failed)",
        "abc1234-dirty",
        "torch 2.13.0",
        "Settings that differ from the defaults: lr: 0.02.",
    ):
        assert shown in text
    assert "matplotlib" not in text
    assert "mowst run &#39;my rows.yaml&#39;" in text and "6 finished and 1 failed runs" in text
    assert "RuntimeError: &lt;b&gt;out of | memory&lt;/b&gt;" in text  # errors are no markup


@pytest.mark.parametrize("name", ["history.jsonl", "details.safetensors"])
@pytest.mark.parametrize("content", [b"", b'{"a": 1}\n'])
def test_a_damaged_file_of_a_run_is_named(study, name, content):
    pytest.importorskip("matplotlib")
    first = (study / "results.jsonl").read_text().splitlines(keepends=True)[0]
    (study / "results.jsonl").write_text(first)
    (study / "runs" / f"{0:016x}" / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{0:016x}/{name} is not a readable"):
        write_report(study)


def test_a_line_whose_id_is_a_path_is_refused(study):
    pytest.importorskip("matplotlib")
    line = json.loads((study / "results.jsonl").read_text().splitlines()[0]) | {
        "id": "../../elsewhere",
        "data": "a",
    }
    with open(study / "results.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match="'../../elsewhere' is not the id of a run"):
        write_report(study)


def test_the_files_beside_the_page_hold_its_numbers(study, tmp_path):
    shutil.rmtree(study / "runs")
    page = write_report(study, tmp_path / "out" / "page.html")
    folder = page.parent
    assert sorted(path.name for path in folder.iterdir()) == sorted(["page.html", *FILES[1:]])
    with open(folder / "results.csv", newline="") as file:
        rows = {(row["data"], row["method"]): row for row in csv.DictReader(file)}
    assert float(rows["cora", "mowst"]["mean"]) == pytest.approx(86.1)
    assert (rows["cora", "mowst"]["runs"], rows["cora", "mowst"]["failed"]) == ("3", "1")
    assert re.search(
        r"\| cora \| gcn \| accuracy \| 81.00 ± 1.00 \(3\) \|", (folder / "results.md").read_text()
    )
    assert r"81.00 $\pm$ 1.00 (3)" in (folder / "results.tex").read_text()


def test_without_matplotlib_the_page_has_no_plots_and_says_so(study, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = write_report(study).read_text()
    told = "because matplotlib is not installed: pip install mowst[plots]"
    assert "img" not in Page(text).tags and text.count(told) == caplog.text.count(told) == 1
    assert "86.10 ± 1.10 (3, 1 failed)" in text and "Settings that differ" in text


def test_with_nothing_to_draw_matplotlib_is_not_needed(tmp_path, make_line, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "results.jsonl").write_text(json.dumps(make_line(method="strong")) + "\n")
    text = write_report(tmp_path).read_text()
    assert "img" not in Page(text).tags and "matplotlib" not in text


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="results.jsonl"):
        write_report(tmp_path)
