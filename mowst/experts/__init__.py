r"""The experts of this package and their registered names."""

from mowst.experts.gat import GAT
from mowst.experts.gcn import GCN
from mowst.experts.gin import GIN
from mowst.experts.gprgnn import GPRGNN
from mowst.experts.h2gcn import H2GCN
from mowst.experts.linkx import LINKX
from mowst.experts.mlp import MLP
from mowst.experts.precomputed import Precomputed
from mowst.experts.sage import GraphSAGE
from mowst.nn.registry import register_expert

__all__ = ["GAT", "GCN", "GIN", "GPRGNN", "H2GCN", "LINKX", "MLP", "GraphSAGE", "Precomputed"]

register_expert("mlp", MLP)
register_expert("gcn", GCN)
register_expert("sage", GraphSAGE)
register_expert("gin", GIN)
register_expert("gat", GAT)
register_expert("h2gcn", H2GCN)
register_expert("gprgnn", GPRGNN)
register_expert("linkx", LINKX)

# "Mixture of Weak & Strong Experts on Graphs" (https://arxiv.org/abs/2311.05185): a linear map of
# its input is added to the output of each layer.
register_expert("gcn-skip", GCN, skip=True)
register_expert("gin-skip", GIN, skip=True)

# "Classic GNNs are Strong Baselines" (https://arxiv.org/abs/2406.08993): normalization and a linear
# head. Its skips are the argument skip=True.
register_expert("tuned-gcn", GCN, norm="layer_norm", jk="last")
register_expert("tuned-sage", GraphSAGE, norm="layer_norm", jk="last")
register_expert("tuned-gat", GAT, norm="layer_norm", jk="last", heads=1)
