import json

import pytest
from safetensors.torch import load_file

from mowst.study import RunSpec, append_line, read_lines, run_one
from mowst.study.run import make_failed_line, measure_peak_mib

QUICK = {"epochs": 4, "rounds": 1, "hidden_channels": 8, "gate_folds": 2}
LINE = {
    *("id", "name", "data", "strong", "method", "has_gate", "seed", "split", "metric", "sizes"),
    *("preprocessing", "status", "route", "train", "val", "test", "expected", "deferred_share"),
    *("alone", "start", "choices", "scores", "seconds", "total_seconds", "evaluations", "peak_mib"),
    *("parameters", "settings", "environment", "higher_is_better"),
}


def test_a_line_has_everything_and_survives_its_file(tmp_path):
    records = []
    spec = RunSpec("digits", settings=QUICK, published={"mean": 90.0})
    line = run_one(spec, callbacks=[records.append], folder=tmp_path / "run")
    assert set(line) == LINE | {"published"} and line["id"] == spec.id
    append_line(tmp_path / "results.jsonl", line)
    (read,) = read_lines(tmp_path / "results.jsonl")
    assert read == json.loads(json.dumps(line))
    assert 0 < line["seconds"] < line["total_seconds"] and line["peak_mib"] > 50
    history = [
        json.loads(text) for text in (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    ]
    assert history == records and len(history) == line["evaluations"]
    details = load_file(tmp_path / "run" / "details.safetensors")
    share = (details["mixture"] == details["y"]).float().mean()
    assert float(share) == pytest.approx(line["scores"]["mixture"]["test"])
    assert details["histogram"].shape == (2, 20)


def test_the_same_cell_gives_the_same_scores_and_another_seed_does_not():
    first, second, other = (
        run_one(RunSpec("digits", method="weak", seed=k, settings=QUICK)) for k in (0, 0, 1)
    )
    assert first["scores"] == second["scores"] != other["scores"]


def test_parameters_are_those_that_the_method_has():
    def parameters(method):
        return run_one(RunSpec("digits", method=method, settings=QUICK | {"gate_fit": "train"}))[
            "parameters"
        ]

    mlp = 32 * 8 + 8 + 8 * 10 + 10
    assert parameters("weak") == parameters("strong") == mlp
    assert parameters("mowst") > 2 * mlp


def test_settings_of_the_task_reach_it():
    spec = RunSpec(
        "digits", method="weak", settings=QUICK | {"metric": "f1", "transforms": ["self-loops"]}
    )
    line = run_one(spec)
    assert (
        line["metric"] == "f1"
        and line["preprocessing"][-1] == "self-loops"
        and line["expected"] is None
    )


def test_a_make_failed_line_says_what_and_where():
    spec = RunSpec("digits", settings={"strong_args": {"norn": "batch_norm"}})
    with pytest.raises(Exception, match="norn") as raised:
        run_one(spec)
    line = make_failed_line(spec, raised.value)
    assert line["status"] == "failed" and line["id"] == spec.id and "test" not in line
    assert line["error"].startswith(f"{raised.type.__name__}: ") and "(line " in line["error"]
    assert make_failed_line(spec, "gone")["error"] == "gone"


def test_the_peak_is_of_this_process():
    before = measure_peak_mib()
    block = bytearray(300 * 2**20)
    assert measure_peak_mib() >= before and measure_peak_mib() > len(block) / 2**20
