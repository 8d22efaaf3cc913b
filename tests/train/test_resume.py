r"""A run that was stopped and resumed ends like an uninterrupted run, to the bit."""

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

from mowst import (
    MLP,
    LearnedGate,
    MonotoneGate,
    Mowst,
    TrainConfig,
    build_expert,
    fit,
    seed_everything,
)
from mowst.nn.saving import read_model
from mowst.train import RunDir
from mowst.train.checkpoint import read_checkpoint

SETTINGS = {
    "epochs": 2,
    "rounds": 2,
    "patience": 2,
    "round_patience": None,
    "lr": 0.05,
    "gate_fit": "train",
}
CONFIG = TrainConfig(**SETTINGS)
SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SLOW = pytest.mark.slow


class Killed(Exception):
    pass


def make_model(seed=0, dropout=0.5, mix="auto"):
    seed_everything(seed)
    sizes = SIZES | {"dropout": dropout}
    # Both the weak expert and the gate have batch statistics, which are buffers that stages move.
    return Mowst(
        MLP(**sizes, norm="batch_norm"), build_expert("gcn", **sizes), LearnedGate(4), mix=mix
    )


def kill_at(number):
    seen = []

    def callback(record):
        seen.append(record)
        if len(seen) == number:
            raise Killed

    return callback


def list_results(model, result):
    history = [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in result.history
    ]
    weights = {
        k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in model.state_dict().items()
    }
    scores = (
        result.train,
        result.val,
        result.test,
        result.expected,
        result.deferred_share,
        result.scores,
    )
    return history, weights, scores, result.alone, result.start, result.choices, result.route


def run(task, config=CONFIG, method="mowst", seed=0, **options):
    r"""Returns what a run of a new model ends with."""
    model = make_model(seed)
    return list_results(model, fit(model, task, method, config, **options))


def equal(a, b):
    return (
        a[0] == b[0]
        and a[1].keys() == b[1].keys()
        and all(
            torch.equal(v, b[1][k]) if isinstance(v, torch.Tensor) else v == b[1][k]
            for k, v in a[1].items()
        )
        and a[2:] == b[2:]
    )


@pytest.fixture(scope="module")
def whole(make_task):
    r"""What an uninterrupted run ends with, and the random numbers after it."""
    results = run(make_task())
    return results, torch.rand(3)


@pytest.mark.parametrize(
    ("gate_fit", "every"), [("train", 3), pytest.param("validation", 1, marks=SLOW)]
)
def test_a_run_that_dies_in_any_stage_ends_as_if_it_had_not(gate_fit, every, task, tmp_path, whole):
    config, (expected, numbers_after) = CONFIG, whole
    if gate_fit == "validation":
        config = replace(CONFIG, gate_fit="validation", gate_folds=2)
        expected, numbers_after = run(task, config), torch.rand(3)
    stages = [record["stage"] for record in expected[0]]
    # Each stage has two records, so these are in the middle of a stage and at its end.
    assert len(set(stages)) == 6 and len(stages) == 12
    for number in range(1, len(stages), every):
        folder = tmp_path / str(number)
        with pytest.raises(Killed):
            run(task, config, run_dir=folder, checkpoint_seconds=0, callbacks=[kill_at(number + 1)])
        resumed = run(task, config, seed=5, run_dir=folder, resume=True)
        assert equal(resumed, expected), f"killed after record {number}: {expected[0][number - 1]}"
        assert torch.equal(torch.rand(3), numbers_after), (
            "the random numbers continue from the same place"
        )
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == len(stages)
        assert not (folder / "checkpoint.safetensors").exists()


def test_without_a_checkpoint_of_the_last_record_it_goes_back_to_the_last_one(
    task, tmp_path, whole
):
    with pytest.raises(Killed):  # in the middle of the second stage, whose first record was saved
        run(task, run_dir=tmp_path / "run", callbacks=[kill_at(4)])
    with open(metrics := tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"round": 0, "st')  # a line that was cut off
    resumed = run(task, run_dir=tmp_path / "run", resume=True)
    assert equal(resumed, whole[0])
    epochs = [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()]
    assert epochs == [record["epoch"] for record in whole[0][0]]


def test_a_run_that_is_killed_twice_is_resumed_twice(task, tmp_path, whole):
    for number, resume in ((5, False), (4, True)):
        with pytest.raises(Killed):
            options = {"run_dir": tmp_path / "run", "resume": resume, "checkpoint_seconds": 0}
            run(task, callbacks=[kill_at(number)], **options)
    assert equal(run(task, run_dir=tmp_path / "run", resume=True), whole[0])


def test_a_run_that_is_asked_to_stop_saves_at_once(task, tmp_path, whole):
    folder = RunDir(tmp_path / "run", {})
    records = []

    def callback(record):
        records.append(record)
        if len(records) == 4:
            folder.stop(signal.SIGTERM, None)

    with pytest.raises(InterruptedError, match="resume it from"):
        run(task, run_dir=folder, callbacks=[callback])
    history = read_checkpoint(folder.checkpoint_path)["history"]
    assert history == records
    assert equal(run(task, run_dir=RunDir(tmp_path / "run", {}), resume=True), whole[0])


class Recorder(RunDir):
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


RUNS = {
    "mowst, gate on validation nodes": ("mowst", {"gate_fit": "validation", "gate_folds": 2}),
    "mowst, gate on training nodes": ("mowst", {}),
    "mowst-star, gate on validation nodes": (
        "mowst-star",
        {"gate_fit": "validation", "gate_folds": 2},
    ),
    "mowst-star, gate on training nodes": ("mowst-star", {"optimizer": "adamw"}),
    "one expert": ("strong", {"epochs": 4}),
    "batches": ("mowst-star", {"batches": "random", "num_parts": 3, "batches_per_step": 2}),
    "overrides and every second epoch": (
        "mowst",
        {
            "epochs": 4,
            "eval_every": 2,
            "weak": {"lr": 0.02},
            "pretraining": {"dropout": 0.1, "optimizer": "adamw"},
        },
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_from_every_record_the_whole_state_goes_on_to_the_bit(name, task, tmp_path):
    # Parameters, buffers, gates, moments, random states, counters and selected states are all in
    # the state, so the steps from each record to the next one make up the whole run. The model that
    # continues starts from other parameters: even the first state of the gate comes from the
    # checkpoint.
    method, more = RUNS[name]
    config = TrainConfig(**SETTINGS | {"rounds": 1} | more)
    recorder = Recorder(tmp_path / "whole")
    expected = run(task, config, method, run_dir=recorder, checkpoint_seconds=0)
    parts = {(record["round"], record["part"]) for record in expected[0]}
    if method == "mowst":
        assert parts == {(0, "weak"), (0, "strong"), (1, "weak"), (1, "strong")}
    elif method == "mowst-star":
        assert parts == {(0, "weak"), (0, "strong"), (1, "joint")}
    for number, checkpoint in enumerate(recorder.checkpoints):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.yaml").write_text("{}")
        (folder / "checkpoint.safetensors").write_bytes(checkpoint)
        again = Recorder(folder)
        options = {
            "run_dir": again,
            "resume": True,
            "checkpoint_seconds": 0,
            "callbacks": [kill_at(2)],
        }
        try:
            ended = run(task, config, method, seed=5, **options)
        except Killed:
            ended = None
        if number + 1 == len(recorder.checkpoints):
            assert equal(ended, expected)
            break
        (tmp_path / "next").write_bytes(recorder.checkpoints[number + 1])
        (tmp_path / "found").write_bytes(again.checkpoints[0])
        found, following = (read_checkpoint(tmp_path / key) for key in ("found", "next"))
        assert same_tree(found, following), expected[0][number]


def test_a_library_call_installs_no_signal_handler(task, tmp_path):
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    model = make_model()
    fit(
        model,
        task,
        config=TrainConfig(gate_fit="train", epochs=1, rounds=0),
        run_dir=tmp_path / "run",
    )
    model.save(tmp_path / "model")
    Mowst.load(tmp_path / "model").predict(task.data.x, task.data.edge_index, threshold=0.5)
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def begin(task, folder, model=None):
    r"""Begins a run that is killed at its third record, and returns its folder."""
    with pytest.raises(Killed):
        fit(model or make_model(), task, config=CONFIG, run_dir=folder, callbacks=[kill_at(3)])
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 0.1}, "lr: 0.05 then, 0.1 now"),
        ({"lr": 0.1, "epochs": 9}, "epochs: 2 then, 9 now; lr: 0.05 then, 0.1 now"),
        ({"weak": {"lr": 0.1}}, "weak.lr: None then, 0.1 now"),
        ({"method": "mowst-star"}, "method: 'mowst' then, 'mowst-star' now"),
    ],
)
def test_other_settings_are_named_and_refused(task, tmp_path, change, named):
    folder = begin(task, tmp_path / "run")
    before = (folder / "metrics.jsonl").read_text()
    settings = {"method": "mowst", **SETTINGS, **change}
    with pytest.raises(ValueError, match=named):
        fit(
            make_model(),
            task,
            settings.pop("method"),
            TrainConfig(**settings),
            run_dir=folder,
            resume=True,
        )
    assert (folder / "metrics.jsonl").read_text() == before


def test_another_model_or_task_is_named_and_refused(task, tmp_path):
    folder = begin(task, tmp_path / "run")
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
            fit(model, other, config=CONFIG, run_dir=folder, resume=True)
    foreign = [
        Mowst(MLP(**SIZES), torch_geometric.nn.GCN(6, width, 2, 3), MonotoneGate())
        for width in (8, 7)
    ]
    folder = begin(task, tmp_path / "foreign", model=foreign[0])
    with pytest.raises(
        ValueError, match=r"the model of the run.*strong.convs.0.bias: \[8\] then, \[7\] now"
    ):
        fit(foreign[1], task, config=CONFIG, run_dir=folder, resume=True)
    folder = tmp_path / "run"
    swapped = {"train": task.masks["val"], "val": task.masks["train"], "test": task.masks["test"]}
    task = type(task)(task.data, masks=swapped, num_classes=task.num_classes, name=task.name)
    with pytest.raises(ValueError, match="checksum of labels and splits"):
        run(task, run_dir=folder, resume=True)


def test_a_run_that_cannot_be_resumed_is_refused_with_the_reason(task, tmp_path, whole):
    with pytest.raises(ValueError, match="give run_dir"):
        run(task, resume=True)
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        run(task, run_dir=tmp_path / "none", resume=True)
    run(task, run_dir=tmp_path / "done")
    with pytest.raises(FileExistsError, match="is finished"):
        run(task, run_dir=tmp_path / "done", resume=True)
    folder = begin(task, tmp_path / "run")
    content = (folder / "checkpoint.safetensors").read_bytes()
    (folder / "checkpoint.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="is damaged"):
        run(task, run_dir=folder, resume=True)
    (folder / "checkpoint.safetensors").unlink()
    assert equal(run(task, run_dir=folder, resume=True), whole[0])


def test_two_processes_do_not_continue_one_run(task, tmp_path):
    def another(record):
        with pytest.raises(BlockingIOError, match=f"another process trains in '{folder}'"):
            run(task, run_dir=folder, resume=True)
        seen.append(record)

    folder, seen = begin(task, tmp_path / "run"), []
    run(task, run_dir=folder, resume=True, callbacks=[another])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert seen and len({(line["stage"], line["epoch"]) for line in lines}) == len(lines)


@SLOW
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_the_command_line_program_is_killed_and_resumed(sent, tmp_path):
    mowst = [sys.executable, "-c", "from mowst.cli import main; raise SystemExit(main())", "train"]
    program = [*mowst, "digits", "--epochs", "30", "--rounds", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*program, "--run-dir", "whole"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
    )
    killed = subprocess.Popen(
        [*program, "--run-dir", "killed"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 70:
        time.sleep(0.01)
    killed.send_signal(sent)
    assert killed.wait() == (143 if sent == signal.SIGTERM else -sent)
    if sent == signal.SIGTERM:
        history = read_checkpoint(tmp_path / "killed" / "checkpoint.safetensors")["history"]
        assert history == [json.loads(line) for line in metrics.read_text().splitlines()], (
            "it was saved at once"
        )
    resume = [*mowst, "--resume", "killed"]
    refused = subprocess.run(
        [*resume, "--lr", "0.5"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert refused.returncode == 1 and "lr: 0.01 then, 0.5 now" in refused.stderr
    subprocess.run(resume, cwd=tmp_path, env=environment, check=True, capture_output=True)
    (whole, said), (killed, said_again) = (
        read_model(tmp_path / run / "best.safetensors") for run in ("whole", "killed")
    )
    assert said == said_again and whole.keys() == killed.keys()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
