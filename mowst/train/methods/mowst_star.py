r"""Mowst*: both experts are trained together."""

from functools import partial

from mowst.nn.loss import mowst_star_loss
from mowst.nn.mowst import Mowst
from mowst.train.config import TrainConfig
from mowst.train.methods.method import MixtureMethod, choose_learning
from mowst.train.stage import Stage


class MowstStarMethod(MixtureMethod):
    r"""The joint optimisation of the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper: both experts (and the gate, with
    :obj:`gate_fit="train"`) minimise
    :math:`L^{\star}`, see :func:`~mowst.nn.loss.mowst_star_loss`. Unless :obj:`round_patience` is
    raised, there is one round.
    """

    def round_stages(self, model: Mowst, config: TrainConfig) -> list[Stage]:
        joint = Stage(
            name="joint",
            part="joint",
            predicts="mixture",
            learns=choose_learning(model, config, ("weak", "strong", "gate")),
            loss=partial(mowst_star_loss, mix=model.mix),
        )
        return [joint] if joint.learns else []
