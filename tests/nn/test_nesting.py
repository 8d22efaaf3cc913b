r"""A mixture is a legal expert of another one: three experts are a mixture whose strong expert is a
mixture.
"""

import pytest
import torch

from mowst import (
    GAT,
    GCN,
    MLP,
    Features,
    Graph,
    LearnedGate,
    MonotoneGate,
    Mowst,
    PowerGate,
    mowst_loss,
)

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
SIDES = ["weak", "strong"]


def build(side="strong", route="mixture"):
    torch.manual_seed(0)
    inner = Mowst(MLP(**SIZES), GCN(**SIZES), LearnedGate(4))
    inner.route = route
    other = GAT(**SIZES) if side == "weak" else MLP(**SIZES)
    parts = {"weak": other, "strong": other, side: inner}
    return Mowst(**parts, gate=MonotoneGate()).eval(), inner


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("route", ["mixture", "weak", "strong"])
def test_the_logits_of_a_mixture_are_its_log_probabilities(data, side, route):
    model, inner = build(side, route)
    out = model(data.x, data.edge_index)
    torch.testing.assert_close(getattr(out, side).exp(), inner(data.x, data.edge_index).prob)
    kept = Features(data.x), Graph(data.edge_index, num_nodes=30)
    torch.testing.assert_close(model(*kept).prob, out.prob)
    nodes = torch.tensor([4, 2, 9])
    torch.testing.assert_close(model.outputs(*kept, nodes=nodes).prob, out.prob[nodes])


@pytest.mark.parametrize("side", SIDES)
def test_a_threshold_defers_to_a_mixture(data, side):
    model, _ = build(side)
    out = model(data.x, data.edge_index)
    threshold = float(out.confidence.detach().median())
    chosen = torch.where((out.confidence >= threshold).unsqueeze(-1), out.weak, out.strong)
    assert torch.equal(
        model.predict(data.x, data.edge_index, threshold=threshold), chosen.argmax(dim=-1)
    )
    assert torch.equal(model.predict(data.x, data.edge_index), out.prob.argmax(dim=-1))


@pytest.mark.parametrize("side", SIDES)
def test_gradients_reach_every_part(data, side):
    model, _ = build(side)
    mowst_loss(model.train()(data.x, data.edge_index), data.y).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or name.endswith(".bias"), name


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("route", ["mixture", "strong"])
def test_a_nested_model_is_saved_in_one_file(data, side, route, tmp_path):
    model, inner = build(side, route)
    inner.temperatures["strong"] = 2.0
    model.save(tmp_path / "model.safetensors")
    loaded = Mowst.load(tmp_path / "model.safetensors")
    for ours, expected in zip(
        loaded(data.x, data.edge_index), model(data.x, data.edge_index), strict=True
    ):
        assert torch.equal(ours, expected)
    assert repr(loaded) == repr(model)
    assert (
        getattr(loaded, side).route == route and getattr(loaded, side).temperatures["strong"] == 2.0
    )


def test_weights_reach_the_expert_inside_or_are_refused(data):
    weight = torch.rand(data.num_edges)
    model, inner = build()
    expected = inner(data.x, data.edge_index, weight).prob
    torch.testing.assert_close(model(data.x, data.edge_index, weight).strong.exp(), expected)
    refuses = Mowst(MLP(**SIZES), Mowst(MLP(**SIZES), GAT(**SIZES), PowerGate()), PowerGate())
    with pytest.raises(ValueError, match="GAT cannot use edge_weight"):
        refuses(data.x, data.edge_index, weight)


def test_arguments_reach_the_strong_expert_inside(data):
    inner = Mowst(MLP(**SIZES), GAT(**SIZES, edge_dim=2), PowerGate())
    model = Mowst(MLP(**SIZES), inner, PowerGate()).eval()
    outs = [
        model(data.x, data.edge_index, edge_attr=torch.rand(data.num_edges, 2)).strong
        for _ in range(2)
    ]
    assert not torch.allclose(*outs)
