from dataclasses import asdict

import pytest
import torch

from mowst.nn.build import ModelConfig, build_model

CHANGES = {
    "weak": "gcn",
    "strong": "gat",
    "gate": "learned",
    "hidden_channels": 32,
    "num_layers": 3,
    "dropout": 0.1,
    "gate_features": True,
    "mix": "logit",
    "detach_dispersion": True,
    "weak_args": {"norm": "layer_norm"},
    "strong_args": {"skip": True},
    "gate_args": {"hidden_channels": 16},
}
BESIDE = {"gate_features": {"gate": "learned"}, "gate_args": {"gate": "learned"}}


def fingerprint(model, data):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    out = model.train()(data.x, data.edge_index)
    out.prob.square().sum().backward()
    gradients = [p.grad for p in model.weak.parameters()]
    return [*(value.detach() for value in out if isinstance(value, torch.Tensor)), *gradients]


def test_every_field_is_tried_below():
    assert CHANGES.keys() == asdict(ModelConfig()).keys()


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_changes_the_model(data, field):
    one, other = (
        fingerprint(build_model(config, in_channels=6, out_channels=3), data)
        for config in (
            ModelConfig(**BESIDE.get(field, {})),
            ModelConfig(**BESIDE.get(field, {}) | {field: CHANGES[field]}),
        )
    )
    assert len(one) != len(other) or any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


def test_features_for_a_gate_that_reads_none_are_refused():
    with pytest.raises(ValueError, match="'monotone' reads no node features; 'learned' can"):
        build_model(ModelConfig(gate="monotone", gate_features=True), in_channels=6, out_channels=3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"strong_args": {"norn": "batch_norm"}},
            "the strong expert 'gcn' cannot be built .*'norn': 'batch_norm'",
        ),
        (
            {"weak_args": {"norn": "batch_norm"}},
            "the weak expert 'mlp' cannot be built .*'norn': 'batch_norm'",
        ),
        (
            {"gate": "learned", "gate_args": {"hidden_channels": "wide"}},
            "the gate 'learned' .* 'wide'",
        ),
        ({"gate_args": {"norn": 1}}, "the gate 'monotone' takes no norn"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"strong_args": {"hidden_channels": -3}}, "hidden_channels must be at least 1, got -3"),
    ],
)
def test_what_no_part_can_be_built_with_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        build_model(ModelConfig(**config), in_channels=6, out_channels=3)
