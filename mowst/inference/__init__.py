r"""Serving a trained model: what it may cost, and what that costs in accuracy."""

from mowst.inference.deferral import deferral_curve, deferral_report
from mowst.inference.threshold import Choice, choose_threshold

__all__ = ["Choice", "choose_threshold", "deferral_curve", "deferral_report"]
