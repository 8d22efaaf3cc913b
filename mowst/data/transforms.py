r"""Transforms of a graph by name."""

from collections.abc import Callable, Sequence

import torch_geometric.transforms as T
from torch_geometric.data import Data

TRANSFORMS: dict[str, Callable[[Data], Data]] = {
    "normalize-features": T.NormalizeFeatures(),
    "self-loops": T.AddRemainingSelfLoops(),
    "undirected": T.ToUndirected(reduce="mean"),
}


def transform(data: Data, names: Sequence[str]) -> Data:
    r"""Applies the named transforms in their order: :obj:`"normalize-features"` (row-normalisation
    after subtracting the minimum), :obj:`"self-loops"` (one at every node), :obj:`"undirected"`
    (every edge runs both ways once, with the mean of the given weights).
    """
    for name in names:
        if name not in TRANSFORMS:
            raise ValueError(f"unknown transform '{name}', choose from {list(TRANSFORMS)}")
        data = TRANSFORMS[name](data)
    return data
