import json

import pytest

from mowst.study.leaderboard import make_leaderboard
from mowst.study.report import write_report

FITTED = "the gate is fitted to validation labels (gate_fit=train fits it to training labels)"


def read_rows(lines):
    return make_leaderboard(lines).cells.to_dict("records")


def test_ten_seeds_give_the_line_that_the_leaderboard_asks_for(make_line):
    lines = []
    for seed in range(10):
        options = {
            "seed": seed,
            "test": 0.70 + 0.01 * (seed % 2),
            "val": 0.75,
            "parameters": 110120,
        }
        lines.append(make_line(data="ogbn-arxiv", settings={"gate_fit": "train"}, **options))
    assert read_rows(lines) == [
        {
            "data": "ogbn-arxiv",
            "GNN": "gcn",
            "method": "mowst",
            "test": "0.7050 ± 0.0053",  # the unbiased std of torch.std
            "validation": "0.7500 ± 0.0000",
            "#Params": "110,120",
            "seeds": "10",
            "remarks": "",
        }
    ]


def test_fewer_seeds_and_a_gate_fitted_to_validation_labels_are_remarked(make_line):
    mixture = [make_line(data="ogbn-arxiv", seed=seed) for seed in range(3)]
    alone = [make_line(data="ogbn-arxiv", method="strong", seed=seed) for seed in range(3)]
    strong, mowst = read_rows(mixture + alone)
    assert (strong["method"], strong["remarks"]) == ("strong", "3 of 10 seeds")
    assert (mowst["method"], mowst["remarks"]) == ("mowst", f"3 of 10 seeds; {FITTED}")
    (one,) = read_rows(mixture[:1])
    assert one["test"] == "0.8000"


@pytest.mark.parametrize(
    "change",
    [{"data": "cora"}, {"split": "random-0"}, {"metric": "f1"}, {"status": "failed", "error": ""}],
)
def test_other_data_splits_metrics_and_failures_are_no_entries(make_line, change):
    lines = [make_line(**{"data": "ogbn-arxiv", **change})]
    assert read_rows(lines) == []


def test_the_report_has_the_leaderboard_of_ogb_data_alone(make_line, tmp_path):
    for data in ("cora", "ogbn-arxiv"):
        (tmp_path / "results.jsonl").write_text(json.dumps(make_line(data=data)) + "\n")
        page = write_report(tmp_path)
        for path in (page, tmp_path / "results.md", tmp_path / "results.tex"):
            assert ("OGB leaderboard" in path.read_text()) == (data == "ogbn-arxiv"), path
