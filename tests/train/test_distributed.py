r"""Two processes train one model. They are forked, so that they start at once, and joined by
gloo.
"""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from mowst import GCN, MLP, MonotoneGate, Mowst, TrainConfig, fit, seed_everything
from mowst.nn.saving import read_model
from mowst.train.distributed import (
    count_processes,
    is_set_anywhere,
    run_in_first,
    share_buffers,
    sum_gradients,
    take_from_first,
    take_own_part,
)

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SHORT = {
    "epochs": 2,
    "rounds": 1,
    "lr": 0.03,
    "gate_fit": "train",
    "gate_folds": 2,
    "batches": "random",
    "num_parts": 5,
}


def in_two(tmp_path, work, *arguments):
    r"""Returns what `work(rank, *arguments)` returns or raises in each of two processes; None for
    one that died.
    """
    fork, folder = (
        multiprocessing.get_context("fork"),
        tmp_path / f"processes-{time.monotonic_ns()}",
    )
    folder.mkdir()

    def run(rank):
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        store = f"file://{folder}/rendezvous"
        dist.init_process_group(
            "gloo", store, timeout=timedelta(seconds=60), rank=rank, world_size=2
        )
        try:
            outcome = work(rank, *arguments)
        except Exception as error:
            outcome = error
        (folder / str(rank)).write_bytes(pickle.dumps(outcome))
        os._exit(0)

    processes = [fork.Process(target=run, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
    files = [folder / str(rank) for rank in range(2)]
    return [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]


def train(task, method="mowst", seed=0, norm="layer_norm", dropout=0.3, options=None, **settings):
    seed_everything(seed)
    sizes = SIZES | {"dropout": dropout, "norm": norm}
    model = Mowst(MLP(**sizes), GCN(**sizes), MonotoneGate())
    result = fit(model, task, method, TrainConfig(**SHORT | settings), **options or {})
    weights = {
        name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)
    }
    return weights, [record["loss"] for record in result.history], (result.route, result.test)


def train_in_one_of_two(rank, task, settings):
    return train(task, **settings)


def close(one, other, atol):
    return one[0].keys() == other[0].keys() and all(
        torch.allclose(one[0][k], other[0][k], atol=atol) for k in one[0]
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "mowst", "gate_fit": "validation"},
        {"method": "mowst"},
        {"method": "mowst-star"},
        {"method": "strong", "batches_per_step": 4},
    ],
)
def test_two_processes_are_one_with_the_same_batches(task, tmp_path, settings):
    first, second = in_two(tmp_path, train_in_one_of_two, task, settings)
    assert close(first, second, atol=0) and first[1:] == second[1:]
    one = train(task, **{"batches_per_step": 2} | settings)
    assert first[1] == pytest.approx(one[1], rel=1e-4) and first[2] == one[2]
    assert close(first, one, atol=1e-4)
    assert not close(first, train(task, **settings | {"batches_per_step": 1}), atol=1e-4)


def test_processes_with_other_models_and_seeds_continue_as_the_first_one(task, tmp_path):
    first, second = in_two(tmp_path, lambda rank: train(task, seed=rank, norm="batch_norm"))
    assert close(first, second, atol=0) and first[1:] == second[1:]
    assert close(
        first, in_two(tmp_path, train_in_one_of_two, task, {"norm": "batch_norm"})[0], atol=0
    )


def _die(rank, task, folder, number):
    def callback(record, seen=[]):  # noqa: B006
        seen.append(record)
        if rank == 1 and len(seen) == number:
            os._exit(9)

    train(task, options={"run_dir": folder, "checkpoint_seconds": 0, "callbacks": [callback]})


def test_a_process_that_dies_ends_the_run_and_it_is_resumed(task, tmp_path):
    whole = in_two(
        tmp_path, train_in_one_of_two, task, {"options": {"run_dir": tmp_path / "whole"}}
    )[0]
    for number in (2, 6):
        folder = tmp_path / f"killed{number}"
        error, died = in_two(tmp_path, _die, task, folder, number)
        assert died is None and isinstance(error, ConnectionError)
        assert "process 0 of 2 lost another one" in str(
            error
        ) and f"processes, from '{folder}'" in str(error)
        first, second = in_two(
            tmp_path, train_in_one_of_two, task, {"options": {"run_dir": folder, "resume": True}}
        )
        assert close(first, whole, atol=0) and first[1:] == whole[1:] == second[1:]
        ours, theirs = (
            (path / "metrics.jsonl").read_text() for path in (folder, tmp_path / "whole")
        )
        assert ours.count("\n") == theirs.count("\n") == len(whole[1])
        assert not (folder / "checkpoint.safetensors").exists()


def test_a_run_is_not_resumed_in_other_steps(task, tmp_path):
    in_two(tmp_path, _die, task, tmp_path / "run", 4)
    with pytest.raises(ValueError, match="batches per step: 2 then, 1 now"):
        train(task, options={"run_dir": tmp_path / "run", "resume": True})


def test_a_folder_that_exists_is_refused_in_both(task, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    for error in in_two(
        tmp_path, train_in_one_of_two, task, {"options": {"run_dir": tmp_path / "run"}}
    ):
        assert isinstance(error, FileExistsError)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"batches": "full", "num_parts": None},
            "2 processes share the batches of a step: choose batches='random'",
        ),
        ({"batches_per_step": 3}, "batches_per_step must be a multiple of the 2 processes, got 3"),
    ],
)
def test_processes_without_work_are_refused(task, tmp_path, settings, message):
    for error in in_two(tmp_path, train_in_one_of_two, task, settings):
        assert isinstance(error, ValueError) and message in str(error)


def _exchange(rank):
    used, half, unused = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    used.grad = torch.tensor([1.0, 2.0]) * (rank + 1)
    if rank == 1:
        half.grad = torch.tensor([5.0, 7.0])
    loss = sum_gradients([used, half, unused], 0.25 + rank)
    norm = torch.nn.BatchNorm1d(1)
    norm.running_mean += rank + 1
    share_buffers(norm)
    grads = [None if p.grad is None else p.grad.tolist() for p in (used, half, unused)]
    flags = (is_set_anywhere(rank == 1), is_set_anywhere(False))
    return (
        loss,
        grads,
        norm.running_mean.item(),
        flags,
        take_from_first(rank),
        list(take_own_part(range(5))),
        count_processes(),
    )


def test_what_processes_exchange(tmp_path):
    first, second = in_two(tmp_path, _exchange)
    assert first[:5] == second[:5] == (1.5, [[3.0, 6.0], [5.0, 7.0], None], 1.0, (True, False), 0)
    assert (first[5], second[5], first[6]) == ([0, 2, 4], [1, 3], 2)


def test_a_single_process_exchanges_nothing():
    parameter = torch.nn.Parameter(torch.zeros(2))
    assert sum_gradients([parameter], 0.5) == 0.5 and parameter.grad is None
    assert (
        run_in_first(lambda: 3) == take_from_first(3) == 3
        and take_own_part([1, 2]) == [1, 2]
        and count_processes() == 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_the_command_line_program_loses_a_process_and_is_resumed(rank, tmp_path):
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    program = [*torchrun, "-m", "mowst.cli", "train"]
    settings = ["digits", "--batches", "random", "--epochs", "30", "--rounds", "1"]
    options = {"cwd": tmp_path, "env": os.environ | {"OMP_NUM_THREADS": "1"}, "text": True}
    whole = subprocess.run(
        [*program, *settings, "--run-dir", "whole"], **options, capture_output=True
    )
    assert whole.returncode == 0 and whole.stdout.count("run folder: whole") == 1
    killed = subprocess.Popen(
        [*program, *settings, "--run-dir", "killed"], **options, stderr=subprocess.PIPE
    )
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 35:
        time.sleep(0.05)
    children = subprocess.run(
        ["pgrep", "-P", str(killed.pid)], capture_output=True, text=True
    ).stdout.split()
    os.kill(int(children[rank]), signal.SIGKILL)
    said = killed.communicate()[1]
    assert killed.returncode != 0
    assert (
        f"mowst: process {1 - rank} of 2 lost another one" in said
        and "in as many processes, from 'killed'" in said
    )
    subprocess.run([*program, "--resume", "killed"], **options, check=True, capture_output=True)
    (whole, said), (killed, said_again) = (
        read_model(tmp_path / run / "best.safetensors") for run in ("whole", "killed")
    )
    assert said == said_again and all(torch.equal(whole[name], killed[name]) for name in whole)
