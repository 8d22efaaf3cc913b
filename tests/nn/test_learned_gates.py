import copy
import json

import pytest
import torch

from mowst import (
    GCN,
    MLP,
    FeatureGate,
    Features,
    LearnedGate,
    LogitGate,
    Mowst,
    TrainConfig,
    fit,
    seed_everything,
)
from mowst.nn.build import build_gate
from mowst.nn.call import call_gate
from mowst.nn.dispersion import entropy_dispersion, variance_dispersion
from mowst.nn.registry import GATES, rebuild, spec_of

LEARNED = ["learned", "hypernetwork", "logits", "features"]
READERS = ["learned", "hypernetwork", "features"]


def build(name, **sizes):
    r"""A gate for 5 features and 4 classes, which reads the features if it can, away from its
    initial state.
    """
    seed_everything(0)
    gate = build_gate(name, in_channels=5, num_classes=4, gate_features=name in READERS, **sizes)
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return gate.eval()


@pytest.fixture
def logits():
    return torch.randn(20, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def x():
    return torch.randn(20, 5, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", GATES.names())
@pytest.mark.parametrize("scale", [0, 1, 1e4])
def test_every_gate_is_in_the_unit_interval_at_any_logits(name, scale, logits, x):
    gate = build(name)
    value = call_gate(gate, scale * logits, x)
    assert value.shape == (20,)
    assert ((value >= 0) & (value <= 1)).all()
    assert "\n" not in repr(gate) and repr(gate).startswith(type(gate).__name__)


@pytest.mark.parametrize("name", LEARNED)
def test_gradient_reaches_what_the_gate_reads(name, logits, x):
    logits.requires_grad_(), x.requires_grad_()
    gate = build(name)
    call_gate(gate, logits, x).sum().backward()
    assert (logits.grad is None) == (name == "features")
    assert (x.grad is None) == (name == "logits")
    assert all(parameter.grad.any() for parameter in gate.parameters())


@pytest.mark.parametrize("name", LEARNED)
def test_permuted_nodes_permute_the_confidence(name, logits, x):
    gate, order = build(name), torch.randperm(20)
    torch.testing.assert_close(
        call_gate(gate, logits[order], x[order]), call_gate(gate, logits, x)[order]
    )


@pytest.mark.parametrize("name", LEARNED)
def test_the_logit_gate_alone_sees_a_shift_or_an_order_of_the_classes(name, logits, x):
    gate = build(name)
    value = call_gate(gate, logits, x)
    for same_dispersion in (logits + 1, logits.flip(-1)):
        assert torch.allclose(call_gate(gate, same_dispersion, x), value, atol=1e-5) == (
            name != "logits"
        )


@pytest.mark.parametrize("name", ["learned", "logits", "features"])
def test_one_layer_is_a_logistic_regression(name, logits, x):
    gate = build(name, num_layers=1)
    dispersion = torch.stack([variance_dispersion(logits), entropy_dispersion(logits)], dim=-1)
    u = {"learned": torch.cat([dispersion, x], dim=-1), "logits": logits, "features": x}[name]
    (weight, bias) = gate.parameters()
    torch.testing.assert_close(call_gate(gate, logits, x), (u @ weight[0] + bias).sigmoid())


def test_the_hypernetwork_is_a_loop_over_nodes(logits, x):
    gate = build("hypernetwork", gate_channels=3)
    value = gate(logits, x=x)
    for v in range(20):
        d = torch.cat(
            [variance_dispersion(logits[v : v + 1]), entropy_dispersion(logits[v : v + 1])]
        )
        hidden = d @ gate.first_weight(x)[v].view(2, 3) + gate.first_bias(x)[v]
        torch.testing.assert_close(
            value[v], (hidden @ gate.last_weight(x)[v] + gate.last_bias(x)[v, 0]).sigmoid()
        )


@pytest.mark.parametrize("name", READERS)
def test_gates_get_plain_features(name, logits, x):
    gate = build(name)
    assert torch.equal(call_gate(gate, logits, Features(x)), call_gate(gate, logits, x))


def test_learned_without_features_ignores_them(logits, x):
    gate = LearnedGate(16).eval()
    assert torch.equal(gate(logits, x=x), gate(logits))


@pytest.mark.parametrize("name", READERS)
def test_features_that_were_not_announced_are_refused(name, logits, x):
    gate = build(name)
    with pytest.raises(ValueError, match="5 node features, got 4"):
        gate(logits, x=x[:, :4])
    with pytest.raises(ValueError, match="5 node features, got None"):
        gate(logits)


def test_classes_that_were_not_announced_are_refused(logits):
    gate = LogitGate(num_classes=2).eval()
    one = logits[:, 0]
    assert torch.equal(gate(one), gate(torch.stack([torch.zeros(20), one], dim=-1)))
    with pytest.raises(ValueError, match="2 classes, got 4"):
        gate(logits)


def test_the_ablations_are_neither_quasiconvex_nor_zero_at_the_uniform_prediction():
    prob = torch.tensor(
        [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.475, 0.475, 0.05]]
    )  # the last is midway
    x = torch.tensor([[0.0], [0.0], [1.0]])
    for gate in (LogitGate(3, num_layers=1), FeatureGate(1, num_layers=1)):
        (weight, bias) = gate.parameters()
        torch.nn.init.zeros_(bias)
        weight.data.copy_(
            torch.tensor([[1.0, 1.0, 0.0]]) if weight.size(1) == 3 else torch.ones(1, 1)
        )
        one, other, middle = call_gate(gate, prob.log(), x)
        assert middle > torch.maximum(one, other) + 0.1
        assert (call_gate(gate, torch.zeros(1, 3), x[:1]) == 0.5).all()


@pytest.mark.parametrize("name", LEARNED)
def test_spec_and_state_rebuild_the_gate(name, logits, x):
    gate = build(name, hidden_channels=7, num_layers=3, dropout=0.1)
    spec = json.loads(json.dumps(spec_of(gate)))
    assert spec["name"] == name
    again = rebuild(spec).eval()
    assert repr(again) == repr(gate) and again.dropout == 0.1
    again.load_state_dict(gate.state_dict())
    assert torch.equal(call_gate(again, logits, x), call_gate(gate, logits, x))


@pytest.mark.parametrize("name", LEARNED)
def test_reset_moves_every_weight(name):
    gate = build(name)
    before = copy.deepcopy(gate)
    gate.reset_parameters()
    assert not any(
        torch.equal(*pair) for pair in zip(gate.parameters(), before.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("method", ["mowst", "mowst-star"])
def test_trains_inside_a_mixture(task, name, method):
    seed_everything(0)
    sizes = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
    model = Mowst(MLP(**sizes), GCN(**sizes), build_gate(name, in_channels=6, num_classes=3))
    config = TrainConfig(pretrain="none", epochs=2, rounds=1, gate_fit="train")
    result = fit(model, task, method, config)
    assert torch.tensor([[r["loss"], r["val_loss"]] for r in result.history]).isfinite().all()
    assert len(result.history) >= 2


def test_features_are_passed_to_gates_that_read_them():
    def in_channels(name, **flags):
        return build_gate(
            name, in_channels=6, num_classes=3, hidden_channels=8, **flags
        ).in_channels

    assert in_channels("learned") is None
    assert in_channels("learned", gate_features=True) == 6
    for name in ("hypernetwork", "features"):
        assert in_channels(name) == in_channels(name, gate_features=True) == 6


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("monotone", {"gate_features": True}, "'monotone' reads no node features; 'learned' can"),
        ("logits", {"gate_features": True}, "'logits' reads no node features"),
        ("learned", {"alpha": 2}, "'learned' takes no alpha, only hidden_channels, num_layers"),
        ("gate", {}, "unknown gate 'gate': choose one of power"),
    ],
)
def test_what_cannot_be_built_says_why(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_gate(name, in_channels=6, num_classes=3, **arguments)


def test_the_message_names_every_reader_of_features():
    with pytest.raises(ValueError) as refused:
        build_gate("power", in_channels=6, num_classes=3, gate_features=True)
    for name in GATES.names():
        reads = hasattr(build_gate(name, in_channels=6, num_classes=3), "in_channels")
        assert (f"'{name}'" in str(refused.value)) == reads or name == "power"
