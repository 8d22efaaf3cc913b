import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from mowst import GCN, MLP, GraphTask, MonotoneGate, Mowst, TrainConfig, fit, seed_everything
from mowst.notebook import make_html
from mowst.train.plots import COLORS

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}


class Page(HTMLParser):
    r"""Reads the text of each element, and checks that elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.rows = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(text)
        elif text.strip():
            self.texts.append((self.open[-1], text))


@pytest.fixture(scope="module")
def result(make_task):
    seed_everything(0)
    model = Mowst(MLP(**SIZES), GCN(**SIZES), MonotoneGate())
    config = TrainConfig(epochs=3, rounds=1, gate_folds=2)
    return fit(model, make_task(), config=config)


def test_a_result_and_a_task_are_tables_of_one_page(result, task):
    page = Page(f"<html><body>{result._repr_html_()}{task._repr_html_()}</body></html>")
    assert [text for tag, text in page.texts if tag == "caption"] == ["mowst", "graph"]
    rows = {row[0]: row[1:] for row in page.rows}
    assert rows["score, %"] == ["train", "val", "test"]
    for part in ("weak", "strong", "mixture"):
        scores = result.scores[part].values()
        assert rows[part] == [f"{100 * score:.2f}" for score in scores]
    assert rows["predicts with"] == [result.route]
    assert rows["deferred"] == [f"{100 * result.deferred_share:.1f} %"]
    assert rows["training"] == [f"{result.seconds:.1f} s"]
    assert rows["nodes"] == ["30"] and rows["train nodes"] == ["15"]
    assert rows["metric"] == ["accuracy"] and rows["classes"] == ["3"]


def test_the_table_of_a_task_has_the_lines_of_its_report(data):
    data.x[:, 0] = 1.0
    data.y = data.y.unsqueeze(1)
    task = GraphTask.from_data(data)
    notes = [text.strip() for tag, text in Page(task._repr_html_()).texts if tag == "p"]
    assert notes == [line.strip() for line in str(task.report()).splitlines()[1:]]
    assert any(note.startswith("repaired: ") for note in notes)
    assert any("1 of 6 features are constant" in note for note in notes)


def test_a_task_without_test_split_and_a_method_of_one_expert_are_shown(data):
    del data.test_mask
    task = GraphTask.from_data(data)
    seed_everything(0)
    model = Mowst(MLP(**SIZES), GCN(**SIZES), MonotoneGate())
    result = fit(model, task, "strong", TrainConfig(epochs=2))
    rows = {row[0]: row[1:] for row in Page(result._repr_html_()).rows}
    assert rows["score, %"] == ["train", "val"] and "weak" not in rows
    assert "test nodes" not in dict.fromkeys(row[0] for row in Page(task._repr_html_()).rows)


def test_text_is_escaped(data):
    name = "<script>alert('&')</script>"
    text = make_html(name, [(name, name)], notes=[name])
    assert "<script" not in text
    page = Page(text)
    assert page.texts == [("caption", name), ("p", name)] and page.rows == [[name, name]]
    assert "<script" not in GraphTask.from_data(data, name=name)._repr_html_()


def test_a_result_plots_its_scores_by_part(result):
    pytest.importorskip("matplotlib")
    figure = result.plot()
    score = figure.axes[0]
    drawn = torch.cat([torch.as_tensor(line.get_ydata()) for line in score.lines])
    assert drawn.tolist() == pytest.approx([100 * record["val"] for record in result.history])
    parts = dict.fromkeys((record["stage"], record["part"]) for record in result.history)
    assert [line.get_color() for line in score.lines] == [COLORS[part] for _, part in parts]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_or_records_says_what_is_missing(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install mowst\[plots\]"):
        result.plot()
    empty = replace(result, history=[])
    with pytest.raises(ValueError, match="nothing to plot: no epoch was evaluated"):
        empty.plot()
