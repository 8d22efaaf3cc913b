r"""The common base of the layers: message passing as the product with a constant matrix."""

from typing import Any, TypeAlias

from torch import Tensor
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.typing import SparseTensor

from mowst.sparse.features import Features, as_tensor, linear
from mowst.sparse.graph import Graph, as_graph
from mowst.sparse.linear import map_dense
from mowst.sparse.operators import Kind
from mowst.sparse.partial import Step, aggregates_first
from mowst.sparse.propagate import propagate

SUMS = ("add", "sum")  # the names of PyG's default aggregation

AnyGraph: TypeAlias = Graph | Tensor | SparseTensor


def wrap_graph(
    edge_index: AnyGraph, edge_weight: Tensor | None, num_nodes: int
) -> tuple[AnyGraph, Tensor | None]:
    r"""Returns edges and weights as a :class:`Graph`, unless the weights learn."""
    if edge_weight is not None and edge_weight.requires_grad:
        return edge_index, edge_weight
    return as_graph(edge_index, edge_weight, num_nodes), None


class FastConv(MessagePassing):
    r"""Mixin in front of a PyG layer whose message passing is the product with a constant matrix.

    A layer names the arguments of its messages in :obj:`propagate_type`: PyG would look for them in
    the source of the first class of the layer's name, which is ours.

    Attributes:
        kind (str): The operator of the layer, see :class:`~mowst.sparse.graph.Graph`.
        sparse_features (bool, optional): Whether :class:`~mowst.sparse.features.Features` run as a
            sparse matrix. If :obj:`None`, they do if that is faster.
        takes_skip (bool): Whether the layer adds a linear skip to its output by itself.
    """

    kind: Kind
    sparse_features: bool | None = None
    takes_skip = False
    # PyG swaps in a compiled `propagate` per class, which knows no explanation masks, and keeps the
    # one that it finds for explaining: here that must not be the compiled one of the PyG layer
    # behind us.
    propagate = MessagePassing.propagate

    def is_product(self, x: Any, edge_weight: Tensor | None = None) -> bool:
        r"""Returns whether the layer is a product here. It is not under PyG's explainers, for
        flows, options and inputs without an operator, nor for lazy parameters.
        """
        matrix = isinstance(x, Features) or (isinstance(x, Tensor) and x.dim() == 2)
        return matrix and self.flow == "source_to_target" and not self.explain

    def find_options(self) -> dict[str, float]:
        r"""Returns the options of the operator."""
        return {}

    def multiply(
        self,
        x: Any,
        edge_index: AnyGraph,
        edge_weight: Tensor | None,
        step: Step | None,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        r"""Returns :math:`(\mathbf{P} \mathbf{X}) \mathbf{W}^{\top} + \mathbf{b} = \mathbf{P}
        (\mathbf{X} \mathbf{W}^{\top}) + \mathbf{b}` of all nodes or of those of a step, on the
        cheaper side. The first is cheaper if :math:`\mathbf{P} \mathbf{X}` is narrow, of few rows,
        or a constant.
        """
        graph = as_graph(edge_index, edge_weight, x.shape[0] if step is None else None)
        sparse = x.sparse(self.sparse_features) if isinstance(x, Features) else None
        if sparse is None and isinstance(x, Features):
            hop = graph.first_hop(x, self.kind, **self.find_options())
            rows = hop if step is None else step.select_from(hop)
            return map_dense(rows, weight, bias)
        if step is None:
            operator = graph.operator(self.kind, x.dtype, **self.find_options())
        else:
            operator = step.operator
        if sparse is not None:
            if step is not None and step.before is not None:
                sparse = sparse.rows(step.before)
            hidden = linear(sparse, weight)
        elif step is not None and step.shared is not None and weight.size(0) < weight.size(1):
            # One chunk of many that read the rows of all nodes: a map that narrows them is computed
            # once for all.
            if "hidden" not in step.shared:
                step.shared["hidden"] = map_dense(x, weight)
            hidden = step.shared["hidden"]
        elif aggregates_first(operator.num_entries, *operator.shape, *weight.t().shape):
            return map_dense(propagate(operator, x), weight, bias)
        else:
            hidden = map_dense(x, weight)
        out = propagate(operator, hidden)
        return out if bias is None else out.add_(bias)

    def add_own(
        self,
        out: Tensor,
        x: Features | Tensor,
        step: Step | None,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        r"""Returns :math:`\mathbf{X} \mathbf{W}^{\top} + \mathbf{b}` of the nodes that the layer
        computes, added to :obj:`out`, its output so far, whose memory may be used.
        """
        sparse = x.sparse(self.sparse_features) if isinstance(x, Features) else None
        if sparse is not None:
            own = linear(sparse if step is None else sparse.rows(step.nodes), weight, bias)
            return own.add_(out)
        rows = as_tensor(x)
        if step is not None:
            whole = isinstance(x, Features) or step.before is None
            rows = step.select_from(rows) if whole else rows.index_select(0, step.at)
        return map_dense(rows, weight, bias, into=out)
