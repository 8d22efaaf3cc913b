import json

import pytest
from safetensors.torch import load_file

from mowst.study import Cell, append_line, read_lines, run_cell
from mowst.study.run import failed_line, peak_mib

QUICK = {"epochs": 4, "rounds": 1, "hidden_channels": 8, "gate_folds": 2}
LINE = {"id", "name", "data", "strong", "method", "seed", "split", "metric", "sizes", "preprocessing", "status"}
LINE |= {"route", "train", "val", "test", "expected", "weak_share", "shares", "alone", "start", "choices", "scores"}
LINE |= {"seconds", "total_seconds", "evaluations", "peak_mib", "parameters", "settings", "environment"}


def test_a_line_has_everything_and_survives_its_file(tmp_path):
    records = []
    cell = Cell("digits", settings=QUICK, published={"mean": 90.0})
    line = run_cell(cell, callbacks=[records.append], folder=tmp_path / "run")
    assert set(line) == LINE | {"published"} and line["id"] == cell.id
    append_line(tmp_path / "results.jsonl", line)
    (read,) = read_lines(tmp_path / "results.jsonl")
    assert read == json.loads(json.dumps(line))
    assert 0 < line["seconds"] < line["total_seconds"] and line["peak_mib"] > 50
    history = [json.loads(text) for text in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert history == records and len(history) == line["evaluations"]
    details = load_file(tmp_path / "run" / "details.safetensors")
    share = (details["mixture"] == details["y"]).float().mean()
    assert float(share) == pytest.approx(line["scores"]["mixture"]["test"])
    assert details["histogram"].shape == (2, 20)


def test_the_same_cell_gives_the_same_scores_and_another_seed_does_not():
    first, second, other = (run_cell(Cell("digits", method="weak", seed=k, settings=QUICK)) for k in (0, 0, 1))
    assert first["scores"] == second["scores"] != other["scores"]


def test_parameters_are_those_that_the_method_has():
    def parameters(method):
        return run_cell(Cell("digits", method=method, settings=QUICK | {"epochs": 1}))["parameters"]

    mlp = 32 * 8 + 8 + 8 * 10 + 10
    assert parameters("weak") == parameters("strong") == mlp
    assert parameters("mowst") > 2 * mlp


def test_settings_of_the_task_reach_it():
    cell = Cell("digits", method="weak", settings=QUICK | {"metric": "f1", "transforms": ["self-loops"]})
    line = run_cell(cell)
    assert line["metric"] == "f1" and line["preprocessing"][-1] == "self-loops" and line["expected"] is None


def test_a_failed_line_says_what_and_where():
    cell = Cell("digits", settings={"strong_args": {"norn": "batch_norm"}})
    with pytest.raises(Exception, match="norn") as raised:
        run_cell(cell)
    line = failed_line(cell, raised.value)
    assert line["status"] == "failed" and line["id"] == cell.id and "test" not in line
    assert line["error"].startswith(f"{raised.type.__name__}: ") and "(line " in line["error"]
    assert failed_line(cell, "gone")["error"] == "gone"


def test_the_peak_is_of_this_process():
    before = peak_mib()
    block = bytearray(300 * 2**20)
    assert peak_mib() >= before and peak_mib() > len(block) / 2**20
