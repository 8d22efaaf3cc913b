r"""Serving a trained model: what it may cost, and what that costs in accuracy."""

from mowst.inference.threshold import Choice, choose_threshold

__all__ = ["Choice", "choose_threshold"]
