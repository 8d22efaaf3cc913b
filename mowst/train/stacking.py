r"""Trained experts combined on nodes that none of them was trained on.

An expert is confident on the nodes that it has memorised, and a confidence that learns there passes on too little
elsewhere. On held-out nodes it learns what the expert is worth.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from sklearn.model_selection import KFold
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn.functional import nll_loss
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mowst.nn.cascade import Cascade
from mowst.nn.evaluating import evaluating
from mowst.nn.mixture import MIXES, candidate_mixes, mixture_log_prob
from mowst.task import GraphTask
from mowst.train.answers import expert_logits
from mowst.train.state import Snapshot


class Stacked(NamedTuple):
    r"""What cross-validation on the validation nodes says of who shall answer.

    Args:
        losses: the mean loss of each choice: of the experts by name, and of what :obj:`mix` leaves open.
        chosen: the choice.
        held: its loss on each validation node, by a fit that had not seen the node, :math:`(n)`.
    """

    losses: dict[str, float]
    chosen: str
    held: Tensor


def stack(model: Cascade, task: GraphTask, folds: int = 10, mix: str | None = None) -> Stacked:
    r"""Fits temperatures and confidences of a model with trained experts to the validation nodes, and chooses by
    cross-validated likelihood there who shall answer: the mixture of probabilities, that of logits, or one expert
    alone. Experts are left as they are. After `"Stacked Generalization"
    <https://doi.org/10.1016/S0893-6080(05)80023-1>`_.

    With the log-probabilities :math:`\mathbf{m}` of the answer, the fit minimises

    .. math::
        \sum_{v \in V_{\mathrm{val}}} - m_{v, y_v} (\boldsymbol{\theta}) +
        \frac{1}{2} \lVert \boldsymbol{\theta} - \boldsymbol{\theta}_0 \rVert^2

    where :math:`\boldsymbol{\theta}` holds the :math:`\log T_k` of all experts (around 0) and the parameters of the
    confidences (around what they are), so that few nodes move it little. Confidences are run in evaluation mode. One
    with two parameters, :class:`~mowst.nn.confidence.MonotoneConfidence`, needs the fewest nodes.

    Args:
        model (Mowst or Cascade): the model; its temperatures, confidences, :obj:`mix` and :obj:`route` are set.
        task (GraphTask): the task, of which the labels of the validation nodes alone are read.
        folds (int, optional): the number of folds of the validation nodes, or as many as there are nodes.
            (default: :obj:`10`)
        mix (str, optional): what may be mixed, :obj:`"prob"`, :obj:`"logit"` or either, :obj:`"auto"`; :obj:`None`
            leaves it to the model. (default: :obj:`None`)

    Returns:
        Stacked: the cross-validated losses and the choice: the least loss, one standard error of its paired difference
        to the last expert's added, so that what cannot be told from the last expert leaves the answer to it. A
        confidence that does not answer is left as it was.

    Raises:
        ValueError: if there are fewer than two folds or validation nodes, or :obj:`mix` is unknown.
        FloatingPointError: if the logits of an expert on the validation nodes are not finite.
    """
    check_validation_nodes(task, folds)
    task = task.visible
    nodes, y = task.index("val"), task.labels("val")
    choices = (*reversed(model.expert_names), *(model.mixes if mix is None else candidate_mixes(mix)))
    parts = list(KFold(min(folds, y.numel()), shuffle=True, random_state=0).split(np.arange(y.numel())))
    with evaluating(model):
        before, model.temperatures = model.temperatures, [1.0] * len(model.expert_names)
        with torch.no_grad():
            logits = [expert_logits(model, k, task, nodes) for k in range(len(model.expert_names))]
        for name, z in zip(model.expert_names, logits, strict=True):
            if not z.isfinite().all():
                model.temperatures = before
                raise FloatingPointError(f"the logits of the {name} expert on the validation nodes are not finite")
        val = _Rows(logits, task.features("val"), y)
        fit = _Fit(model, task.class_weights, y.device)
        log_prob = {choice: torch.empty_like(logits[0]) for choice in choices}
        for part in parts:
            kept, held = (torch.from_numpy(side).to(y.device) for side in part)
            # Taken once for all choices and steps: features may be wide.
            seen, unseen = val.at(kept), val.at(held)
            for choice, answer in log_prob.items():
                fit(choice, seen)
                with torch.no_grad():
                    answer[held] = fit.log_prob(choice, unseen)
        scale = 1.0 if task.class_weights is None else 1 / task.class_weights[y].mean()
        losses = {
            choice: nll_loss(answer, y, weight=task.class_weights, reduction="none") * scale
            for choice, answer in log_prob.items()
        }
        last = losses[model.expert_names[-1]]
        best = min(losses, key=lambda choice: float(losses[choice].mean()) + standard_error(losses[choice] - last))
        fit(best, val)
    model.temperatures = fit.log_temperatures.exp().tolist()
    model.route = "mixture" if best in MIXES else best
    model.mix = best if best in MIXES else model.mix
    # On the CPU, where a checkpoint has it too.
    return Stacked({choice: float(loss.mean()) for choice, loss in losses.items()}, best, losses[best].cpu())


def check_validation_nodes(task: GraphTask, folds: int) -> None:
    r"""Raises a :obj:`ValueError` where :func:`stack` would have too few nodes or folds."""
    count = task.visible.index("val").numel()
    if min(folds, count) < 2:
        raise ValueError(
            f"confidences are fitted to two validation nodes or more in two folds or more, got {count} in {folds}"
        )


def standard_error(values: Tensor) -> float:
    r"""The standard error of the mean of :math:`n` values, :math:`s / \sqrt{n}` with the unbiased :math:`s`."""
    return float(values.std()) / math.sqrt(values.numel())


class _Rows(NamedTuple):
    logits: Sequence[Tensor]
    x: Tensor
    y: Tensor

    def at(self, index: Tensor) -> "_Rows":
        return _Rows([z[index] for z in self.logits], self.x[index], self.y[index])


class _Fit:
    def __init__(self, model: Cascade, weight: Tensor | None, device: torch.device) -> None:
        self.model, self.weight = model, weight
        self.log_temperatures = torch.zeros(len(model.expert_names), device=device, requires_grad=True)
        self.gates = [getattr(model, name) for name in model.gate_names]
        self.start = Snapshot(*self.gates)
        self.pools = ThreadpoolController()

    def __call__(self, choice: str, rows: _Rows) -> None:
        # Every fit begins at the start, so that none has seen the nodes that another holds out.
        self.start.restore()
        self.log_temperatures.data.zero_()
        parameters = [self.log_temperatures]
        if choice in MIXES:
            parameters += [p for gate in self.gates for p in gate.parameters() if p.requires_grad]
        centre = parameters_to_vector(parameters).detach()

        def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            vector_to_parameters(torch.from_numpy(values).to(centre), parameters)
            fitted = nll_loss(self.log_prob(choice, rows), rows.y, weight=self.weight)
            shift = parameters_to_vector(parameters) - centre
            value = fitted + shift.square().sum() / (2 * rows.y.numel())
            slope = torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, parameters)])
            return float(value.detach()), slope.cpu().numpy().astype(np.float64)

        start = centre.cpu().numpy().astype(np.float64)
        # Within five standard deviations of the prior: no step of the search overflows. The tolerance is a hundredth of
        # the smallest difference of losses that any choice hangs on.
        bounds, options = Bounds(start - 5, start + 5), {"ftol": 1e-6}
        # The search calls BLAS on a few numbers: threads of its own would only take the cores from torch's, at 20 times
        # the seconds.
        with self.pools.limit(limits=1, user_api="blas"):
            found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        vector_to_parameters(torch.from_numpy(found.x).to(centre), parameters)

    def log_prob(self, choice: str, rows: _Rows) -> Tensor:
        logits = [z / t for z, t in zip(rows.logits, self.log_temperatures.exp(), strict=True)]
        if choice not in MIXES:
            return logits[self.model.expert_names.index(choice)].log_softmax(dim=-1)
        confidences = [self.model.gate(k, logits[k], rows.x) for k in range(len(self.gates))]
        return mixture_log_prob(logits, confidences, choice)
