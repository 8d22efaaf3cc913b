r"""Training in less memory: half precision, and layers that are computed again in the backward
pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    r"""Returns the context of a forward pass in the :obj:`precision` of
    :class:`~mowst.train.config.TrainConfig`.
    """
    return nullcontext() if precision == "32" else torch.autocast(device.type, torch.bfloat16)


def check_precision(precision: str, device: torch.device) -> None:
    r"""Raises a :obj:`ValueError` if a device cannot train in a precision."""
    if precision == "32":
        return
    known = torch.amp.is_autocast_available(device.type)
    if not known or (device.type == "cuda" and not torch.cuda.is_bf16_supported()):
        raise ValueError(
            f"the device '{device}' has no bfloat16 arithmetic: train with precision='32'"
        )


@contextmanager
def recompute_layers(experts: Sequence[torch.nn.Module], wanted: bool) -> Iterator[None]:
    r"""A context in which the graph experts of this package compute their layers again in the
    backward pass.

    Raises:
        ValueError: If it is wanted and no expert can do so.
    """
    capable: list[torch.nn.Module] = []
    if wanted:
        capable = [expert for expert in experts if hasattr(expert, "checkpoint_activations")]
    if wanted and not capable:
        names = ", ".join(type(expert).__name__ for expert in experts)
        raise ValueError(
            f"checkpoint_activations has no effect on {names}, only on mowst's GCN, GraphSAGE, GIN "
            "and GAT"
        )
    try:
        for expert in capable:
            expert.checkpoint_activations = True  # type: ignore[assignment]
        yield
    finally:
        for expert in capable:
            expert.checkpoint_activations = False  # type: ignore[assignment]
