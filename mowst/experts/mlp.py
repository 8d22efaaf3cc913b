r"""The multi-layer perceptron, with a sparse first layer if the features are sparse."""

from typing import Any

import torch
import torch_geometric.nn
from torch import Tensor

from mowst.experts.blocks import activate, apply_linear, build_norm
from mowst.sparse.dropout import Dropout
from mowst.sparse.features import Features


class MLP(torch_geometric.nn.MLP):
    r"""A multi-layer perceptron on the features of each node alone,

    .. math::
        \mathbf{H}^{(k)} = \mathrm{dropout}(\sigma(\mathrm{norm}(\mathbf{H}^{(k-1)}
        \mathbf{W}_k^{\top} + \mathbf{b}_k)))

    with a plain linear map as the last layer. Parameters and results are those of
    :class:`torch_geometric.nn.MLP`. With `skip`, layers between hidden samples, :math:`1 < k < L`,
    add their input :math:`\mathbf{H}^{(k-1)}` to that.

    Args:
        in_channels (int): Size of each input sample.
        out_channels (int): Size of each output sample.
        hidden_channels (int, optional): Size of each hidden sample, needed for more than one layer.
            (default: :obj:`None`)
        num_layers (int): Number of linear layers. (default: :obj:`2`)
        dropout (float): Dropout probability of the hidden samples. (default: :obj:`0.0`)
        norm (str, optional): Normalization; "layer_norm" normalizes each node by itself. (default:
            :obj:`None`)
        norm_kwargs (dict, optional): Further arguments of the normalization. (default: :obj:`None`)
        act (str or torch.nn.Module): Activation; a module is not described in a saved model.
            (default: :obj:`"relu"`)
        act_first (bool): Whether the activation comes before the normalization. (default:
            :obj:`False`)
        skip (bool): Whether hidden samples of equal width are added, which changes three layers and
            more. (default: :obj:`False`)
        sparse_features (bool, optional): Whether the input runs as a sparse matrix, by default
            where its density makes that faster. (default: :obj:`None`)

    Shapes:
        - **input:** x :math:`(N, F_{in})`
        - **output:** logits :math:`(N, F_{out})`
    """

    inductive = True
    takes_graph = True

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        hidden_channels: int | None = None,
        num_layers: int = 2,
        dropout: float = 0.0,
        norm: str | None = None,
        norm_kwargs: dict[str, Any] | None = None,
        act: str | torch.nn.Module = "relu",
        act_first: bool = False,
        skip: bool = False,
        sparse_features: bool | None = None,
    ):
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        super().__init__(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            act=act,
            act_first=act_first,
            norm=None,
        )
        self.hidden_channels = hidden_channels
        self.norm = norm
        self.skip = skip
        self.sparse_features = sparse_features
        self.dropout = Dropout(dropout)
        self.norm_kwargs = norm_kwargs
        norms = [
            build_norm(norm, hidden_channels, **(norm_kwargs or {})) for _ in range(num_layers - 1)
        ]
        self.norms = torch.nn.ModuleList(layer or torch.nn.Identity() for layer in norms)
        self._act_name = act

    def constructor_args(self) -> dict[str, Any]:
        r"""Returns the arguments that construct this module again."""
        sizes = ("in_channels", "out_channels", "hidden_channels", "num_layers")
        names = (*sizes, "norm", "norm_kwargs", "act_first", "skip", "sparse_features")
        return {name: getattr(self, name) for name in names} | {
            "dropout": self.dropout.p,
            "act": self._act_name,
        }

    def forward(self, x: Features | Tensor) -> Tensor:
        r"""Returns the logits of all nodes."""
        return self.finish(apply_linear(self.lins[0], x, self.sparse_features))

    def finish(self, hidden: Tensor) -> Tensor:
        r"""The layers after the first linear map, given its output."""
        before = None
        for norm, lin in zip(self.norms, list(self.lins)[1:], strict=True):
            hidden = activate(hidden, norm, self.act, self.dropout, self.act_first)
            if before is not None:
                hidden = hidden + before
            before = hidden if self.skip else None
            hidden = apply_linear(lin, hidden)
        return hidden
