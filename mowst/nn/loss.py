r"""The training losses of the paper, as means over nodes."""

from typing import Protocol

from torch import Tensor

from mowst.labels import mean_nll, node_nll
from mowst.nn.mixture import mix_values, mixture_log_prob
from mowst.nn.softmax import log_softmax


class ExpertOutput(Protocol):
    r"""What a loss reads: a :class:`~mowst.nn.output.MowstOutput`, or any object with these
    fields.
    """

    @property
    def confidence(self) -> Tensor: ...
    @property
    def weak(self) -> Tensor: ...
    @property
    def strong(self) -> Tensor: ...


def mowst_loss(
    out: ExpertOutput, y: Tensor, mask: Tensor | None = None, class_weight: Tensor | None = None
) -> Tensor:
    r"""The loss of **Mowst** from the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper

    .. math::
        L = \frac{1}{|V|} \sum_{v \in V} C_v \, \ell(\mathbf{p}_v, y_v) + (1 - C_v) \,
        \ell(\mathbf{p}'_v, y_v)

    where :math:`\ell` is the cross-entropy, or with several labels the mean binary cross-entropy
    (:func:`~mowst.labels.node_nll`), :math:`\mathbf{p}` the weak and :math:`\mathbf{p}'` the strong
    prediction and :math:`C` the confidence. It is the expected loss when the weak expert
    predicts node :math:`v` with probability :math:`C_v` and the strong expert otherwise.

    Args:
        out (MowstOutput): The output of the model.
        y (torch.Tensor): The labels.
        mask (torch.Tensor, optional): The nodes :math:`V`, as a mask or as indices. All nodes if
            :obj:`None`. (default: :obj:`None`)
        class_weight (torch.Tensor, optional): The weight of each class, as in
            :func:`torch.nn.functional.cross_entropy`: the mean becomes a weighted mean. (default:
                :obj:`None`)

    Shapes:
        - **out.weak**, **out.strong:** logits :math:`(N, C)` or :math:`(N, L, 2)`,
          **out.confidence:** :math:`(N)`
        - **y:** :math:`(N)` or :math:`(N, L)`, **class_weight:** :math:`(C)`
    """
    weak, strong, confidence, y = _select(out, y, mask)
    losses = mix_values(_cross_entropies(weak, y), _cross_entropies(strong, y), confidence)
    return _mean(losses, y, class_weight)


def deferred_loss(
    out: ExpertOutput, y: Tensor, mask: Tensor | None = None, class_weight: Tensor | None = None
) -> Tensor:
    r"""The part of :func:`mowst_loss` that the strong expert can change

    .. math::
        \frac{1}{|V|} \sum_{v \in V} (1 - C_v) \, \ell(\mathbf{p}'_v, y_v)

    Args:
        out, y, mask, class_weight: See :func:`mowst_loss`.
    """
    _, strong, confidence, y = _select(out, y, mask)
    return _mean((1 - confidence) * _cross_entropies(strong, y), y, class_weight)


def mowst_star_loss(
    out: ExpertOutput,
    y: Tensor,
    mask: Tensor | None = None,
    mix: str = "prob",
    class_weight: Tensor | None = None,
) -> Tensor:
    r"""The loss of **Mowst\***, the cross-entropy of the mixed prediction, from the `"Mixture of
    Weak & Strong Experts on Graphs" <https://arxiv.org/abs/2311.05185>`_ paper

    .. math::
        L^{\star} = \frac{1}{|V|} \sum_{v \in V}
        \ell \left( C_v \, \mathbf{p}_v + (1 - C_v) \, \mathbf{p}'_v, \, y_v \right) \leq L

    The inequality is Jensen's: :math:`\ell` is convex in either mixture.

    Args:
        out, y, mask, class_weight: See :func:`mowst_loss`.
        mix (str, optional): What is mixed, :obj:`"prob"` or :obj:`"logit"`. (default:
            :obj:`"prob"`)
    """
    weak, strong, confidence, y = _select(out, y, mask)
    return mean_nll(mixture_log_prob(weak, strong, confidence, mix), y, class_weight)


def _select(
    out: ExpertOutput, y: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if mask is None:
        return out.weak, out.strong, out.confidence, y
    return out.weak[mask], out.strong[mask], out.confidence[mask], y[mask]


def _cross_entropies(logits: Tensor, y: Tensor) -> Tensor:
    return node_nll(log_softmax(logits), y)


def _mean(losses: Tensor, y: Tensor, class_weight: Tensor | None) -> Tensor:
    if class_weight is None:
        return losses.sum() / y.size(0)
    weight = class_weight[y]
    return (weight * losses).sum() / weight.sum()
