r"""Serving a trained model: what it may cost, and what that costs in accuracy."""

from mowst.inference.deferral import deferral_cost, deferral_curve, deferral_curves, deferral_report
from mowst.inference.plots import plot_deferral
from mowst.inference.predictor import Prediction, Predictor, Statistics
from mowst.inference.threshold import Choice, choose_threshold
from mowst.nn.layerwise import layerwise_logits

__all__ = [
    "Choice",
    "Prediction",
    "Predictor",
    "Statistics",
    "choose_threshold",
    "deferral_cost",
    "deferral_curve",
    "deferral_curves",
    "deferral_report",
    "layerwise_logits",
    "plot_deferral",
]
