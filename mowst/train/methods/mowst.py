r"""Mowst: both experts are trained in alternation."""

from mowst.nn.loss import deferred_loss, mowst_loss
from mowst.nn.mowst import Mowst
from mowst.train.config import TrainConfig
from mowst.train.methods.method import MixtureMethod, choose_learning
from mowst.train.stage import Stage


class MowstMethod(MixtureMethod):
    r"""The alternating optimisation of the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper. Each round has two stages:

    .. code-block:: text

        weak     the weak expert (and the gate, with gate_fit="train") minimises L, with the
                 strong expert frozen
        strong   the strong expert minimises L, with the weak expert and the gate frozen

    with the loss :math:`L` of :func:`~mowst.nn.loss.mowst_loss`.
    """

    def round_stages(self, model: Mowst, config: TrainConfig) -> list[Stage]:
        r"""Returns the weak and the strong stage, without those in which nothing learns."""
        weak = Stage(
            name="weak",
            part="weak",
            predicts="mixture",
            learns=choose_learning(model, config, ("weak", "gate")),
            loss=mowst_loss,
        )
        strong = Stage(
            name="strong",
            part="strong",
            predicts="mixture",
            learns=choose_learning(model, config, ("strong",)),
            loss=deferred_loss,
        )
        return [stage for stage in (weak, strong) if stage.learns]
