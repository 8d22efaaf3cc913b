r"""Transforms of a graph by name."""

from collections.abc import Callable, Sequence

import torch_geometric.transforms as T
from torch import Tensor
from torch_geometric.data import Data

TRANSFORMS: dict[str, Callable[[Data], Data]] = {
    "normalize-features": T.NormalizeFeatures(),
    "self-loops": T.AddRemainingSelfLoops(),
    "undirected": T.ToUndirected(reduce="mean"),
}


def transform(data: Data, names: Sequence[str]) -> Data:
    r"""Applies the named transforms in their order: :obj:`"normalize-features"` (row-normalisation
    after subtracting the minimum), :obj:`"self-loops"` (one at every node), :obj:`"undirected"`
    (every edge runs both ways once, with the mean of the given weights and edge features).

    Raises:
        ValueError: If a name is unknown, or the transform has no values for a tensor of the edges:
            for new self-loops, or for the mean of integers.
    """
    for name in names:
        if name not in TRANSFORMS:
            raise ValueError(f"unknown transform '{name}', choose from {list(TRANSFORMS)}")
        _check_edge_tensors(data, name)
        data = TRANSFORMS[name](data)
    return data


def _check_edge_tensors(data: Data, name: str) -> None:
    for key in data.edge_attrs():
        value = data[key]
        if key in ("edge_index", "edge_weight") or name == "normalize-features":
            continue
        if name == "self-loops":
            raise ValueError(
                f"the transform 'self-loops' has no {key} for the loops: leave it out, or add "
                "loops yourself with torch_geometric.transforms.AddSelfLoops"
            )
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ValueError(
                f"the transform 'undirected' averages {key}, which is not floating point: encode "
                "it as floats, such as one-hot, or leave the transform out"
            )
