r"""Labels of two kinds: one class per node, or several labels per node.

A node with :math:`L` labels is predicted by :math:`L` two-class predictions, of the logits
:math:`[0, z_l]`, which are those of a sigmoid: :math:`p_l = \sigma(z_l)`. Everything that acts on
the last dimension, such as softmax, mixture and argmax, is therefore the same for both kinds.

.. code-block:: text

    kind                   logits, probabilities    labels
    one class per node     [N, C]                   [N], -1 for none
    several labels         [N, L, 2]                [N, L] of 0 and 1, -1 or NaN for unknown
"""

import torch
from torch import Tensor
from torch.nn.functional import nll_loss


def label_logits(logits: Tensor) -> Tensor:
    r"""Returns the logits :math:`[0, z_l]` of each label from the logits :math:`z_l`.

    Shapes:
        - **logits:** :math:`(N, L)` or for one label :math:`(N)`; :math:`(N, L, 2)` is returned as
          it is
        - **output:** :math:`(N, L, 2)`
    """
    if logits.dim() == 3:
        return logits
    logits = logits.unsqueeze(1) if logits.dim() == 1 else logits
    return torch.stack([torch.zeros_like(logits), logits], dim=-1)


def label_prob(prob: Tensor) -> Tensor:
    r"""Returns the probability :math:`p_l` of each label from both probabilities
    :math:`[1 - p_l, p_l]`, and class probabilities as they are.

    Shapes:
        - **prob:** :math:`(N, C)` or :math:`(N, L, 2)`
        - **output:** :math:`(N, C)` or :math:`(N, L)`
    """
    return prob if prob.dim() == 2 else prob[..., 1]


def is_labelled(y: Tensor) -> Tensor:
    r"""Returns whether the class of each node, or one of its labels, is known.

    Shapes:
        - **y:** :math:`(N)` or :math:`(N, L)`, **output:** :math:`(N)`
    """
    return y >= 0 if y.dim() == 1 else (y >= 0).any(dim=1)


def count_classes(y: Tensor) -> int:
    r"""Returns the number of classes :math:`C`, or of labels :math:`L`.

    Shapes:
        - **y:** :math:`(N)` or :math:`(N, L)`
    """
    return y.size(1) if y.dim() == 2 else int(y.max()) + 1


def average_labels(values: Tensor, y: Tensor | None = None) -> Tensor:
    r"""Returns one value for each node: the mean over its known labels, or over all labels without
    :obj:`y`. Values of nodes with one class are returned as they are.

    Shapes:
        - **values**, **y:** :math:`(N)` or :math:`(N, L)`
        - **output:** :math:`(N)`
    """
    if values.dim() == 1:
        return values
    if y is None:
        return values.mean(dim=1)
    known = y >= 0
    return (values * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def pick_true(values: Tensor, y: Tensor) -> Tensor:
    r"""Returns the values of the true class, or of the true side of each label. Those of unknown
    labels are arbitrary.

    Shapes:
        - **values:** :math:`(N, C)` or :math:`(N, L, 2)`
        - **y**, **output:** :math:`(N)` or :math:`(N, L)`
    """
    if y.dim() == 2:
        y = torch.where(y >= 0, y, 0).long()
    return values.gather(-1, y.unsqueeze(-1)).squeeze(-1)


def share_right(values: Tensor, y: Tensor) -> Tensor:
    r"""Returns for each node whether the most probable class is its label, or the share of its
    known labels that are right at 0.5, in the precision of the probabilities or logits.

    Shapes:
        - **values:** :math:`(N, C)` or :math:`(N, L, 2)`
        - **y:** :math:`(N)` or :math:`(N, L)`, **output:** :math:`(N)`
    """
    return average_labels((values.argmax(dim=-1) == y).to(values.dtype), y)


def node_nll(log_prob: Tensor, y: Tensor) -> Tensor:
    r"""Returns the negative log-likelihood :math:`- \log p_{v, y_v}` of each node. With several
    labels, it is the mean binary cross-entropy over the known labels :math:`K_v`

    .. math::
        - \frac{1}{|K_v|} \sum_{l \in K_v}
        y_{v, l} \log p_{v, l} + (1 - y_{v, l}) \log (1 - p_{v, l})

    Shapes:
        - **log_prob:** :math:`(N, C)` or :math:`(N, L, 2)`
        - **y:** :math:`(N)` or :math:`(N, L)`, **output:** :math:`(N)`

    Raises:
        ValueError: If log-probabilities and labels are of different kinds.
    """
    if log_prob.dim() != y.dim() + 1:
        kind = "multilabel=True" if y.dim() == 2 else "multilabel=False"
        raise ValueError(
            f"logits of shape {list(log_prob.shape)} do not fit labels of shape {list(y.shape)}, "
            f"which need Mowst(..., {kind})"
        )
    if y.dim() == 1:
        return nll_loss(log_prob, y, reduction="none")
    return average_labels(-pick_true(log_prob, y), y)


def mean_nll(log_prob: Tensor, y: Tensor, class_weight: Tensor | None = None) -> Tensor:
    r"""Returns the mean of :func:`node_nll`, weighted by the class weights :math:`(C)` if they are
    given.
    """
    if y.dim() == 1 and log_prob.dim() == 2:
        return nll_loss(log_prob, y, weight=class_weight)
    return node_nll(log_prob, y).mean()


def flatten_labels(values: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Returns the known labels of all nodes as rows of their own: values, labels, and shares of
    the rows, with which a weighted sum over rows is the mean over nodes of :func:`average_labels`.

    Shapes:
        - **values:** :math:`(N, L, 2)`, **y:** :math:`(N, L)`
        - **output:** :math:`(M, 2)`, :math:`(M)` and :math:`(M)`
    """
    known = y >= 0
    share = (1.0 / known.sum(dim=1, keepdim=True)).expand(y.shape)[known]
    return values[known], y[known].long(), share.to(values.dtype) / share.sum()
