r"""Analytic gradients are those of finite differences, in double precision, for all that is
differentiated by hand or guarded against infinite slopes.
"""

from typing import get_args

import pytest
import torch
from torch.autograd import gradcheck
from torch.func import functional_call

from mowst.nn.build import build_expert, build_gate
from mowst.nn.call import call_expert
from mowst.nn.loss import deferred_loss, mowst_loss, mowst_star_loss
from mowst.nn.output import MowstOutput
from mowst.nn.registry import EXPERTS, GATES
from mowst.nn.signature import takes_features
from mowst.sparse import Features, Graph
from mowst.sparse.features import linear
from mowst.sparse.operators import Kind
from mowst.sparse.propagate import propagate

NODES, FEATURES, CLASSES = 7, 3, 4


def double(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.double, generator=generator).requires_grad_()


def random_edges(directed):
    edges = torch.randint(NODES - 1, (2, 14), generator=torch.Generator().manual_seed(3))
    edges = torch.cat([edges, torch.tensor([[0, 1], [1, 0]])], dim=1)  # one way there and back
    return edges if directed else torch.cat([edges, edges.flip(0)], dim=1)


@pytest.mark.parametrize("name", sorted(set(GATES.names()) - {"step"}))  # which has no slope
def test_every_gate_by_its_logits_features_and_parameters(name):
    torch.manual_seed(0)
    sizes = {"hidden_channels": 4, "num_layers": 2}
    gate = build_gate(name, in_channels=FEATURES, num_classes=CLASSES, **sizes).double().eval()
    names = [name for name, _ in gate.named_parameters()]

    def confidence(logits, x, *parameters):
        more = {"x": x} if takes_features(gate) else {}
        return functional_call(gate, dict(zip(names, parameters, strict=True)), (logits,), more)

    parameters = [p.detach().requires_grad_() for p in gate.parameters()]
    assert gradcheck(
        confidence, (double(NODES, CLASSES), double(NODES, FEATURES, seed=1), *parameters)
    )


LOSSES = {
    "mowst": mowst_loss,
    "deferred": deferred_loss,
    "star of probabilities": lambda out, y: mowst_star_loss(out, y, mix="prob"),
    "star of logits": lambda out, y: mowst_star_loss(out, y, mix="logit"),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_every_loss_by_logits_and_confidence(loss):
    y = torch.arange(5) % CLASSES
    confidence = double(5, seed=2).sigmoid().detach().requires_grad_()
    inputs = (double(5, CLASSES), double(5, CLASSES, seed=1), confidence)
    assert gradcheck(lambda weak, strong, c: loss(MowstOutput(None, c, weak, strong), y), inputs)


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("directed", [True, False])
def test_propagation_by_every_operator(kind, directed):
    operator = Graph(random_edges(directed), num_nodes=NODES).operator(kind, torch.double)
    assert operator.num_entries > 0
    assert gradcheck(lambda x: propagate(operator, x), (double(NODES, 2),))


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_on_sparse_features(bias):
    x = Features((double(NODES, 9) * (double(NODES, 9, seed=1) > 0.7)).detach()).sparse(True)
    inputs = (double(2, 9, seed=2), *([double(2, seed=3)] if bias else []))
    assert gradcheck(lambda *weights: linear(x, *weights), inputs)


@pytest.mark.parametrize("name", EXPERTS.names())
@pytest.mark.parametrize("directed", [True, False])
def test_every_expert_by_its_features(name, directed):
    torch.manual_seed(0)
    sizes = {
        "in_channels": FEATURES,
        "hidden_channels": 8,
        "num_layers": 2,
        "out_channels": 2,
        "num_nodes": NODES,
    }
    expert, edges = build_expert(name, **sizes).double().eval(), random_edges(directed)
    assert gradcheck(lambda x: call_expert(expert, x, edges), (double(NODES, FEATURES),))
