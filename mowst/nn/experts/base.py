"""What our graph experts share: the layer product, fast dropout, refused edge weights."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.nn.dense.linear import is_uninitialized_parameter
from torch_geometric.nn.inits import reset
from torch_geometric.nn.models.basic_gnn import BasicGNN

from mowst.graph.adjacency import Adjacency, Kind
from mowst.graph.features import linear, sparse_features
from mowst.graph.propagate import Operator, propagate
from mowst.nn.dropout import Dropout
from mowst.nn.experts.blocks import activate, feature_linear, node_norm


class FastConv(MessagePassing):
    """Mixin in front of a PyG layer whose message passing is the product with a constant matrix.

    A layer names the arguments of its messages in `propagate_type`: PyG would look for them in the source of the first
    class of the layer's name, which is ours.

    Attributes:
        first (bool): Whether this layer reads the input features, which may be constant and sparse.
        sparse_features (bool, optional): Whether it takes them as sparse, by default where that is faster.
        takes_skip (bool): Whether the layer adds a linear skip to its output by itself.
    """

    first = False
    sparse_features: bool | None = None
    takes_skip = False
    # PyG swaps in a compiled `propagate` per class, which knows no explanation masks, and keeps the one that it finds
    # for explaining: here that must not be the compiled one of the PyG layer behind us.
    propagate = MessagePassing.propagate

    def runs_fast(self, x: Tensor, weight: Tensor) -> bool:
        """False for PyG's explainers, for flows and inputs that have no operator, and for lazy parameters."""
        return (
            isinstance(x, Tensor)
            and x.dim() == 2
            and self.flow == "source_to_target"
            and not self.explain
            and not is_uninitialized_parameter(weight)
        )

    def features(self, x: Tensor) -> Operator | None:
        """The input features as a sparse matrix, where they are one."""
        return sparse_features(x, self.sparse_features) if self.first else None

    def hop(
        self,
        graph: Adjacency,
        kind: Kind,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        nodes: Tensor | None = None,
        **options: float,
    ) -> Tensor:
        r""":math:`(\mathbf{P} \mathbf{X}) \mathbf{W}^{\top} + \mathbf{b} =
        \mathbf{P} (\mathbf{X} \mathbf{W}^{\top}) + \mathbf{b}` of the given nodes, by default of all, on the cheaper
        side: the first where :math:`\mathbf{P} \mathbf{X}` is a constant, computed once, or the narrower matrix, or
        no wider and has fewer rows.
        """
        features = self.features(x)
        constant = self.first and not x.requires_grad
        if features is None and constant:
            hop = graph.first_hop(x, kind, **options)
            return F.linear(hop if nodes is None else hop[nodes], weight, bias)
        operator = graph.operator(kind, x.dtype, **options)
        if nodes is not None:
            operator = operator.rows(nodes)
        if features is None and weight.size(1) < weight.size(0) + (nodes is not None):
            return F.linear(propagate(operator, x), weight, bias)
        hidden = F.linear(x, weight) if features is None else linear(features, weight)
        out = propagate(operator, hidden)
        return out if bias is None else out.add_(bias)


class Expert(BasicGNN):
    r"""Mixin in front of one of PyG's :class:`BasicGNN` models that keeps its modules, parameters and results.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each hidden sample.
        num_layers (int): Number of message passing layers.
        out_channels (int, optional): Size of each output sample, by default `hidden_channels`. (default: :obj:`None`)
        dropout (float): Dropout probability. (default: :obj:`0.0`)
        act (str): Activation. (default: :obj:`"relu"`)
        norm (str, optional): Normalization; "layer_norm" normalizes each node by itself. (default: :obj:`None`)
        jk (str, optional): The Jumping Knowledge mode of PyG; "last" puts a linear head behind the last layer.
            (default: :obj:`None`)
        skip (bool): Whether a linear map of its input is added to the output of each layer, before the normalization.
            (default: :obj:`False`)
        pre_linear (bool): Whether a linear map and dropout come before the first layer, which then reads hidden
            samples. (default: :obj:`False`)
        sparse_features (bool, optional): Whether input features run as a sparse matrix, by default where their density
            makes that faster. (default: :obj:`None`)
        **kwargs (optional): Further arguments of the PyG model and of its layers.

    Shapes:
        - **input:** x :math:`(N, F_{in})`, edge_index :math:`(2, |\mathcal{E}|)`, edge_weight :math:`(|\mathcal{E}|)`
        - **output:** logits :math:`(N, F_{out})`
    """

    inductive = True

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        num_layers: int,
        out_channels: int | None = None,
        dropout: float = 0.0,
        *,
        act: str = "relu",
        norm: str | None = None,
        jk: str | None = None,
        skip: bool = False,
        pre_linear: bool = False,
        sparse_features: bool | None = None,
        **kwargs: Any,
    ):
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        self._args = {
            "in_channels": in_channels,
            "hidden_channels": hidden_channels,
            "num_layers": num_layers,
            "out_channels": out_channels,
            "dropout": dropout,
            "act": act,
            "norm": norm,
            "jk": jk,
            "skip": skip,
            "pre_linear": pre_linear,
            "sparse_features": sparse_features,
            **kwargs,
        }
        norm_layer = node_norm(norm, hidden_channels)
        width = hidden_channels if pre_linear else in_channels
        super().__init__(
            width, hidden_channels, num_layers, out_channels, dropout, act=act, norm=norm_layer, jk=jk, **kwargs
        )
        self.in_channels = in_channels
        self.sparse_features = sparse_features
        self.dropout = Dropout(dropout)
        self.lin_in = torch.nn.Linear(in_channels, hidden_channels) if pre_linear else None
        widths = [width] + [hidden_channels] * (num_layers - 1)
        outs = widths[1:] + [self.out_channels if jk is None else hidden_channels]
        self.skips = torch.nn.ModuleList(map(torch.nn.Linear, widths, outs)) if skip else None
        if isinstance(self.convs[0], FastConv):
            self.convs[0].first = not pre_linear
            self.convs[0].sparse_features = sparse_features
        elif sparse_features is not None and not (skip or pre_linear):
            raise ValueError(f"{type(self).__name__} reads dense features only: leave sparse_features out")

    def reset_parameters(self) -> None:
        """Resets all learnable parameters."""
        super().reset_parameters()
        for lin in filter(None, [self.lin_in, *(self.skips or [])]):
            reset(lin)

    def constructor_args(self) -> dict[str, Any]:
        """The arguments that would construct this module anew."""
        return dict(self._args)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        nodes: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Logits of all nodes, or of the given ones: the last layer then runs for them alone, unless one node's answer
        depends on the others of the last layer (graph-wide norms in training, attention).

        Raises:
            ValueError: If edge weights are given to layers that cannot use them.
        """
        if edge_weight is not None and not self.supports_edge_weight:
            raise ValueError(f"{type(self).__name__} cannot use edge_weight: leave it out, or choose a GCN")
        if kwargs and (self.skips is not None or self.lin_in is not None):
            raise ValueError(f"{type(self).__name__} with skip or pre_linear takes no {', '.join(kwargs)}")
        if kwargs:
            out = super().forward(x, edge_index, edge_weight, **kwargs)
            return out if nodes is None else out[nodes]
        weight = {"edge_weight": edge_weight} if self.supports_edge_weight else {}
        xs, sparse = [], self.sparse_features
        if self.lin_in is not None:
            x, sparse = self.dropout(feature_linear(self.lin_in, x, sparse)), False
        for i, norm in enumerate(self.norms):
            last = i == self.num_layers - 1
            rows = nodes if last and self._ends_node_by_node() else None
            x, sparse = self._layer(i, x, edge_index, sparse, nodes=rows, **weight), False
            if not last or self.jk_mode is not None:
                x = activate(x, norm, self.act, self.dropout, self.act_first)
            if hasattr(self, "jk"):
                xs.append(x)
        x = self.jk(xs) if hasattr(self, "jk") else x
        x = x if nodes is None or rows is not None else x[nodes]
        return self.lin(x) if hasattr(self, "lin") else x

    def _layer(
        self, i: int, x: Tensor, edge_index: Tensor, sparse: bool | None, nodes: Tensor | None, **weight: Any
    ) -> Tensor:
        conv, skip = self.convs[i], None if self.skips is None else self.skips[i]
        options = weight if nodes is None else weight | {"nodes": nodes}
        if skip is not None and getattr(conv, "takes_skip", False):
            return conv(x, edge_index, skip=skip, **options)
        out = conv(x, edge_index, **options)
        return out if skip is None else feature_linear(skip, x if nodes is None else x[nodes], sparse).add_(out)

    def _ends_node_by_node(self) -> bool:
        return (
            self.num_layers > 1
            and self.jk_mode in (None, "last")
            and self._args["norm"] in (None, "layer_norm", "LayerNorm")
            and isinstance(self.convs[-1], FastConv)
        )
