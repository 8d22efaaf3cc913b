r"""The backbones "GCN-skip" and "GIN-skip" of the `"Mixture of Weak & Strong Experts on Graphs"
<https://arxiv.org/abs/2311.05185>`_ paper: a linear map of its input is added to the output of each layer.
"""

from typing import Any

from mowst.nn.experts.gcn import GCN
from mowst.nn.experts.gin import GIN


class SkipGCN(GCN):
    r"""A :class:`~mowst.nn.experts.gcn.GCN` with :obj:`skip=True`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"skip": True} | kwargs)


class SkipGIN(GIN):
    r"""A :class:`~mowst.nn.experts.gin.GIN` with :obj:`skip=True`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"skip": True} | kwargs)
