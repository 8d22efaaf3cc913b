r"""Serving a trained model, and its accuracy by its cost."""

from mowst.nn.layerwise import layerwise_logits
from mowst.serve.deferral import deferral_cost, deferral_curve, deferral_curves, deferral_report
from mowst.serve.plots import plot_deferral
from mowst.serve.predictor import Prediction, Predictor, Statistics
from mowst.serve.threshold import Choice, choose_threshold

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
