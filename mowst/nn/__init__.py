r"""The model: experts, gate, and their mixture."""

from mowst.nn.build import build_expert, build_gate, build_model
from mowst.nn.dispersion import entropy_dispersion, variance_dispersion
from mowst.nn.gates import MonotoneGate, PowerGate, StepGate
from mowst.nn.learned_gates import FeatureGate, HypernetworkGate, LearnedGate, LogitGate
from mowst.nn.loss import deferred_loss, mowst_loss, mowst_star_loss
from mowst.nn.mixture import mixture_log_prob, mixture_prob
from mowst.nn.mowst import Mowst
from mowst.nn.output import MowstOutput
from mowst.nn.registry import EXPERTS, GATES, register_expert, register_gate

__all__ = [
    "EXPERTS",
    "GATES",
    "FeatureGate",
    "HypernetworkGate",
    "LearnedGate",
    "LogitGate",
    "MonotoneGate",
    "Mowst",
    "MowstOutput",
    "PowerGate",
    "StepGate",
    "build_expert",
    "build_gate",
    "build_model",
    "deferred_loss",
    "entropy_dispersion",
    "mixture_log_prob",
    "mixture_prob",
    "mowst_loss",
    "mowst_star_loss",
    "register_expert",
    "register_gate",
    "variance_dispersion",
]
