r"""The fit of the gate and of temperatures to validation nodes.

An expert is confident on the nodes that it has memorised. A gate that is fitted to those nodes
defers too few nodes elsewhere. On validation nodes, the confidence of the expert is the one that it
has on new nodes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mowst.labels import mean_nll, node_nll
from mowst.nn.evaluating import evaluating
from mowst.nn.mixture import MIXES, candidate_mixes, mixture_log_prob
from mowst.nn.mowst import EXPERTS, Mowst
from mowst.nn.softmax import log_softmax
from mowst.task import GraphTask
from mowst.train.calibration import minimise_nll
from mowst.train.inputs import TaskInputs
from mowst.train.state import Snapshot


class GateFit(NamedTuple):
    r"""The result of :func:`fit_gate`.

    Args:
        losses: The mean cross-validated loss of each choice: :obj:`"weak"` and :obj:`"strong"`
            alone, and the mixing spaces that were compared.
        chosen: The choice.
        held_out: The loss of the choice on each validation node, by a fit that had not seen the
            node, :math:`(n)`.
    """

    losses: dict[str, float]
    chosen: str
    held_out: Tensor

    def is_better_than(self, other: "GateFit | None") -> bool:
        r"""Whether the held-out loss is lower than that of another fit by more than one standard
        error of the paired difference. A loss that is NaN is not better.
        """
        if other is None:
            return True
        gain = other.held_out - self.held_out
        return float(gain.mean()) > standard_error(gain)


def fit_gate(
    model: Mowst,
    task: GraphTask,
    folds: int = 10,
    mix: str | None = None,
    inputs: TaskInputs | None = None,
) -> GateFit:
    r"""Fits the gate and one temperature per expert to the validation nodes, and chooses by
    cross-validated likelihood
    what predicts: the mixture of probabilities, the mixture of logits, or one expert alone. The
    experts do not change. After `"Stacked Generalization"
    <https://doi.org/10.1016/S0893-6080(05)80023-1>`_.

    With the predicted log-probabilities :math:`\mathbf{m}`, the fit minimises

    .. math::
        \sum_{v \in V_{\mathrm{val}}} - m_{v, y_v} (\boldsymbol{\theta}) +
        \frac{1}{2} \lVert \boldsymbol{\theta} - \boldsymbol{\theta}_0 \rVert^2

    where :math:`\boldsymbol{\theta}` holds the :math:`\log T` of both experts (around 0) and the
    parameters of the gate (around their current values), so that few nodes change them little. The
    gate runs in evaluation mode. A gate with two parameters, :class:`~mowst.nn.gates.MonotoneGate`,
    needs the fewest nodes.

    The choice is the one of the least loss plus one standard error of its paired difference to the
    strong expert, so that a choice that is not clearly better than the strong expert leaves the
    prediction to it.

    Args:
        model (Mowst): The model. Its temperatures, gate, :obj:`mix` and :obj:`route` are set.
        task (GraphTask): The task. Only the labels of its validation nodes are read.
        folds (int, optional): The number of folds of the validation nodes. (default: :obj:`10`)
        mix (str, optional): What may be mixed: :obj:`"prob"`, :obj:`"logit"`, or both for
            :obj:`"auto"`. What the model allows if :obj:`None`. (default: :obj:`None`)
        inputs (TaskInputs, optional): The inputs of the task, if they are at hand. (default:
            :obj:`None`)

    Raises:
        ValueError: If there are fewer than two folds or validation nodes, or :obj:`mix` is unknown.
        FloatingPointError: If the logits of an expert on the validation nodes are not finite.
    """
    from sklearn.model_selection import KFold

    check_validation_nodes(task, folds)
    task = task.visible
    inputs = inputs or TaskInputs(model, task)
    nodes, y, weight = task.index("val"), task.labels("val"), task.class_weights
    choices = ["strong", "weak", *(model.mixes if mix is None else candidate_mixes(mix))]
    with evaluating(model):
        weak, strong = _compute_logits(model, inputs, nodes)
        val = _ValidationRows(weak, strong, inputs.val_rows.x, y)
        fit = _Fit(model, weight, y.device)
        log_prob = {choice: torch.empty_like(val.weak) for choice in choices}
        splitter = KFold(min(folds, y.size(0)), shuffle=True, random_state=0)
        for seen, held_out in splitter.split(np.arange(y.size(0))):
            seen_rows = val.select(torch.from_numpy(seen).to(y.device))
            held_out_ids = torch.from_numpy(held_out).to(y.device)
            held_out_rows = val.select(held_out_ids)
            for choice in choices:
                fit.fit(choice, seen_rows)
                with torch.no_grad():
                    log_prob[choice][held_out_ids] = fit.log_prob(choice, held_out_rows)
        losses = {}
        for choice in choices:
            losses[choice] = node_nll(log_prob[choice], y)
            if weight is not None:
                losses[choice] = losses[choice] * weight[y] * (1 / weight[y].mean())
        chosen = _choose(losses)
        fit.fit(chosen, val)
    model.temperatures = dict(zip(EXPERTS, fit.log_temperatures.exp().tolist(), strict=True))
    model.route = "mixture" if chosen in MIXES else chosen
    if chosen in MIXES:
        model.mix = chosen
    means = {choice: float(loss.mean()) for choice, loss in losses.items()}
    return GateFit(means, chosen, losses[chosen].cpu())


def check_validation_nodes(task: GraphTask, folds: int) -> None:
    r"""Raises a :obj:`ValueError` if :func:`fit_gate` would have too few nodes or folds."""
    count = task.visible.index("val").numel()
    if min(folds, count) < 2:
        raise ValueError(
            f"the gate is fitted to at least two validation nodes in two folds, got {count} nodes "
            f"in {folds}: add validation nodes, or train the gate on the training nodes with "
            "gate_fit='train'"
        )


def standard_error(values: Tensor) -> float:
    r"""The standard error of the mean of :math:`n` values, :math:`s / \sqrt{n}` with the unbiased
    :math:`s`.
    """
    return float(values.std()) / math.sqrt(values.numel())


def _compute_logits(model: Mowst, inputs: TaskInputs, nodes: Tensor) -> list[Tensor]:
    before = model.temperatures
    model.temperatures = dict.fromkeys(EXPERTS, 1.0)
    logits = []
    for name in EXPERTS:
        with torch.no_grad():
            logits.append(model.logits(name, inputs.x, inputs.graph, nodes=nodes))
        if not logits[-1].isfinite().all():
            model.temperatures = before
            raise FloatingPointError(
                f"the logits of the {name} expert on the validation nodes are not finite"
            )
    return logits


def _choose(losses: dict[str, Tensor]) -> str:
    best, least = "strong", math.inf
    for choice, loss in losses.items():
        bound = float(loss.mean()) + standard_error(loss - losses["strong"])
        if bound < least:
            best, least = choice, bound
    return best


class _ValidationRows(NamedTuple):
    weak: Tensor
    strong: Tensor
    x: Tensor
    y: Tensor

    def select(self, ids: Tensor) -> "_ValidationRows":
        return _ValidationRows(self.weak[ids], self.strong[ids], self.x[ids], self.y[ids])


class _Fit:
    def __init__(self, model: Mowst, weight: Tensor | None, device: torch.device) -> None:
        from threadpoolctl import ThreadpoolController

        self.model = model
        self.weight = weight
        self.log_temperatures = torch.zeros(2, device=device, requires_grad=True)
        self.start = Snapshot(model.gate)
        self.pools = ThreadpoolController()

    def fit(self, choice: str, rows: _ValidationRows) -> None:
        # Every fit starts from the same values, so that no fit has seen the nodes that another one
        # holds out.
        self.start.restore()
        self.log_temperatures.data.zero_()
        if choice in MIXES:
            self._fit_mixture(choice, rows)
        else:
            logits, prior = getattr(rows, choice), 1 / rows.y.size(0)
            inverse, _ = minimise_nll(logits, rows.y, self.weight, 1e-3, prior)
            self.log_temperatures.data[EXPERTS.index(choice)] = -inverse.log()

    def _fit_mixture(self, mix: str, rows: _ValidationRows) -> None:
        from scipy.optimize import Bounds, minimize

        gate = [p for p in self.model.gate.parameters() if p.requires_grad]
        parameters = [self.log_temperatures, *gate]
        centre = parameters_to_vector(parameters).detach()

        def compute_loss(values: np.ndarray) -> tuple[float, np.ndarray]:
            vector_to_parameters(torch.from_numpy(values).to(centre), parameters)
            fitted = mean_nll(self.log_prob(mix, rows), rows.y, self.weight)
            shift = parameters_to_vector(parameters) - centre
            value = fitted + shift.square().sum() / (2 * rows.y.size(0))
            slope = torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, parameters)])
            return float(value.detach()), slope.cpu().numpy().astype(np.float64)

        start = centre.cpu().numpy().astype(np.float64)
        # Within five standard deviations of the prior no step overflows. The tolerance is a
        # hundredth of the smallest difference of losses that decides a choice.
        bounds, options = Bounds(start - 5, start + 5), {"ftol": 1e-6}
        # SciPy calls BLAS on a few numbers: BLAS threads would only take the cores from torch's, at
        # 20 times the time.
        with self.pools.limit(limits=1, user_api="blas"):
            found = minimize(
                compute_loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
            )
        vector_to_parameters(torch.from_numpy(found.x).to(centre), parameters)

    def log_prob(self, choice: str, rows: _ValidationRows) -> Tensor:
        logits: Sequence[Tensor] = (rows.weak, rows.strong)
        weak, strong = (z / t for z, t in zip(logits, self.log_temperatures.exp(), strict=True))
        if choice == "weak":
            return log_softmax(weak)
        if choice == "strong":
            return log_softmax(strong)
        return mixture_log_prob(weak, strong, self.model.confidence(weak, rows.x), choice)
