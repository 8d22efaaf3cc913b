import sys

import numpy as np
import pytest
import torch

from mowst.study import figures, plot_history
from mowst.study.figures import (
    plot_confidence,
    plot_deferral_runs,
    plot_differences,
    plot_predictions,
)
from mowst.study.tables import ALONE, difference_table


@pytest.fixture(autouse=True)
def needs_matplotlib(request):
    if "without_matplotlib" not in request.node.name:
        pytest.importorskip("matplotlib")


def test_the_curves_of_each_stage_follow_each_other(history):
    score, loss, confidence = plot_history(history).axes
    stages = list(score.lines)
    assert [list(line.get_xdata()) for line in stages] == [[k, k + 1] for k in range(1, 13, 2)]
    assert list(stages[0].get_ydata()) == pytest.approx([70, 80]) and stages[0].get_markevery() == [
        1
    ]
    assert [line.get_color() for line in stages] == 3 * [
        figures.COLORS["weak"],
        figures.COLORS["strong"],
    ]
    assert (loss.get_ylabel(), confidence.get_xlabel()) == ("validation loss", "evaluation")
    (legend,) = score.figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["pretrain weak", "pretrain strong", "rounds: weak", "rounds: strong"]


def test_the_best_epochs_are_in_the_picture_also_if_lower_is_better(history):
    falling = [record | {"val": 1 - record["val"]} for record in history]
    score = plot_history(falling).axes[0]
    dots = [line.get_ydata()[line.get_markevery()[0]] for line in score.lines]
    assert score.get_ylim()[0] < min(dots)


def test_an_expert_alone_has_no_confidence_to_draw(history):
    assert len(plot_history([record for record in history if not record["round"]]).axes) == 2


def test_each_difference_is_a_point_on_its_interval_filled_if_supported(make_line):
    lines = []
    for seed in range(4):
        for data, gain in (("cora", 0.05), ("digits", 0.01 * (-1) ** seed)):
            noise = 0.001 * seed
            lines.append(make_line(data, method="strong", seed=seed, test=0.8))
            for method, more in (("mowst", 0), ("mowst-star", 0.02)):
                test = 0.8 + gain + noise + more
                lines.append(make_line(data, method=method, seed=seed, test=test))
    table = difference_table(lines)
    rows = table[table["against"] == "strong"]
    (panel,) = plot_differences(rows).axes
    assert [text.get_text() for text in panel.get_yticklabels()] == ["cora, gcn", "digits, gcn"]
    drawn = {}
    for line in panel.lines:
        if len(line.get_xdata()) == 1:
            drawn[float(line.get_xdata()[0])] = line
    intervals = [tuple(line.get_xdata()) for line in panel.lines if len(line.get_xdata()) == 2]
    assert len(drawn) == len(rows) == 4 and len(table[table["against"] == ALONE]) == 4
    for row in rows.itertuples():
        point = drawn[row.mean]
        assert (row.low, row.high) in intervals
        assert round(point.get_ydata()[0]) == ["cora", "digits"].index(row.data)
        assert (point.get_markerfacecolor() != "white") == (row.p_holm < 0.05)
    assert {point.get_markerfacecolor() == "white" for point in drawn.values()} == {True, False}
    (legend,) = panel.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["mowst", "mowst-star"]


def test_the_histogram_is_drawn_in_percent_with_a_row_for_each_round():
    histogram = torch.zeros(2, 20, dtype=torch.long)
    histogram[0, 10], histogram[1, 0], histogram[1, 19] = 8, 2, 6
    panel = plot_confidence(histogram).axes[0]
    assert [text.get_text() for text in panel.texts] == ["100", "25", "75"]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["pretraining", "1"]
    assert panel.texts[2].get_position() == pytest.approx((0.975, 1.5))


def test_accuracy_and_number_of_nodes_in_every_bin(details):
    top, _, _, bottom, degree, homophily = plot_predictions([details, details]).axes
    scores = {line.get_label(): line.get_ydata() for line in top.lines}
    assert scores["weak"][[0, 9]].tolist() == [0, 100] and scores["strong"][[0, 9]].tolist() == [
        100,
        0,
    ]
    assert np.isnan(scores["mixture"][1:9]).all()
    weak, deferred = ([bar.get_height() for bar in bars] for bars in bottom.containers)
    assert (weak[9], deferred[9]) == (pytest.approx(95, rel=1e-4), pytest.approx(5, rel=1e-4))
    assert sum(weak) + sum(deferred) == pytest.approx(200)
    assert [text.get_text() for text in degree.texts] == ["40", "40", "80", "40"]
    assert [text.get_text() for text in degree.get_xticklabels()] == ["0", "1", "2-3", "4-7"]
    assert "20% have none" in homophily.get_xlabel()
    assert [text.get_text() for text in homophily.texts if text.get_text()] == ["160"]


def test_the_accuracy_of_few_nodes_is_not_drawn(details):
    details["confidence"][:9] = 0.25
    top = plot_predictions([details]).axes[0]
    assert np.isnan([line.get_ydata()[2] for line in top.lines]).all()


def test_deferral_runs_from_the_weak_to_the_strong_expert_under_the_oracle(details):
    (panel,) = plot_deferral_runs([details, details], "accuracy").axes
    curves = {line.get_label(): line.get_ydata() for line in panel.lines}
    for name in ("gate", "random", "oracle"):
        assert curves[name][[0, -1]] == pytest.approx([50, 50])
    assert curves["gate"] == pytest.approx(curves["oracle"]) and curves["gate"][
        50
    ] == pytest.approx(100)
    assert set(curves["mixture"]) == {100}


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, details):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install mowst\[plots\]"):
        plot_confidence(details["histogram"])
