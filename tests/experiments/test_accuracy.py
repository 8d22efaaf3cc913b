import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from accuracy import PAGE, fill


def test_the_page_says_what_the_lines_say(tmp_path):
    page = tmp_path / "accuracy.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    fill(page)
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
    assert page.with_suffix(".svg").read_text().count("<g id=") > 20
