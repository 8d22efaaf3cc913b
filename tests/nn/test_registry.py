import json

import pytest
import torch

from mowst import GCN, MLP, build_expert, register_expert, register_gate
from mowst.nn.registry import EXPERTS, GATES, constructor_args, rebuild, spec_of


@pytest.fixture
def registries(monkeypatch):
    for registry in (EXPERTS, GATES):
        for entries in ("_classes", "_defaults"):
            monkeypatch.setattr(registry, entries, dict(getattr(registry, entries)))


@pytest.mark.parametrize("name", EXPERTS.names())
def test_spec_rebuilds_the_module(name):
    more = {} if name in ("h2gcn", "linkx") else {"norm": "layer_norm"}
    sizes = {"in_channels": 6, "out_channels": 3, "hidden_channels": 8, "num_nodes": 9}
    module = build_expert(name, **sizes, dropout=0.25, **more)
    spec = json.loads(json.dumps(spec_of(module)))
    rebuilt = rebuild(spec)
    assert type(rebuilt) is type(module) and repr(rebuilt) == repr(module)
    assert rebuilt.dropout.p == 0.25
    first = EXPERTS.name_of(module)  # of the names of this class
    assert EXPERTS.find(first) is EXPERTS.find(name)
    assert (
        spec_of(rebuilt)
        == spec
        == {"kind": "expert", "name": first, "args": module.constructor_args()}
    )
    rebuilt.load_state_dict(module.state_dict())


def test_direct_construction_has_the_same_spec():
    kwargs = {
        "in_channels": 6,
        "hidden_channels": 8,
        "num_layers": 3,
        "out_channels": 2,
        "dropout": 0.1,
    }
    assert spec_of(GCN(**kwargs)) == spec_of(build_expert("gcn", **kwargs))
    assert spec_of(MLP(**kwargs)) == spec_of(build_expert("mlp", **kwargs))


def test_import_paths_are_followed_on_trust_only():
    spec = spec_of(build_expert("torch_geometric.nn.GCN", in_channels=6, out_channels=3))
    assert spec["name"] == "torch_geometric.nn.GCN"
    with pytest.raises(ValueError, match="trust=True"):
        rebuild(spec)
    assert spec_of(rebuild(spec, trust=True)) == spec


def test_foreign_modules_have_no_spec():
    class Mine(GCN):
        pass

    assert spec_of(torch.nn.Linear(2, 2)) is None
    assert spec_of(Mine(4, 4, 2)) is None
    assert spec_of(GCN(4, 4, 2, act=torch.nn.Tanh())) is None


class Scale(torch.nn.Module):
    def __init__(self, factor: float, shift: float = 0.0):
        super().__init__()
        self.factor, self.shift = factor, shift


def test_equally_named_attributes_are_the_arguments(registries):
    register_gate("scale", Scale)
    module = GATES.build("scale", factor=2.0)
    assert GATES.names()[-1] == "scale"
    assert constructor_args(module) == {"factor": 2.0, "shift": 0.0}
    assert constructor_args(rebuild(spec_of(module))) == constructor_args(module)


def test_a_row_is_a_class_with_defaults(registries):
    register_expert("deep", GCN, num_layers=5)
    sizes = {"in_channels": 6, "hidden_channels": 8, "out_channels": 3}
    assert EXPERTS.build("deep", **sizes).num_layers == 5
    assert EXPERTS.build("deep", **sizes, num_layers=1).num_layers == 1


@pytest.mark.parametrize(
    ("name", "cls", "error", "message"),
    [
        ("my.gnn", GCN, ValueError, "the name 'my.gnn' has a dot, which marks an import path"),
        ("gcn", MLP, ValueError, "the expert name 'gcn' is taken by mowst.experts.gcn.GCN"),
        (
            "mine",
            dict,
            TypeError,
            "a registered expert is a subclass of Module, got <class 'dict'>",
        ),
        ("mine", GCN(4, 4, 2), TypeError, "a registered expert is a subclass of Module, got GCN"),
    ],
)
def test_what_cannot_be_registered_is_refused(registries, name, cls, error, message):
    with pytest.raises(error, match=message):
        register_expert(name, cls)
    register_expert("gcn", GCN)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "gcn"}, "entries kind, name and args"),
        (
            {"kind": ["expert"], "name": ["torch.nn.Linear"], "args": {}},
            "text, text and a dictionary",
        ),
        ({"kind": "toaster", "name": "gcn", "args": {}}, "unknown kind 'toaster'"),
        ({"kind": "expert", "name": "gnc", "args": {}}, "unknown expert 'gnc'"),
    ],
)
def test_malformed_specs_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        rebuild(spec)


@pytest.mark.parametrize(
    "path", ["no.such.Module", "torch.nn.NoSuchClass", "torch.nn.functional.relu", ".GCN"]
)
def test_import_paths_to_nowhere_are_refused(path):
    with pytest.raises(ValueError, match=path):
        EXPERTS.find(path)
