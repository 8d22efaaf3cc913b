r"""Graph attention: PyG's model with our constructor and our rules."""

from typing import Any

import torch_geometric.nn

from mowst.experts.base import Expert


class GAT(Expert, torch_geometric.nn.GAT):
    __doc__ = r"""The GAT of `"Graph Attention Networks" <https://arxiv.org/abs/1710.10903>`_:
    :class:`torch_geometric.nn.GAT` with eight heads by default. Its attention changes with the
    parameters, so it runs on PyG's message passing.

    """ + (Expert.__doc__ or "").partition("\n\n")[2]

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int,
        *args: Any,
        heads: int = 8,
        **kwargs: Any,
    ) -> None:
        if hidden_channels % heads != 0:
            raise ValueError(
                f"hidden_channels must be a multiple of the {heads} attention heads, got "
                f"{hidden_channels}: choose {-(-hidden_channels // heads) * heads}, or other heads="
            )
        super().__init__(in_channels, hidden_channels, num_layers, *args, heads=heads, **kwargs)
