r"""The two training losses, as means over the nodes they are given."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, nll_loss

from mowst.nn.mixture import mixture_log_prob, nested, shares


def mowst_loss(
    logits: Sequence[Tensor], confidences: Sequence[Tensor], y: Tensor, class_weight: Tensor | None = None
) -> Tensor:
    r"""The loss of **Mowst**, the expected loss of an answer by the expert that the confidences draw. Of two experts

    .. math::
        L = \frac{1}{|V|} \sum_{v \in V} C_v \, \ell(\mathbf{p}_v, y_v) + (1 - C_v) \, \ell(\mathbf{p}'_v, y_v)

    with the cross-entropy :math:`\ell`, from the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper; of :math:`K` it nests, :math:`L_k = C_k \, \ell_k + (1 - C_k) \,
    L_{k+1}`.

    Args:
        logits (list[Tensor]): logits of the experts, weak to strong.
        confidences (list[Tensor]): confidences :math:`C_v` of all experts but the last.
        y (Tensor): labels.
        class_weight (Tensor, optional): weights :math:`a_c` of the classes: the mean over nodes becomes
            :math:`\sum_v a_{y_v} L_v / \sum_v a_{y_v}`, as in :func:`torch.nn.functional.cross_entropy`.
            (default: :obj:`None`)

    Shapes:
        - **logits:** :math:`(N, C)` each; **confidences:** :math:`(N)` each; **y:** :math:`(N)`; **class_weight:**
          :math:`(C)`
    """
    return reached_loss(logits, confidences, y, expert=0, class_weight=class_weight)


def reached_loss(
    logits: Sequence[Tensor],
    confidences: Sequence[Tensor],
    y: Tensor,
    expert: int,
    normalize: bool = False,
    floor: float = 0.0,
    class_weight: Tensor | None = None,
) -> Tensor:
    r"""The part of :func:`mowst_loss` that an expert can change: its own and its successors' loss on what reaches it,

    .. math::
        \frac{1}{|V|} \sum_{v \in V} w_v \, L_{k, v}, \qquad
        w_v = \max \left( \prod_{j<k} (1 - C_{j, v}), \, \texttt{floor} \right)

    or divided by :math:`\sum_v w_v` with :obj:`normalize`. The first expert's is :math:`L` itself; for the strong
    expert of two it is the cross-entropy under the weights :math:`1 - C_v`. Where these are near zero, weight decay
    takes over; both options are against that. With weights of the classes :math:`a_{y_v}` multiplies :math:`w_v`, and
    :math:`\sum_v a_{y_v}` replaces :math:`|V|`.

    Args:
        logits, confidences, y, class_weight: see :func:`mowst_loss`.
        expert (int): the position :math:`k` of the expert, from 0.
        normalize (bool): divide by the sum of the weights. (default: :obj:`False`)
        floor (float): the least weight of a node. (default: :obj:`0.0`)
    """
    losses = nested([cross_entropy(z, y, reduction="none") for z in logits[expert:]], confidences[expert:])
    weight = torch.ones_like(losses) if expert == 0 else shares(confidences[:expert])[-1].clamp(min=floor)
    count: Tensor | int = y.numel()
    if class_weight is not None:
        weight, count = class_weight[y] * weight, class_weight[y].sum()
    total = (weight * losses).sum()
    return total / weight.sum().clamp(min=torch.finfo(total.dtype).tiny) if normalize else total / count


def mowst_star_loss(
    logits: Sequence[Tensor],
    confidences: Sequence[Tensor],
    y: Tensor,
    mix: str = "prob",
    class_weight: Tensor | None = None,
) -> Tensor:
    r"""The loss of **Mowst\***, the loss of the mixed prediction, of two experts

    .. math::
        L^{\star} = \frac{1}{|V|} \sum_{v \in V}
        \ell \left( C_v \, \mathbf{p}_v + (1 - C_v) \, \mathbf{p}'_v, \, y_v \right) \leq L

    (or of the mixed logits), from the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper. The inequality is Jensen's: :math:`\ell` is convex in either mixture.

    Args:
        logits, confidences, y, class_weight: see :func:`mowst_loss`.
        mix (str): what is mixed, :obj:`"prob"` or :obj:`"logit"`. (default: :obj:`"prob"`)

    Shapes:
        - **logits:** :math:`(N, C)` each; **confidences:** :math:`(N)` each; **y:** :math:`(N)`
    """
    return nll_loss(mixture_log_prob(logits, confidences, mix), y, weight=class_weight)
