r"""Which tensor of a training step is the first that is not finite."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from mowst.nn.cascade import Cascade


def first_not_finite(
    model: Cascade, trained: Sequence[str], optimizer: torch.optim.Optimizer, outputs: Mapping[str, Tensor]
) -> str | None:
    r"""Names the first tensor that holds a NaN or an infinite value, in the order in which training computes them:
    gradients from the loss backwards, parameters and buffers, then what the parts returned; :obj:`None` if all are
    finite.

    Args:
        model (Cascade): the model.
        trained (list): the names of the parts that learn.
        optimizer (torch.optim.Optimizer): their optimiser, of the Adam family: a gradient is gone after its step, but
            it has left its trace in the first moment.
        outputs (dict[str, Tensor]): by name, what the parts returned in the last forward.
    """
    for name, tensor in _in_order(model, trained, optimizer, outputs):
        if count := int((~tensor.isfinite()).sum()):
            return f"{name} ({count} of {tensor.numel()} values)"
    return None


def _in_order(
    model: Cascade, trained: Sequence[str], optimizer: torch.optim.Optimizer, outputs: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    parts = [(name, getattr(model, name)) for name in trained]
    parameters = [(f"{name}.{inner}", p) for name, part in parts for inner, p in part.named_parameters()]
    for name, parameter in reversed(parameters):
        if "exp_avg" in (state := optimizer.state.get(parameter, {})):
            yield f"the gradient of {name}", state["exp_avg"]
    yield from ((f"the parameter {name}", parameter) for name, parameter in parameters)
    yield from ((f"the buffer {name}.{inner}", b) for name, part in parts for inner, b in part.named_buffers())
    yield from outputs.items()
