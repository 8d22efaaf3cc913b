r"""A run that was stopped and resumed is the run that was not, to the bit."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
import torch_geometric.nn

from mowst import MLP, LearnedConfidence, MonotoneConfidence, Mowst, build_expert, fit, seed_everything
from mowst.nn.saving import read_model
from mowst.train import RunFolder
from mowst.train.checkpoint import read_checkpoint

SETTINGS = {"epochs": 3, "rounds": 2, "patience": 2, "round_patience": None, "lr": 0.05}
SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SLOW = pytest.mark.slow
RUNS = {
    "mowst-star in turns": ("mowst-star", {"in_turns": True}),
    "one expert": ("strong", {}),
    "mowst in batches": ("mowst", {"batches": "random", "num_parts": 3, "batches_per_step": 2}),
    "mowst, every third epoch evaluated": ("mowst", {"eval_every": 3}),
    "mowst, gate out of fold, calibrated": ("mowst", {"gate_fit": "folds", "gate_folds": 2, "calibrate": True}),
    "mowst-star": ("mowst-star", {"optimizer": "adamw"}),
    "mowst-star in batches": ("mowst-star", {"batches": "random", "gate_fit": "train"}),
}


class Killed(Exception):
    pass


def make_model(seed=0, gate_fit="validation", dropout=0.5, mix="auto"):
    seed_everything(seed)
    sizes = SIZES | {"dropout": dropout}
    # One with two parameters is fitted in no time, one with batch statistics has buffers that turns move.
    gate = MonotoneConfidence() if gate_fit == "validation" else LearnedConfidence(4)
    return Mowst(MLP(**sizes, norm="batch_norm"), build_expert("gcn", **sizes), gate, mix=mix)


def kill_at(number):
    seen = []

    def callback(record):
        seen.append(record)
        if len(seen) == number:
            raise Killed

    return callback


def comparable(model, result):
    history = [{key: value for key, value in record.items() if key != "seconds"} for record in result.history]
    weights = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in model.state_dict().items()}
    scores = (result.train, result.val, result.test, result.expected, result.shares, result.scores, result.alone)
    return history, weights, scores, result.route


def equal(a, b):
    return (
        a[0] == b[0]
        and a[1].keys() == b[1].keys()
        and all(torch.equal(v, b[1][k]) if isinstance(v, torch.Tensor) else v == b[1][k] for k, v in a[1].items())
        and a[2:] == b[2:]
    )


@pytest.mark.parametrize(
    "name", ["one expert", *(pytest.param(name, marks=SLOW) for name in RUNS if name != "one expert")]
)
def test_a_run_that_dies_in_any_turn_ends_as_if_it_had_not(name, task, tmp_path):
    method, more = RUNS[name]
    settings, gate_fit = SETTINGS | more, more.get("gate_fit", "validation")
    model = make_model(gate_fit=gate_fit)
    whole = comparable(model, fit(model, task, method=method, **settings))
    numbers_after = torch.rand(3)
    # The first and the last record of every turn, of which the last run has nothing behind it.
    turns = [(record["round"], record["turn"]) for record in whole[0]]
    assert len(set(turns)) >= {"strong": 1, "mowst-star": 3}.get(method, 6)
    ends = [number for number in range(1, len(turns)) if turns[number] != turns[number - 1]]
    for number in sorted({1, *ends, *(number + 1 for number in ends)} - {len(turns)}):
        folder = tmp_path / str(number)
        with pytest.raises(Killed):
            run = {"run_dir": folder, "checkpoint_seconds": 0, "callbacks": [kill_at(number + 1)]}
            fit(make_model(gate_fit=gate_fit), task, method=method, **run, **settings)
        model = make_model(seed=5, gate_fit=gate_fit)
        resumed = fit(model, task, method=method, run_dir=folder, resume=True, **settings)
        assert equal(comparable(model, resumed), whole), f"killed behind record {number}: {whole[0][number - 1]}"
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == len(whole[0])
        assert not (folder / "checkpoint.safetensors").exists()
    assert torch.equal(torch.rand(3), numbers_after), "the generators go on from the same place"


def test_without_a_checkpoint_at_hand_it_goes_back_to_the_last(task, tmp_path):
    model = make_model()
    whole = comparable(model, fit(model, task, **SETTINGS))
    with pytest.raises(Killed):  # in the middle of the second turn, whose first record was saved
        fit(make_model(), task, run_dir=tmp_path / "run", callbacks=[kill_at(5)], **SETTINGS)
    with open(metrics := tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"round": 0, "tu')  # a line that was cut off
    model = make_model()
    assert equal(comparable(model, fit(model, task, run_dir=tmp_path / "run", resume=True, **SETTINGS)), whole)
    assert [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()] == [r["epoch"] for r in whole[0]]


def test_killed_twice(task, tmp_path):
    model = make_model()
    whole = comparable(model, fit(model, task, **SETTINGS))
    for number, resume in ((5, False), (9, True)):
        with pytest.raises(Killed):
            fit(
                make_model(),
                task,
                run_dir=tmp_path / "run",
                resume=resume,
                checkpoint_seconds=0,
                callbacks=[kill_at(number)],
                **SETTINGS,
            )
    model = make_model()
    assert equal(comparable(model, fit(model, task, run_dir=tmp_path / "run", resume=True, **SETTINGS)), whole)


def test_a_run_that_is_asked_to_stop_saves_at_once(task, tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    records = []

    def callback(record):
        records.append(record)
        if len(records) == 3:
            folder.stop(signal.SIGTERM, None)

    with pytest.raises(InterruptedError, match="resume it from"):
        fit(make_model(), task, run_dir=folder, callbacks=[callback], **SETTINGS)
    model = make_model()
    resumed = fit(model, task, run_dir=RunFolder(tmp_path / "run", {}), resume=True, **SETTINGS)
    again = make_model()
    assert equal(comparable(model, resumed), comparable(again, fit(again, task, **SETTINGS)))


class Recorder(RunFolder):
    r"""Keeps the checkpoint of every record."""

    def __init__(self, path, config=None):
        super().__init__(path, config or {})
        self.checkpoints = []

    def save_checkpoint(self, record, state):
        super().save_checkpoint(record, state)
        self.checkpoints.append(self.checkpoint_path.read_bytes())


def same_tree(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        return all(key == "seconds" or same_tree(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same_tree, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("gate_fit", ["validation", "train", pytest.param("folds", marks=SLOW)])
@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_from_every_record_the_whole_state_goes_on_to_the_bit(method, gate_fit, task, tmp_path):
    # Parameters, buffers, gates, moments, generators, counters and best states are all in the state, so that the steps
    # from each record to the next one give the whole run.
    settings = {"method": method, "gate_fit": gate_fit, "gate_folds": 2, "epochs": 2, "rounds": 1, "lr": 0.05}
    whole = Recorder(tmp_path / "whole")
    model = make_model(gate_fit=gate_fit)
    result = comparable(model, fit(model, task, run_dir=whole, checkpoint_seconds=0, **settings))
    turns = {record["turn"] for record in result[0]}
    assert turns >= {"weak alone", "strong alone", *(("weak", "strong") if method == "mowst" else ("joint",))}
    for number, checkpoint in enumerate(whole.checkpoints):
        RunFolder(folder := tmp_path / str(number), {}).start()
        (folder / "checkpoint.safetensors").write_bytes(checkpoint)
        run, model = Recorder(folder), make_model(seed=5, gate_fit=gate_fit)
        after = {"run_dir": run, "resume": True, "checkpoint_seconds": 0, "callbacks": [kill_at(2)]}
        try:
            ended = fit(model, task, **after, **settings)
        except Killed:
            ended = None
        if number + 1 == len(whole.checkpoints):
            assert equal(comparable(model, ended), result)
            break
        (tmp_path / "next").write_bytes(whole.checkpoints[number + 1])
        (tmp_path / "found").write_bytes(run.checkpoints[0])
        assert same_tree(read_checkpoint(tmp_path / "found"), read_checkpoint(tmp_path / "next")), result[0][number]


def test_a_library_call_installs_no_signal_handler(task, tmp_path):
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    model = make_model()
    fit(model, task, run_dir=tmp_path / "run", gate_fit="train", epochs=1, rounds=0)
    model.save(tmp_path / "model")
    Mowst.load(tmp_path / "model").predict(task.data.x, task.data.edge_index, threshold=0.5)
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def begun(task, folder, at=3, model=None, **settings):
    with pytest.raises(Killed):
        fit(model or make_model(), task, run_dir=folder, callbacks=[kill_at(at)], **{**SETTINGS, **settings})
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 0.1}, "lr: 0.05 then, 0.1 now"),
        ({"lr": 0.1, "epochs": 9}, "epochs: 3 then, 9 now; lr: 0.05 then, 0.1 now"),
        ({"method": "mowst-star"}, "method: 'mowst' then, 'mowst-star' now"),
    ],
)
def test_other_settings_are_named_and_refused(task, tmp_path, change, named):
    folder = begun(task, tmp_path / "run")
    before = (folder / "metrics.jsonl").read_text()
    with pytest.raises(ValueError, match=named):
        fit(make_model(), task, run_dir=folder, resume=True, **{**SETTINGS, **change})
    assert (folder / "metrics.jsonl").read_text() == before


def test_another_model_or_task_is_named_and_refused(task, tmp_path):
    folder = begun(task, tmp_path / "run")
    data = task.data.clone()
    data.edge_index = data.edge_index.flip(0)
    others = {
        "checksum of the graph": (make_model(), replace(task, data=data)),
        "class weights": (make_model(), replace(task, class_weight="balanced")),
        "inductive: False then, True now": (make_model(), replace(task, inductive=True)),
        "what may be mixed": (make_model(mix="logit"), task),
        "strong: .*'dropout': 0.25": (make_model(dropout=0.25), task),
    }
    for named, (model, other) in others.items():
        with pytest.raises(ValueError, match=named):
            fit(model, other, run_dir=folder, resume=True, **SETTINGS)
    foreign = [Mowst(MLP(**SIZES), torch_geometric.nn.GCN(6, width, 2, 3), MonotoneConfidence()) for width in (8, 7)]
    folder = begun(task, tmp_path / "foreign", model=foreign[0])
    with pytest.raises(ValueError, match=r"the model of the run.*strong.convs.0.bias: \[8\] then, \[7\] now"):
        fit(foreign[1], task, run_dir=folder, resume=True, **SETTINGS)
    folder = tmp_path / "run"
    swapped = {"train": task.masks["val"], "val": task.masks["train"], "test": task.masks["test"]}
    task = type(task)(task.data, masks=swapped, num_classes=task.num_classes, name=task.name)
    with pytest.raises(ValueError, match="checksum of labels and splits"):
        fit(make_model(), task, run_dir=folder, resume=True, **SETTINGS)


def test_what_cannot_be_resumed_says_why(task, tmp_path):
    with pytest.raises(ValueError, match="give run_dir"):
        fit(make_model(), task, resume=True)
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        fit(make_model(), task, run_dir=tmp_path / "none", resume=True)
    fit(make_model(), task, run_dir=tmp_path / "done", **SETTINGS)
    with pytest.raises(FileExistsError, match="is finished"):
        fit(make_model(), task, run_dir=tmp_path / "done", resume=True, **SETTINGS)
    folder = begun(task, tmp_path / "run")
    content = (folder / "checkpoint.safetensors").read_bytes()
    (folder / "checkpoint.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="is damaged"):
        fit(make_model(), task, run_dir=folder, resume=True, **SETTINGS)
    (folder / "checkpoint.safetensors").unlink()
    model = make_model()
    fresh = comparable(model, fit(model, task, run_dir=folder, resume=True, **SETTINGS))
    model = make_model()
    assert equal(fresh, comparable(model, fit(model, task, **SETTINGS)))


def test_two_processes_do_not_go_on_with_one_run(task, tmp_path):
    def another(record):
        with pytest.raises(BlockingIOError, match=f"another process trains in '{folder}'"):
            fit(make_model(), task, run_dir=folder, resume=True, **SETTINGS)
        seen.append(record)

    folder, seen = begun(task, tmp_path / "run"), []
    fit(make_model(), task, run_dir=folder, resume=True, callbacks=[another], **SETTINGS)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert seen and len({(line["round"], line["turn"], line["epoch"]) for line in lines}) == len(lines)


@SLOW
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_the_command_line_program_is_killed_and_resumed(sent, tmp_path):
    mowst = [sys.executable, "-c", "from mowst.cli import main; raise SystemExit(main())", "train"]
    program = [*mowst, "digits", "--epochs", "30", "--rounds", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*program, "--run-dir", "whole"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    killed = subprocess.Popen([*program, "--run-dir", "killed"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 70:
        time.sleep(0.01)
    killed.send_signal(sent)
    assert killed.wait() == (143 if sent == signal.SIGTERM else -sent)
    if sent == signal.SIGTERM:
        history = read_checkpoint(tmp_path / "killed" / "checkpoint.safetensors")["history"]
        assert history == [json.loads(line) for line in metrics.read_text().splitlines()], "it was saved at once"
    resume = [*mowst, "--resume", "killed"]
    refused = subprocess.run([*resume, "--lr", "0.5"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert refused.returncode == 1 and "lr: 0.01 then, 0.5 now" in refused.stderr
    subprocess.run(resume, cwd=tmp_path, env=environment, check=True, capture_output=True)
    (whole, said), (killed, said_again) = (
        read_model(tmp_path / run / "best.safetensors") for run in ("whole", "killed")
    )
    assert said == said_again and whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
