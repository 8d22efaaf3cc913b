r"""Finds the tensor of a training step that is not finite."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from mowst.nn.mowst import Mowst


def find_not_finite(
    model: Mowst,
    learns: Sequence[str],
    optimizer: torch.optim.Optimizer,
    outputs: Mapping[str, Tensor],
) -> str | None:
    r"""Returns the name of the first tensor that holds a NaN or an infinite value, in the order in
    which training
    computes them: gradients from the loss backwards, parameters and buffers, then outputs.
    :obj:`None` if all are finite.

    Args:
        model (Mowst): The model.
        learns (list[str]): The parts that learn.
        optimizer (torch.optim.Optimizer): Their optimiser, of the Adam family: a gradient is gone
            after its step, but has left its trace in the first moment.
        outputs (dict[str, torch.Tensor]): The outputs of the last forward pass by name.
    """
    for name, tensor in _list_tensors(model, learns, optimizer, outputs):
        count = int((~tensor.isfinite()).sum())
        if count > 0:
            return f"{name} ({count} of {tensor.numel()} values)"
    return None


def _list_tensors(
    model: Mowst,
    learns: Sequence[str],
    optimizer: torch.optim.Optimizer,
    outputs: Mapping[str, Tensor],
) -> Iterator[tuple[str, Tensor]]:
    parameters: list[tuple[str, Tensor]] = []
    buffers: list[tuple[str, Tensor]] = []
    for part in learns:
        module = getattr(model, part)
        parameters.extend((f"{part}.{name}", value) for name, value in module.named_parameters())
        buffers.extend((f"{part}.{name}", value) for name, value in module.named_buffers())
    for name, parameter in reversed(parameters):
        moment = optimizer.state.get(parameter, {}).get("exp_avg")
        if moment is not None:
            yield f"the gradient of {name}", moment
    for name, parameter in parameters:
        yield f"the parameter {name}", parameter
    for name, buffer in buffers:
        yield f"the buffer {name}", buffer
    yield from outputs.items()
