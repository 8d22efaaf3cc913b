r"""Training in less memory: half precision, and layers that are computed again."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from mowst.nn.experts.base import Expert


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    r"""The context of a forward in the given :obj:`precision` of :class:`~mowst.train.config.TrainConfig`."""
    return nullcontext() if precision == "32" else torch.autocast(device.type, torch.bfloat16)


def check_precision(precision: str, device: torch.device) -> None:
    r"""Raises a :obj:`ValueError` where a device cannot train in a precision."""
    if precision == "32":
        return
    known = torch.amp.is_autocast_available(device.type)
    if not known or (device.type == "cuda" and not torch.cuda.is_bf16_supported()):
        raise ValueError(f"the device '{device}' has no bfloat16 arithmetic: train with precision='32'")


@contextmanager
def recomputing(experts: Sequence[torch.nn.Module], wanted: bool) -> Iterator[None]:
    r"""A context in which those of our graph experts compute their layers again in the backward pass, if `wanted`.

    Raises:
        ValueError: if none is ours.
    """
    ours = [expert for expert in experts if isinstance(expert, Expert)] if wanted else []
    if wanted and not ours:
        names = ", ".join(type(expert).__name__ for expert in experts)
        raise ValueError(f"checkpoint_activations changes nothing in {names}, only in mowst's GCN, GraphSAGE, GIN, GAT")
    try:
        for expert in ours:
            expert.checkpoint_activations = True
        yield
    finally:
        for expert in ours:
            expert.checkpoint_activations = False
