r"""Predictions of a model outside of torch as an expert."""

import torch
from torch import Tensor

from mowst.experts.conv import AnyGraph
from mowst.sparse.features import Features


class Precomputed(torch.nn.Module):
    r"""An expert without parameters that returns given logits, such as those of gradient-boosted
    trees or of a language model. The stages that would train it are skipped.

    .. code-block:: python

        prob = torch.from_numpy(xgboost.predict_proba(x))
        model = Mowst(weak=Precomputed(prob.clamp(min=1e-6).log()), strong=gnn)
        fit(model, data)

    A saved model holds the logits. To load it, pass :obj:`Precomputed` with logits of the same
    shape, which those in the file replace.

    The logits of validation and test nodes must come from a model that was not trained on them. A
    model that was trained on the training nodes is overconfident there; its out-of-fold logits are
    the better ones for them.

    Args:
        logits (torch.Tensor): The logits of all nodes of the graph.

    Shapes:
        - **logits:** :math:`(N, C)`
        - **output:** logits :math:`(N, C)`

    Raises:
        ValueError: If the logits are not floating point of shape :math:`(N, C)`.
    """

    inductive = False
    takes_graph = True

    logits: Tensor

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        logits = torch.as_tensor(logits)
        if logits.dim() != 2 or not logits.is_floating_point():
            raise ValueError(
                f"logits must be floating point of shape [N, C], got {logits.dtype} of shape "
                f"{list(logits.shape)}"
            )
        self.register_buffer("logits", logits.detach().clone())

    def forward(
        self, x: Features | Tensor, edge_index: AnyGraph, edge_weight: Tensor | None = None
    ) -> Tensor:
        r"""Returns the logits of all nodes; neither features nor edges are read.

        Raises:
            ValueError: If the number of nodes is another one.
        """
        num_nodes = self.logits.size(0)
        if x.shape[0] != num_nodes:
            raise ValueError(
                f"{type(self).__name__} has the logits of {num_nodes} nodes, got features of "
                f"{x.shape[0]}"
            )
        return self.logits

    def __repr__(self) -> str:
        num_nodes, num_classes = self.logits.shape
        return f"{type(self).__name__}(num_nodes={num_nodes}, num_classes={num_classes})"
