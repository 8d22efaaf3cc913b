import re
from pathlib import Path

import pytest

import mowst

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "experiments" / "README.md"]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", GUARANTEES)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_guarantee_has_a_test_that_exists(file, name):
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.M)


def test_every_row_of_the_guarantees_names_a_test():
    rows = [line for line in GUARANTEES.splitlines() if re.match(r"\| [^|*-]+ \| ", line)][1:]
    assert len(rows) > 20 and all("`tests/" in row for row in rows)


def test_the_api_page_lists_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text().split("## Further modules")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.M)) == sorted(mowst.__all__)


def find_anchors(path):
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_titles_that_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in find_anchors(target), link
