r"""Confidence modules: the dispersion of the weak prediction, mapped to :math:`[0, 1]`.

A confidence is any module :obj:`confidence(logits)` (or :obj:`confidence(logits, x=x)`) :math:`\to (N)` in
:math:`[0, 1]`. Those of this room follow the `"Mixture of Weak & Strong Experts on Graphs"
<https://arxiv.org/abs/2311.05185>`_ paper; all take weak logits of shape :math:`(N, C)`.
"""

from mowst.nn.confidence.fixed import MonotoneConfidence, PowerConfidence, StepConfidence
from mowst.nn.confidence.learned import FeatureConfidence, HypernetworkConfidence, LearnedConfidence, LogitConfidence
from mowst.nn.spec import Registry

__all__ = [
    "CONFIDENCES",
    "FeatureConfidence",
    "HypernetworkConfidence",
    "LearnedConfidence",
    "LogitConfidence",
    "MonotoneConfidence",
    "PowerConfidence",
    "StepConfidence",
]

CONFIDENCES = Registry("confidence")
CONFIDENCES.register("power")(PowerConfidence)
CONFIDENCES.register("step")(StepConfidence)
CONFIDENCES.register("monotone")(MonotoneConfidence)
CONFIDENCES.register("learned")(LearnedConfidence)
CONFIDENCES.register("hypernetwork")(HypernetworkConfidence)
CONFIDENCES.register("logits")(LogitConfidence)
CONFIDENCES.register("features")(FeatureConfidence)
