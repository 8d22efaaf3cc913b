import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

from accuracy import ROOT, fill

PAGES = "README.md", "docs/accuracy.md"


def test_pages_equal_the_lines(tmp_path):
    (tmp_path / "docs").mkdir()
    for page in PAGES:
        shutil.copy(ROOT / page, tmp_path / page)
    fill(tmp_path)
    for page in PAGES:
        filled = (tmp_path / page).read_text(encoding="utf-8")
        assert filled == (ROOT / page).read_text(encoding="utf-8"), page
    assert (tmp_path / "docs" / "accuracy.svg").read_text().count("<g id=") > 20
