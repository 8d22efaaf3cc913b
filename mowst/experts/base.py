r"""The common base of the graph experts: PyG's models on fast layers."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.inits import reset
from torch_geometric.nn.models.basic_gnn import BasicGNN

from mowst.experts.blocks import activate, apply_linear, build_norm, find_sparse
from mowst.experts.conv import AnyGraph, FastConv, wrap_graph
from mowst.experts.recompute import run_with_recomputing
from mowst.nn.nodewise import is_node_by_node
from mowst.sparse.dropout import Dropout
from mowst.sparse.features import Features, as_tensor
from mowst.sparse.graph import as_graph, unwrap_graph
from mowst.sparse.layerwise import Layers
from mowst.sparse.partial import Step, find_equivalent_width


class Expert(BasicGNN):
    r"""Mixin in front of one of PyG's :class:`BasicGNN` models that keeps its modules, parameters
    and results.

    Args:
        in_channels (int): Size of each input sample.
        hidden_channels (int): Size of each hidden sample.
        num_layers (int): Number of message passing layers.
        out_channels (int, optional): Size of each output sample, by default :obj:`hidden_channels`.
            (default: :obj:`None`)
        dropout (float, optional): Dropout probability. (default: :obj:`0.0`)
        act (str, optional): Activation. (default: :obj:`"relu"`)
        norm (str, optional): Normalization; "layer_norm" normalizes each node by itself. (default:
            :obj:`None`)
        jk (str, optional): The Jumping Knowledge mode of PyG; "last" puts a linear head behind the
            last layer. (default: :obj:`None`)
        skip (bool, optional): If set to :obj:`True`, a linear map of its input is added to the
            output of each layer, before the normalization. (default: :obj:`False`)
        sparse_features (bool, optional): Whether input features run as a sparse matrix. If
            :obj:`None`, constant :class:`~mowst.sparse.features.Features` do if their density makes
            that faster, and plain tensors do not. (default: :obj:`None`)
        **kwargs (optional): Additional arguments of the PyG model and of its layers.

    Attributes:
        checkpoint_activations (bool): Whether layers are computed again in the backward pass, which
            saves memory.

    Shapes:
        - **input:** node features :math:`(N, F_{in})`, edge indices :math:`(2, |\mathcal{E}|)`,
          edge weights :math:`(|\mathcal{E}|)` *(optional)*
        - **output:** logits :math:`(N, F_{out})`
    """

    inductive = True
    takes_graph = True
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
        sparse_features: bool | None = None,
        **kwargs: Any,
    ) -> None:
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
            "sparse_features": sparse_features,
            **kwargs,
        }
        norm_layer = build_norm(norm, hidden_channels, **(kwargs.get("norm_kwargs") or {}))
        super().__init__(
            in_channels,
            hidden_channels,
            num_layers,
            out_channels,
            dropout,
            act=act,
            norm=norm_layer,
            jk=jk,
            **kwargs,
        )
        self.sparse_features = sparse_features
        self.dropout = Dropout(dropout)
        self.skips = torch.nn.ModuleList()
        if skip:
            self.skips.extend(torch.nn.Linear(*width) for width in self._find_widths(in_channels))
        if isinstance(self.convs[0], FastConv):
            self.convs[0].sparse_features = sparse_features
        elif sparse_features is not None and not skip:
            raise ValueError(
                f"{type(self).__name__} reads dense features only: leave sparse_features out"
            )

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters."""
        super().reset_parameters()
        reset(self.skips)

    def constructor_args(self) -> dict[str, Any]:
        r"""Returns the arguments that construct this module again."""
        return dict(self._args)

    def forward(
        self,
        x: Features | Tensor,
        edge_index: AnyGraph,
        edge_weight: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""Returns the logits of all nodes.

        Args:
            x (Features or torch.Tensor): The node features.
            edge_index (Graph, torch.Tensor or SparseTensor): The graph.
            edge_weight (torch.Tensor, optional): The edge weights of a plain :obj:`edge_index`.
                (default: :obj:`None`)
            **kwargs (optional): Additional arguments of the PyG model.

        Raises:
            ValueError: If edge weights are given to layers that cannot use them.
        """
        graph, edge_weight = self._read_graph(x, edge_index, edge_weight)
        if kwargs:
            if self.skips:
                raise ValueError(f"{type(self).__name__} with skip takes no {', '.join(kwargs)}")
            return super().forward(as_tensor(x), *unwrap_graph(graph, edge_weight), **kwargs)
        layer = self._run_layer
        if self.checkpoint_activations and torch.is_grad_enabled():
            layer = partial(run_with_recomputing, self, self._run_layer)
        hidden: Any = self._read_features(x)
        hiddens = []
        for i in range(self.num_layers):
            hidden = layer(i, hidden, graph, edge_weight)
            if hasattr(self, "jk"):
                hiddens.append(hidden)
        if hasattr(self, "jk"):
            hidden = self.jk(hiddens)
        return self.lin(hidden) if hasattr(self, "lin") else hidden

    def split_layers(
        self, x: Features | Tensor, edge_index: AnyGraph, edge_weight: Tensor | None = None
    ) -> Layers | None:
        r"""Returns the layers of this expert one by one, so that it can run for some nodes with the
        degrees of the whole graph. Returns :obj:`None` if it must run for all: for attention, norms
        over the graph, and Jumping Knowledge of several layers.
        """
        if self.jk_mode not in (None, "last") or not is_node_by_node(self):
            return None
        for conv in self.convs:
            if not isinstance(conv, FastConv) or not conv.is_product(x, edge_weight):
                return None
        graph = as_graph(self._read_graph(x, edge_index, edge_weight)[0])
        x = self._read_features(x)
        sparse = find_sparse(x, self.sparse_features)
        widths = self._find_widths(
            self.in_channels if sparse is None else find_equivalent_width(sparse)
        )
        conv = self.convs[0]
        return Layers(
            x,
            graph.operator(conv.kind, x.dtype, **conv.find_options()),
            widths,
            lambda i, rows, step: self._run_layer(i, rows, graph, step=step),
            self.lin if hasattr(self, "lin") else torch.nn.Identity(),
            first_hop=isinstance(x, Features) and sparse is None,
            in_place=0 if sparse is None and not x.requires_grad else 1,
        )

    def _read_graph(
        self, x: Features | Tensor, edge_index: AnyGraph, edge_weight: Tensor | None
    ) -> tuple[AnyGraph, Tensor | None]:
        graph, edge_weight = wrap_graph(edge_index, edge_weight, x.shape[0])
        if not self.supports_edge_weight and unwrap_graph(graph, edge_weight)[1] is not None:
            raise ValueError(
                f"{type(self).__name__} cannot use edge_weight: leave it out, or choose a GCN"
            )
        return graph, edge_weight

    def _read_features(self, x: Features | Tensor) -> Features | Tensor:
        # Plain features that run as a sparse matrix are converted once per call.
        if isinstance(x, Tensor) and self.sparse_features and not x.requires_grad:
            return Features(x)
        return x

    def _find_widths(self, in_channels: int) -> tuple[tuple[int, int], ...]:
        into = [in_channels] + [self.hidden_channels] * (self.num_layers - 1)
        out_of = into[1:] + [self.out_channels if self.jk_mode is None else self.hidden_channels]
        return tuple(zip(into, out_of, strict=True))

    def _run_layer(
        self,
        i: int,
        x: Any,
        graph: AnyGraph,
        edge_weight: Tensor | None = None,
        step: Step | None = None,
    ) -> Tensor:
        if i == 0 and step is not None and isinstance(x, Tensor):
            x = step.reads_from(x)
        x = self._convolve(i, x, graph, edge_weight, step)
        if i == self.num_layers - 1 and self.jk_mode is None:
            return x
        return activate(x, self.norms[i], self.act, self.dropout, self.act_first)

    def _convolve(
        self, i: int, x: Any, graph: AnyGraph, edge_weight: Tensor | None, step: Step | None
    ) -> Tensor:
        conv = self.convs[i]
        skip: Any = self.skips[i] if self.skips else None
        if not isinstance(conv, FastConv):
            out = conv(as_tensor(x), unwrap_graph(graph)[0])
            return out if skip is None else apply_linear(skip, x, self.sparse_features).add_(out)
        options: dict[str, Any] = {"step": step}
        if self.supports_edge_weight:
            options["edge_weight"] = edge_weight
        if skip is not None and conv.takes_skip:
            return conv(x, graph, skip=skip, **options)
        out = conv(x, graph, **options)
        return out if skip is None else conv.add_own(out, x, step, skip.weight, skip.bias)
