r"""Several processes that train one model: each computes some batches of a step, and all take the
same step.

Each process holds the whole graph and an equal model. Gradients are summed over the processes
before each step. Decisions, such as the best epoch, the end of a stage or a fit of the gate, are
those of the first process.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@contextmanager
def join_processes(device: torch.device | str = "cpu") -> Iterator[None]:
    r"""A context in which this process works with the others that torchrun started, if it did."""
    started = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    if dist.is_initialized() or not started:
        yield
        return
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def count_processes() -> int:
    r"""Returns the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    r"""Whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def take_own_part(items: Sequence[T]) -> Sequence[T]:
    r"""Returns the items of this process."""
    return items if count_processes() == 1 else items[dist.get_rank() :: count_processes()]


def run_in_first(compute: Callable[[], T]) -> T:
    r"""Returns the result of :obj:`compute`, which runs in the first process only, or raises its
    error, in all processes.
    """
    if count_processes() == 1:
        return compute()
    outcome: list[Any] = [None, None]
    if is_first():
        try:
            outcome[0] = compute()
        except Exception as error:
            outcome[1] = error
    with _report_lost_process():
        dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def take_from_first(value: T) -> T:
    r"""Returns the value that the first process has."""
    return run_in_first(lambda: value)


def is_set_anywhere(flag: bool) -> bool:
    r"""Whether the flag is set in any process."""
    if count_processes() == 1:
        return flag
    flags = torch.tensor(float(flag))
    with _report_lost_process():
        dist.all_reduce(flags)
    return bool(flags > 0)


def sum_gradients(parameters: Iterable[torch.nn.Parameter], loss: float) -> float:
    r"""Replaces gradients by their sums over all processes and returns the sum of the losses. A
    parameter that has a gradient in no process keeps none.
    """
    if count_processes() == 1:
        return loss
    parameters = list(parameters)
    has_gradient, flat = [], []
    for parameter in parameters:
        has_gradient.append(float(parameter.grad is not None))
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        flat.append(grad.reshape(-1))
    head = torch.tensor([loss, *has_gradient], dtype=torch.float64).to(flat[0])
    sums = torch.cat([head, *flat])
    with _report_lost_process():
        dist.all_reduce(sums)
    total = float(sums[0])
    counts = sums[1 : 1 + len(parameters)].tolist()
    parts = sums[1 + len(parameters) :].split([p.numel() for p in parameters])
    for parameter, count, part in zip(parameters, counts, parts, strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype) if count else None
    return total


def share_buffers(*modules: torch.nn.Module) -> None:
    r"""Copies the buffers, such as batch statistics, of the first process to all others."""
    if count_processes() == 1:
        return
    with _report_lost_process():
        for module in modules:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


def share_state(module: torch.nn.Module) -> None:
    r"""Copies the state of a module in the first process to all others."""
    if count_processes() > 1:
        module.load_state_dict(run_in_first(module.state_dict))


def check_processes(batches: str, batches_per_step: int | None) -> None:
    r"""Raises a :obj:`ValueError` if some processes would have nothing to do."""
    count = count_processes()
    if count > 1 and batches == "full":
        raise ValueError(
            f"{count} processes share the batches of a step: choose batches='random' or 'neighbor'"
        )
    if (batches_per_step or count) % count:
        raise ValueError(
            f"batches_per_step must be a multiple of the {count} processes, got {batches_per_step}"
        )


@contextmanager
def _report_lost_process() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition(". ")[0]
        raise ConnectionError(
            f"process {dist.get_rank()} of {count_processes()} lost another one, which was killed, "
            f"failed or cannot be reached ({reason})"
        ) from error
