r"""The two training losses, as means over the nodes they are given."""

from torch import Tensor
from torch.nn.functional import cross_entropy, nll_loss

from mowst.nn.mixture import mixture_log_prob


def mowst_loss(weak: Tensor, strong: Tensor, confidence: Tensor, y: Tensor) -> Tensor:
    r"""The loss of **Mowst**, the expected loss of an answer by the expert that the confidence draws

    .. math::
        L = \frac{1}{|V|} \sum_{v \in V} C_v \, \ell(\mathbf{p}_v, y_v) + (1 - C_v) \, \ell(\mathbf{p}'_v, y_v)

    with the cross-entropy :math:`\ell`, from the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper.

    Args:
        weak (Tensor): weak logits of shape :math:`(N, C)`.
        strong (Tensor): strong logits of shape :math:`(N, C)`.
        confidence (Tensor): confidence :math:`C_v` of shape :math:`(N)`.
        y (Tensor): labels of shape :math:`(N)`.
    """
    weak_loss = cross_entropy(weak, y, reduction="none")
    strong_loss = cross_entropy(strong, y, reduction="none")
    return (confidence * weak_loss + (1 - confidence) * strong_loss).mean()


def mowst_star_loss(weak: Tensor, strong: Tensor, confidence: Tensor, y: Tensor, mix: str = "prob") -> Tensor:
    r"""The loss of **Mowst\***, the loss of the mixed prediction

    .. math::
        L^{\star} = \frac{1}{|V|} \sum_{v \in V}
        \ell \left( C_v \, \mathbf{p}_v + (1 - C_v) \, \mathbf{p}'_v, \, y_v \right) \leq L

    (or of the mixed logits), from the `"Mixture of Weak & Strong Experts on Graphs"
    <https://arxiv.org/abs/2311.05185>`_ paper. The inequality is Jensen's: :math:`\ell` is convex in either mixture.

    Args:
        weak (Tensor): weak logits of shape :math:`(N, C)`.
        strong (Tensor): strong logits of shape :math:`(N, C)`.
        confidence (Tensor): confidence :math:`C_v` of shape :math:`(N)`.
        y (Tensor): labels of shape :math:`(N)`.
        mix (str): what is mixed, :obj:`"prob"` or :obj:`"logit"`. (default: :obj:`"prob"`)
    """
    return nll_loss(mixture_log_prob(weak, strong, confidence, mix), y)
