r"""Several processes that train one model: each computes some batches of a step, and all take the same step.

Every process holds the whole graph and an equal model. Gradients are summed over the processes before each step, and
what is decided, such as the best epoch, the end of a turn or a fit of the confidences, is as the first process decides.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@contextmanager
def joined(device: torch.device | str = "cpu") -> Iterator[None]:
    r"""A context in which this process works with those that torchrun started beside it, if it did."""
    if dist.is_initialized() or not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
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


def num_processes() -> int:
    r"""The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    r"""Whether this is the process that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def own_part(items: Sequence[T]) -> Sequence[T]:
    r"""Those of the items that are this process's."""
    return items if num_processes() == 1 else items[dist.get_rank() :: num_processes()]


def from_first(compute: Callable[[], T]) -> T:
    r"""What :obj:`compute` returns in the first process, which alone calls it; or raises, in all processes."""
    if num_processes() == 1:
        return compute()
    outcome: list[Any] = [None, None]
    if is_first():
        try:
            outcome[0] = compute()
        except Exception as error:
            outcome[1] = error
    with _peers():
        dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def agreed(value: T) -> T:
    r"""The value that the first process has."""
    return from_first(lambda: value)


def in_any(flag: bool) -> bool:
    r"""Whether the flag is set in some process."""
    if num_processes() == 1:
        return flag
    flags = torch.tensor(float(flag))
    with _peers():
        dist.all_reduce(flags)
    return bool(flags > 0)


def sum_gradients(parameters: Iterable[torch.nn.Parameter], loss: float) -> float:
    r"""Replaces gradients by their sums over all processes, and returns the sum of the losses. A parameter without a
    gradient in every process keeps none.
    """
    if num_processes() == 1:
        return loss
    parameters = list(parameters)
    grads = [p.grad for p in parameters]
    given = [float(grad is not None) for grad in grads]
    flat = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
    sums = torch.cat([torch.tensor([loss, *given], dtype=torch.float64).to(flat[0]), *flat])
    with _peers():
        dist.all_reduce(sums)
    total, given = float(sums[0]), sums[1 : 1 + len(parameters)].tolist()
    parts = sums[1 + len(parameters) :].split([p.numel() for p in parameters])
    for parameter, count, part in zip(parameters, given, parts, strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype) if count else None
    return total


def share_buffers(*modules: torch.nn.Module) -> None:
    r"""Gives the buffers, such as batch statistics, those values that they have in the first process."""
    if num_processes() == 1:
        return
    with _peers():
        for buffer in (buffer for module in modules for buffer in module.buffers()):
            dist.broadcast(buffer, src=0)


def share_state(module: torch.nn.Module) -> None:
    r"""Gives a module the state that it has in the first process."""
    if num_processes() > 1:
        module.load_state_dict(from_first(module.state_dict))


def check_processes(batches: str, batches_per_step: int | None) -> None:
    r"""Raises a :obj:`ValueError` where some of the processes would have nothing to do."""
    count = num_processes()
    if count > 1 and batches == "full":
        raise ValueError(f"{count} processes share the batches of a step: choose batches='random' or 'neighbor'")
    if (batches_per_step or count) % count:
        raise ValueError(f"batches_per_step must be a multiple of the {count} processes, got {batches_per_step}")


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            f"process {dist.get_rank()} of {num_processes()} lost another one, which was killed, failed or cannot be "
            f"reached ({str(error).partition('. ')[0]})"
        ) from error
