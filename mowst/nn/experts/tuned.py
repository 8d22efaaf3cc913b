r"""The backbones of `"Classic GNNs are Strong Baselines: Reassessing GNNs for Node Classification"
<https://arxiv.org/abs/2406.08993>`_: classic layers with normalization, optional linear skips and a linear head,

.. math::
    \mathbf{H}^{(k)} = \mathrm{dropout}(\mathrm{ReLU}(\mathrm{norm}(\mathrm{conv}(\mathbf{H}^{(k-1)}, \mathcal{E})
    + [\mathbf{H}^{(k-1)} \mathbf{W}_k^{\top}]))), \qquad \mathbf{Z} = \mathbf{H}^{(L)} \mathbf{W}^{\top}

each the classic expert under other defaults, and nothing more.
"""

from typing import Any

from mowst.nn.experts.gat import GAT
from mowst.nn.experts.gcn import GCN
from mowst.nn.experts.sage import GraphSAGE

DEFAULTS = {"norm": "layer_norm", "jk": "last"}


class TunedGCN(GCN):
    r"""A :class:`~mowst.nn.experts.gcn.GCN` with :obj:`norm="layer_norm"` and :obj:`jk="last"` (a linear head) unless
    told otherwise; :obj:`skip=True` adds the linear skips.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **DEFAULTS | kwargs)


class TunedGraphSAGE(GraphSAGE):
    r"""A :class:`~mowst.nn.experts.sage.GraphSAGE` with :obj:`norm="layer_norm"` and :obj:`jk="last"` (a linear head)
    unless told otherwise; :obj:`skip=True` adds the linear skips.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **DEFAULTS | kwargs)


class TunedGAT(GAT):
    r"""A :class:`~mowst.nn.experts.gat.GAT` of one head with :obj:`norm="layer_norm"` and :obj:`jk="last"` (a linear
    head) unless told otherwise; :obj:`skip=True` adds the linear skips.
    """

    def __init__(self, *args: Any, heads: int = 1, **kwargs: Any):
        super().__init__(*args, heads=heads, **DEFAULTS | kwargs)
