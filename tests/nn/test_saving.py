import pickle

import pytest
import torch
from safetensors.torch import save_file

from mowst import GCN, MLP, LearnedGate, Mowst, PowerGate, build_expert

SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}


class OwnGNN(torch.nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.lin = torch.nn.Linear(in_channels, out_channels)

    def forward(self, x, edge_index):
        return self.lin(x).index_add(0, edge_index[1], self.lin(x)[edge_index[0]])


def same_output(one, other, data):
    ours, theirs = one.eval()(data.x, data.edge_index), other.eval()(data.x, data.edge_index)
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("strong", ["gcn", "sage", "gin", "gat"])
@pytest.mark.parametrize("route", ["mixture", "weak", "strong"])
def test_round_trip_restores_output_settings_and_route(tmp_path, data, strong, route):
    expert = build_expert(strong, in_channels=6, out_channels=3, hidden_channels=16, dropout=0.3)
    model = Mowst(MLP(**SIZES, dropout=0.2), expert, LearnedGate(8, in_channels=6), "logit", True)
    model.route = route
    model.save(tmp_path / "model.safetensors")
    loaded = Mowst.load(tmp_path / "model.safetensors")
    assert not any(module.training for module in loaded.modules())
    assert same_output(model, loaded, data)
    assert (loaded.mix, loaded.detach_dispersion, loaded.route) == ("logit", True, route)
    assert repr(loaded) == repr(model)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_foreign_module_is_passed_in_and_named_where_missing(tmp_path, data):
    model = Mowst(MLP(**SIZES), OwnGNN(6, 3), PowerGate())
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"strong part .*OwnGNN.* pass it as strong=\.\.\."):
        Mowst.load(tmp_path / "model.safetensors")
    assert same_output(model, Mowst.load(tmp_path / "model.safetensors", strong=OwnGNN(6, 3)), data)
    with pytest.raises(ValueError, match=r"strong.lin.bias has shape \[3\], the model wants \[4\]"):
        Mowst.load(tmp_path / "model.safetensors", strong=OwnGNN(6, 4))
    with pytest.raises(ValueError, match="strong.lin.weight is not in the model"):
        Mowst.load(tmp_path / "model.safetensors", strong=GCN(**SIZES))


def test_import_paths_in_a_file_are_followed_only_on_trust(tmp_path, data):
    expert = build_expert(
        "torch_geometric.nn.GCN", in_channels=6, out_channels=3, hidden_channels=16
    )
    model = Mowst(MLP(**SIZES), expert, PowerGate())
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="torch_geometric.nn.GCN.*trust=True"):
        Mowst.load(tmp_path / "model.safetensors")
    assert same_output(model, Mowst.load(tmp_path / "model.safetensors", trust=True), data)


def test_lazy_modules_are_saved_after_their_first_input(tmp_path, data):
    model = Mowst(torch.nn.LazyLinear(3), GCN(**SIZES), PowerGate())
    with pytest.raises(ValueError, match="weak.weight has no shape yet"):
        model.save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
    model(data.x, data.edge_index)
    model.save(tmp_path / "model.safetensors")
    assert same_output(
        model, Mowst.load(tmp_path / "model.safetensors", weak=torch.nn.LazyLinear(3)), data
    )


def test_a_model_in_double_precision_is_loaded_as_one(tmp_path, data):
    model = Mowst(MLP(**SIZES), GCN(**SIZES), LearnedGate(4)).double().eval()
    model.save(tmp_path / "model.safetensors")
    x = data.x.double()
    loaded = Mowst.load(tmp_path / "model.safetensors")
    assert torch.equal(loaded(x, data.edge_index).prob, model(x, data.edge_index).prob)


def test_torch_state_dict_keeps_the_route(tmp_path, data):
    model, other = (Mowst(MLP(**SIZES), GCN(**SIZES), PowerGate()) for _ in range(2))
    model.route = "strong"
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert other.route == "strong" and same_output(model, other, data)


class Exploit:
    def __reduce__(self):
        return (pytest.fail, ("a file was executed",))


def test_files_that_are_no_models_are_refused(tmp_path):
    model = Mowst(MLP(**SIZES), GCN(**SIZES), PowerGate())
    path = tmp_path / "model.safetensors"
    model.save(path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], pickle.dumps(Exploit())):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a readable safetensors file, or it is damaged"):
            Mowst.load(path)
    for metadata, found in ((None, "None"), ({"format": "mowst-2", "spec": "{}"}, "'mowst-2'")):
        save_file({"x": torch.zeros(2)}, path, metadata=metadata)
        with pytest.raises(
            ValueError, match=f"model.safetensors is of the format {found}, not 'mowst-model-4'"
        ):
            Mowst.load(path)
    with pytest.raises(FileNotFoundError):
        Mowst.load(tmp_path / "missing.safetensors")
