r"""Mixture of weak and strong experts on graphs."""

from importlib.metadata import version

from torch_geometric import seed_everything

from mowst.data import load_task
from mowst.nn import (
    GAT,
    GCN,
    GIN,
    GPRGNN,
    H2GCN,
    LINKX,
    MLP,
    Cascade,
    CascadeOutput,
    FeatureConfidence,
    GraphSAGE,
    HypernetworkConfidence,
    LearnedConfidence,
    LogitConfidence,
    MonotoneConfidence,
    Mowst,
    MowstOutput,
    PowerConfidence,
    SkipGCN,
    SkipGIN,
    StepConfidence,
    TunedGAT,
    TunedGCN,
    TunedGraphSAGE,
    build_expert,
)
from mowst.task import GraphTask
from mowst.train import FitResult, ProgressBar, TrainConfig, fit

__version__ = version("mowst")

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
    "GCN",
    "GIN",
    "MLP",
    "Cascade",
    "CascadeOutput",
    "FeatureConfidence",
    "FitResult",
    "GraphSAGE",
    "GraphTask",
    "HypernetworkConfidence",
    "LearnedConfidence",
    "LogitConfidence",
    "MonotoneConfidence",
    "Mowst",
    "MowstOutput",
    "PowerConfidence",
    "ProgressBar",
    "StepConfidence",
    "TrainConfig",
    "build_expert",
    "fit",
    "load_task",
    "seed_everything",
]
