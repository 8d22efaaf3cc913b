r"""The model: experts, confidence, and their mixture."""

from mowst.nn.cascade import Cascade, CascadeOutput
from mowst.nn.confidence import (
    CONFIDENCES,
    FeatureConfidence,
    HypernetworkConfidence,
    LearnedConfidence,
    LogitConfidence,
    MonotoneConfidence,
    PowerConfidence,
    StepConfidence,
)
from mowst.nn.dispersion import entropy_dispersion, variance_dispersion
from mowst.nn.experts import (
    EXPERTS,
    GAT,
    GCN,
    GIN,
    GPRGNN,
    H2GCN,
    LINKX,
    MLP,
    GraphSAGE,
    SkipGCN,
    SkipGIN,
    TunedGAT,
    TunedGCN,
    TunedGraphSAGE,
    build_expert,
)
from mowst.nn.mixture import mixture_log_prob
from mowst.nn.mowst import Mowst, MowstOutput

__all__ = [
    "GAT",
    "GPRGNN",
    "H2GCN",
    "LINKX",
    "SkipGCN",
    "SkipGIN",
    "TunedGAT",
    "TunedGCN",
    "TunedGraphSAGE",
    "CONFIDENCES",
    "EXPERTS",
    "GCN",
    "GIN",
    "MLP",
    "Cascade",
    "CascadeOutput",
    "FeatureConfidence",
    "GraphSAGE",
    "HypernetworkConfidence",
    "LearnedConfidence",
    "LogitConfidence",
    "MonotoneConfidence",
    "Mowst",
    "MowstOutput",
    "PowerConfidence",
    "StepConfidence",
    "build_expert",
    "entropy_dispersion",
    "mixture_log_prob",
    "variance_dispersion",
]
