"""What our graph experts share: the layer product, fast dropout, refused edge weights."""

from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.nn.inits import reset
from torch_geometric.nn.models.basic_gnn import BasicGNN

from mowst.graph.adjacency import Kind, adjacency
from mowst.graph.features import linear, sparse_features
from mowst.graph.frontier import Step, aggregates_first, equivalent_width
from mowst.graph.propagate import Operator, propagate
from mowst.nn.dropout import Dropout
from mowst.nn.experts.blocks import activate, feature_linear, node_norm
from mowst.nn.layers import Layers
from mowst.nn.recompute import recomputed

SUMS = ("add", "sum")  # the names of PyG's default aggregation


class FastConv(MessagePassing):
    """Mixin in front of a PyG layer whose message passing is the product with a constant matrix.

    A layer names the arguments of its messages in `propagate_type`: PyG would look for them in the source of the first
    class of the layer's name, which is ours.

    Attributes:
        kind (str): The operator of the layer, see :class:`~mowst.graph.adjacency.Adjacency`.
        first (bool): Whether this layer reads the input features, which may be constant and sparse.
        sparse_features (bool, optional): Whether it takes them as sparse, by default where that is faster.
        takes_skip (bool): Whether the layer adds a linear skip to its output by itself.
    """

    kind: Kind
    first = False
    sparse_features: bool | None = None
    takes_skip = False
    # PyG swaps in a compiled `propagate` per class, which knows no explanation masks, and keeps the one that it finds
    # for explaining: here that must not be the compiled one of the PyG layer behind us.
    propagate = MessagePassing.propagate

    def multiplies(self, x: Tensor, edge_weight: Tensor | None = None) -> bool:
        """Whether the layer is a product here: not under PyG's explainers, for flows, options and inputs that have no
        operator, nor for lazy parameters.
        """
        return isinstance(x, Tensor) and x.dim() == 2 and self.flow == "source_to_target" and not self.explain

    def options(self) -> dict[str, float]:
        """The options of the operator."""
        return {}

    def operator(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Operator:
        """The operator of the layer on the whole graph."""
        graph = adjacency(edge_index, edge_weight, num_nodes=x.size(0))
        return graph.operator(self.kind, x.dtype, **self.options())

    def hop(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None,
        step: Step | None,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        r""":math:`(\mathbf{P} \mathbf{X}) \mathbf{W}^{\top} + \mathbf{b} =
        \mathbf{P} (\mathbf{X} \mathbf{W}^{\top}) + \mathbf{b}`, of all nodes or of those of a step, on the cheaper
        side: the first where :math:`\mathbf{P} \mathbf{X}` is a constant, computed once, or narrow, or of few rows.
        """
        features = self.features(x)
        if features is None and self.first and not x.requires_grad:
            graph, options = adjacency(edge_index, edge_weight, num_nodes=x.size(0)), self.options()
            if step is None or not step.once or graph.knows_first_hop(x, self.kind, **options):
                hop = graph.first_hop(x, self.kind, **options)
                return F.linear(hop if step is None else hop.index_select(0, step.nodes), weight, bias)
        operator = self.operator(x, edge_index, edge_weight) if step is None else step.operator
        if step is not None and self.first and step.before is not None:
            x, features = (step.reads_from(x), None) if features is None else (x, features.rows(step.before))
        if step is not None and step.once and step.before is None and weight.size(0) < weight.size(1):
            # One chunk of many that read the rows of all nodes: a map that narrows them is computed once for all.
            hidden = step.whole.plans.get((x, weight), lambda: F.linear(x, weight))
        elif features is None and aggregates_first(operator.num_entries, *operator.shape, *weight.t().shape):
            return F.linear(propagate(operator, x), weight, bias)
        else:
            hidden = F.linear(x, weight) if features is None else linear(features, weight)
        out = propagate(operator, hidden)
        return out if bias is None else out.add_(bias)

    def features(self, x: Tensor) -> Operator | None:
        """The input features as a sparse matrix, where they are one."""
        return sparse_features(x, self.sparse_features) if self.first else None

    def own(self, x: Tensor, step: Step | None, weight: Tensor, bias: Tensor | None) -> Tensor:
        r""":math:`\mathbf{X} \mathbf{W}^{\top} + \mathbf{b}` of the nodes that the layer computes."""
        features = self.features(x)
        if step is not None:
            nodes = step.nodes if self.first else step.at
            x, features = (x.index_select(0, nodes), None) if features is None else (x, features.rows(nodes))
        return F.linear(x, weight, bias) if features is None else linear(features, weight, bias)


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

    Attributes:
        checkpoint_activations (bool): Whether layers are computed again in the backward pass, which saves memory.

    Shapes:
        - **input:** x :math:`(N, F_{in})`, edge_index :math:`(2, |\mathcal{E}|)`, edge_weight :math:`(|\mathcal{E}|)`
        - **output:** logits :math:`(N, F_{out})`
    """

    inductive = True
    checkpoint_activations = False

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
        norm_layer = node_norm(norm, hidden_channels, **(kwargs.get("norm_kwargs") or {}))
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
        **kwargs: Any,
    ) -> Tensor:
        """Logits of all nodes.

        Raises:
            ValueError: If edge weights are given to layers that cannot use them.
        """
        if edge_weight is not None and not self.supports_edge_weight:
            raise ValueError(f"{type(self).__name__} cannot use edge_weight: leave it out, or choose a GCN")
        if kwargs and (self.skips is not None or self.lin_in is not None):
            raise ValueError(f"{type(self).__name__} with skip or pre_linear takes no {', '.join(kwargs)}")
        if kwargs:
            return super().forward(x, edge_index, edge_weight, **kwargs)
        weight: dict[str, Any] = {"edge_weight": edge_weight} if self.supports_edge_weight else {}
        again = self.checkpoint_activations and torch.is_grad_enabled()
        layer = partial(recomputed, self, self._layer) if again else self._layer
        xs = []
        for i in range(self.num_layers):
            x = layer(i, x, edge_index, **weight)
            if hasattr(self, "jk"):
                xs.append(x)
        x = self.jk(xs) if hasattr(self, "jk") else x
        return self.lin(x) if hasattr(self, "lin") else x

    def layers(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Layers | None:
        """This expert taken apart, so that it can run for some nodes, with the degrees of the whole graph;
        :obj:`None` where it must run on all: attention, norms over the graph, Jumping Knowledge of several layers.
        """
        norms = (None, "layer_norm", "LayerNorm", *(() if self.training else ("batch_norm", "BatchNorm")))
        if self.jk_mode not in (None, "last") or self._args["norm"] not in norms:
            return None
        weight: dict[str, Any] = {"edge_weight": edge_weight} if self.supports_edge_weight else {}
        if not all(isinstance(conv, FastConv) and conv.multiplies(x, *weight.values()) for conv in self.convs):
            return None
        features = self.convs[0].features(x)
        dense = self.in_channels if self.lin_in is None else self.hidden_channels
        first = dense if features is None else equivalent_width(features)
        widths = [first] + [self.hidden_channels] * (self.num_layers - 1)
        outs = [*widths[1:], self.out_channels if self.jk_mode is None else self.hidden_channels]
        return Layers(
            x,
            self.convs[0].operator(x, edge_index, *weight.values()),
            tuple(zip(widths, outs, strict=True)),
            lambda i, rows, step: self._layer(i, rows, edge_index, step=step, **weight),
            self.lin if hasattr(self, "lin") else torch.nn.Identity(),
            first_hop=self.lin_in is None and features is None and not x.requires_grad,
            multiplies=True,
        )

    def _layer(self, i: int, x: Tensor, edge_index: Tensor, *, step: Step | None = None, **weight: Any) -> Tensor:
        sparse = self.sparse_features if i == 0 else False
        if i == 0 and self.lin_in is not None:
            rows = None if step is None else step.before
            x, sparse = self.dropout(feature_linear(self.lin_in, x, sparse, nodes=rows)), False
        x = self._convolve(i, x, edge_index, sparse, step, **weight)
        if i == self.num_layers - 1 and self.jk_mode is None:
            return x
        return activate(x, self.norms[i], self.act, self.dropout, self.act_first)

    def _convolve(
        self, i: int, x: Tensor, edge_index: Tensor, sparse: bool | None, step: Step | None, **weight: Any
    ) -> Tensor:
        conv, skip = self.convs[i], cast(torch.nn.Linear | None, self.skips and self.skips[i])
        options = weight if step is None else weight | {"step": step}
        if skip is not None and isinstance(conv, FastConv) and conv.takes_skip:
            return conv(x, edge_index, skip=skip, **options)
        out = conv(x, edge_index, **options)
        if skip is None:
            return out
        if isinstance(conv, FastConv):
            return conv.own(x, step, skip.weight, skip.bias).add_(out)
        return feature_linear(skip, x, sparse).add_(out)
