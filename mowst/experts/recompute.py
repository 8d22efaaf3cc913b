r"""Activation checkpointing: layers whose inner tensors are computed again in the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_with_recomputing(
    module: torch.nn.Module, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    r"""Returns :obj:`function(*args, **kwargs)` of a module by
    :func:`torch.utils.checkpoint.checkpoint`. Value, gradients and dropout are the same, and batch
    statistics are counted once.
    """

    def make_contexts() -> tuple:
        return nullcontext(), _keep_statistics(module)

    return checkpoint(function, *args, use_reentrant=False, context_fn=make_contexts, **kwargs)


@contextmanager
def _keep_statistics(module: torch.nn.Module) -> Iterator[None]:
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
