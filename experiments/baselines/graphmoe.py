r"""GraphMoE: a sparse, noisy gate over equal GNNs."""

from collections.abc import Sequence
from typing import Any

import torch
from common import build_for
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus
from training import count_parameters, predict, train

from mowst import GraphTask, TrainConfig
from mowst.nn.build import ModelConfig
from mowst.nn.call import call_expert

# Without noise the smooth load would be a step.
MIN_NOISE = 1e-2


def fit_graphmoe(
    task: GraphTask,
    config: ModelConfig,
    settings: TrainConfig,
    num_experts: int = 4,
    k: int = 2,
    balance: float = 0.01,
) -> tuple[Tensor, dict[str, Any]]:
    r"""Returns the class probabilities :math:`(N, C)` of a :class:`GraphMoE` trained on
    :math:`\ell + \lambda L_{\mathrm{balance}}`.

    Args:
        task (GraphTask): the task.
        config (ModelConfig): the model whose strong expert each expert equals.
        settings (TrainConfig): the settings of training.
        num_experts (int, optional): number of experts. (default: :obj:`4`)
        k (int, optional): number of experts per node. (default: :obj:`2`)
        balance (float, optional): the weight :math:`\lambda`. (default: :obj:`0.01`)
    """
    experts = [build_for(task, config).strong for _ in range(num_experts)]
    model = GraphMoE(experts, NoisyTopKGate(task.num_features, num_experts, k))

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(logits, y) + balance * model.balance

    train(model, task, settings, loss=loss)
    prob = predict(model, task).softmax(dim=-1)
    details = {"parameters": count_parameters(model), "experts": num_experts}
    return prob, details | {"k": k, "balance": balance}


class GraphMoE(torch.nn.Module):
    r"""The mixture of equal GNNs

    .. math::
        \mathbf{z}_v = \sum_{e} G(\mathbf{x}_v)_e \, f_e(\mathbf{X}, \mathbf{E})_v

    after `"Graph Mixture of Experts: Learning on Large-Scale Graphs with Explicit Diversity
    Modeling" <https://arxiv.org/abs/2304.02806>`_. In the paper an expert is one layer of a GNN and
    every layer has a gate; here an expert is a whole GNN behind one gate. All experts run on all
    nodes, as neighbours of the nodes that chose them.

    Args:
        experts (list[torch.nn.Module]): GNNs :obj:`expert(x, edge_index)` :math:`\to (N, C)`
            logits.
        gate (torch.nn.Module): :obj:`gate(x)` :math:`\to` gates :math:`(N, E)` and load
            :math:`(E)`.

    Attributes:
        balance (Tensor): :math:`L_{\mathrm{balance}} = \mathrm{CV}(\sum_v G(\mathbf{x}_v))^2 +
            \mathrm{CV}(\mathrm{load})^2` of the last forward.
    """

    balance: Tensor

    def __init__(self, experts: Sequence[torch.nn.Module], gate: torch.nn.Module) -> None:
        super().__init__()
        self.experts = torch.nn.ModuleList(experts)
        self.gate = gate

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        gates, load = self.gate(x)
        self.balance = compute_cv_squared(gates.sum(dim=0)) + compute_cv_squared(load)
        logits = [call_expert(expert, x, edge_index) for expert in self.experts]
        logits = torch.stack(logits, dim=1)  # [N, E, C]
        return (gates.unsqueeze(-1) * logits).sum(dim=1)


class NoisyTopKGate(torch.nn.Module):
    r"""The gate of `"Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts
    Layer" <https://arxiv.org/abs/1701.06538>`_

    .. math::
        G(\mathbf{x}) = \mathrm{softmax}(\mathrm{top}_k(\mathbf{h})), \qquad h_e = (\mathbf{W}_g
        \mathbf{x})_e + \epsilon_e \, s_e, \qquad s_e = \mathrm{softplus}((\mathbf{W}_n
        \mathbf{x})_e), \qquad \epsilon_e \sim \mathcal{N}(0, 1)

    without noise in evaluation mode. Both matrices start at zero, that is at even use. In training,
    the load of an expert is the expected number of nodes that choose it when only its own noise is
    redrawn, :math:`\sum_v \Phi \left( ((\mathbf{W}_g \mathbf{x}_v)_e - t_{v,e}) / s_{v,e} \right)`
    with the :math:`k`-th largest :math:`t_{v,e}` of the other :math:`h_{v,e'}`; in evaluation it is
    the number of nodes that chose it.

    Args:
        in_channels (int): number of node features.
        num_experts (int): number of experts :math:`E`.
        k (int): number of experts per node.

    Raises:
        ValueError: If :obj:`k` is not between 1 and the number of experts.

    Shapes:
        - **input:** :math:`(N, F)`
        - **output:** gates :math:`(N, E)`, load :math:`(E)`
    """

    def __init__(self, in_channels: int, num_experts: int, k: int) -> None:
        super().__init__()
        if not 1 <= k <= num_experts:
            raise ValueError(f"k must lie between 1 and the {num_experts} experts, got {k}")
        self.k = k
        self.score = torch.nn.Linear(in_channels, num_experts, bias=False)
        self.noise = torch.nn.Linear(in_channels, num_experts, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        torch.nn.init.zeros_(self.score.weight)
        torch.nn.init.zeros_(self.noise.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        score = self.score(x)
        scale = softplus(self.noise(x)) + MIN_NOISE
        noisy = score
        if self.training:
            noisy = score + torch.randn_like(score) * scale
        top, chosen = noisy.topk(self.k, dim=-1)
        gates = torch.zeros_like(noisy).scatter(-1, chosen, top.softmax(dim=-1))
        if not self.training or self.k == score.size(-1):
            return gates, (gates > 0).sum(dim=0).to(gates.dtype)
        last, first_out = (
            noisy.topk(self.k + 1, dim=-1).values[:, -2:].split(1, dim=-1)
        )  # [N, 1] each
        threshold = torch.where(noisy > first_out, first_out, last)
        return gates, torch.special.ndtr((score - threshold) / scale).sum(dim=0)


def compute_cv_squared(use: Tensor) -> Tensor:
    r"""Computes the squared coefficient of variation :math:`\mathrm{Var}(\mathbf{u}) /
    \mathrm{Mean}(\mathbf{u})^2`: zero for even use.

    Shapes:
        - **input:** :math:`(E)`, **output:** a scalar
    """
    return use.var(correction=0) / use.mean().square()
