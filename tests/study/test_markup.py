import pandas as pd
import pytest

from mowst.study.markup import format_spread, make_table, make_tables
from mowst.study.tables import difference_table, failed_table, results_table


def tables_of(lines):
    tables = make_tables(results_table(lines), difference_table(lines), failed_table(lines))
    return {table.title: table for table in tables}


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((81.234, 0.456), "81.23 ± 0.46"),
        ((81.234, float("nan")), "81.23"),
        ((float("nan"), float("nan")), ""),
    ],
)
def test_what_is_not_known_is_not_printed(numbers, text):
    assert format_spread(*numbers) == text


def test_the_three_formats_say_the_same():
    cells = pd.DataFrame({"data": ["a_b | c"], "score, %": ["81.23 ± 0.46"]})
    table = make_table("Scores", "How to\nread it.", cells, pd.DataFrame({"score, %": [True]}))
    assert table.rows == [[("a_b | c", False), ("81.23 ± 0.46", True)]]
    heading, note, *lines = table.to_markdown().rstrip().replace("\n\n", "\n").splitlines()
    assert (heading, note) == ("## Scores", "How to read it.")
    assert lines == ["| data | score, % |", "| --- | --- |", r"| a_b \| c | **81.23 ± 0.46** |"]
    assert (
        r"a\_b | c & \textbf{81.23 $\pm$ 0.46} \\" in table.to_latex()
        and r"score, \%" in table.to_latex()
    )


def test_a_cell_of_the_scores_holds_mean_std_runs_and_failures(make_line):
    lines = [make_line(seed=0, test=0.8), make_line(seed=1, test=0.82), make_line(method="strong")]
    lines += [
        make_line(seed=2, status="failed", error="no"),
        make_line(data="digits", status="failed", error="no"),
    ]
    scores = tables_of(lines)["Test scores"].cells
    assert list(scores.columns) == ["data", "GNN", "metric", "strong", "mowst"]
    assert scores.to_numpy().tolist() == [
        ["cora", "gcn", "accuracy", "80.00 (1)", "81.00 ± 1.41 (2, 1 failed)"],
        ["digits", "gcn", "accuracy", "", "(1 failed)"],
    ]


def test_the_supported_best_is_bold_where_it_stands(make_line):
    gains = (0.05, 0.051, 0.049)
    lines = [make_line(seed=k, test=0.8 + gain) for k, gain in enumerate(gains)]
    lines += [make_line(seed=k, method="strong", test=0.8) for k in range(3)]
    tables = tables_of(lines)
    assert tables["Test scores"].rows[0][3:] == [
        ("80.00 ± 0.00 (3)", False),
        ("85.00 ± 0.10 (3)", True),
    ]
    assert [cell for row in tables["Differences"].rows for cell, bold in row if bold] == [
        "+5.00 ± 0.10",
        "+7.00 ± 0.10",
    ]


def test_uncertified_published_values_are_marked(make_line):
    certified = {"mean": 81.0, "std": 0.4, "certified": True, "source": "table 2"}
    lines = [
        make_line(published=certified),
        make_line("digits", published={**certified, "certified": False}),
    ]
    published = tables_of(lines)["Published values"].cells
    assert list(published["published"]) == ["81.00 ± 0.40", "81.00 ± 0.40 (uncertified)"]


def test_published_mowst_is_held_against_sampled_routing(make_line):
    known, lines = {"published": {"mean": 81.0, "std": 0.4}}, []
    for method in ("strong", "mowst", "mowst-star"):
        lines += [
            make_line(method=method, seed=k, test=0.8, expected=0.7 + 0.02 * k, **known)
            for k in range(2)
        ]
    lines += [make_line("minesweeper", test=0.8, expected=None, **known)]
    published = tables_of(lines)["Published values"].cells.set_index(["data", "method"])
    for place, scored, ours, difference in (
        (("cora", "mowst"), "sampled routing", "71.00 ± 1.41 (2)", "-10.00"),
        (("cora", "mowst-star"), "prediction", "80.00 ± 0.00 (2)", "-1.00"),
        (("cora", "strong"), "prediction", "80.00 ± 0.00 (2)", "-1.00"),
        (("minesweeper", "mowst"), "prediction", "80.00 (1)", "-1.00"),
    ):
        assert list(published.loc[place, ["score of", "ours", "difference"]]) == [
            scored,
            ours,
            difference,
        ]


def test_a_published_value_without_std_or_certificate_is_uncertified(make_line):
    published = tables_of([make_line(published={"mean": 81.0})])["Published values"].cells
    assert list(published["published"]) == ["81.00 (uncertified)"]


def test_tables_without_rows_are_left_out(make_line):
    assert list(tables_of([make_line(method="strong")])) == ["Test scores", "Costs"]
