import sys

import pandas as pd
import pytest

from mowst.serve import plot_deferral

SHARES = pd.Index([0.0, 0.5, 1.0], name="share")
SCORES = {"gate": [60.0, 75.0, 80.0], "random": [60.0, 70.0, 80.0], "mixture": 82.0}
CURVES = pd.DataFrame(SCORES, index=SHARES)
COST = pd.DataFrame({"cost": [0.2, 0.9, 1.1], "score": [60.0, 75.0, 80.0]}, index=SHARES)


def test_the_panels_draw_every_curve_and_the_mixture():
    pytest.importorskip("matplotlib")
    by_share, by_cost, _ = plot_deferral(CURVES.rename_axis(columns="accuracy"), COST).axes
    lines = {line.get_label(): line for line in by_share.lines}
    assert set(lines) == {"gate", "random", "mixture"} and by_share.get_ylabel() == "accuracy, %"
    assert list(lines["gate"].get_xdata()) == [0, 50, 100]
    assert list(lines["gate"].get_ydata()) == [60, 75, 80]
    assert set(lines["mixture"].get_ydata()) == {82} and lines["random"].get_color() == "grey"
    (points,) = by_cost.collections
    expected = [(20, 60), (90, 75), (110, 80)]
    assert [tuple(point) for point in points.get_offsets()] == [pytest.approx(p) for p in expected]
    assert points.get_array().tolist() == [0, 50, 100]
    assert set(by_cost.lines[-1].get_ydata()) == {82}


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install mowst\[plots\]"):
        plot_deferral(CURVES, COST)
