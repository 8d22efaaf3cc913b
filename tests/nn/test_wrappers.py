from functools import partial

import pytest
import torch
from torch.nn import DataParallel
from torch_geometric.nn import GraphSAGE

from mowst import GCN, LINKX, MLP, MonotoneGate, Mowst, TrainConfig, fit, seed_everything
from mowst.nn.signature import takes_edges, takes_features
from mowst.nn.wrappers import list_plain_names, unwrap

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}
compile_eager = partial(torch.compile, backend="eager")
WRAPPERS = {
    "compile": compile_eager,
    "fullgraph": partial(compile_eager, fullgraph=True),
    "DataParallel": DataParallel,
    "both": lambda module: DataParallel(compile_eager(module)),
}


def mark_slow(*names):
    r"""Compiling takes seconds."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def make_model(strong=GraphSAGE, wrap=lambda module: module):
    seed_everything(0)
    weak, strong = MLP(**SIZES), strong(**SIZES)
    return Mowst(wrap(weak), wrap(strong), MonotoneGate())


@pytest.mark.parametrize("wrapper", ["compile", "DataParallel", *mark_slow("fullgraph", "both")])
def test_wrapped_experts_train_save_load_and_predict_as_plain_ones(task, tmp_path, wrapper):
    x, edge_index, wrap = task.data.x, task.data.edge_index, WRAPPERS[wrapper]
    config = TrainConfig(epochs=2, rounds=1, gate_folds=2)
    models = [make_model(), make_model(wrap=wrap)]
    plain, wrapped = models
    results = [fit(model, task, config=config) for model in models]
    assert results[0].test == results[1].test
    prob = plain(x, edge_index).prob
    torch.testing.assert_close(wrapped(x, edge_index).prob, prob)
    label = plain.predict(x, edge_index, threshold=0.7)
    assert torch.equal(wrapped.predict(x, edge_index, threshold=0.7), label)

    # A file knows nothing of wrappers.
    for model, strong in ((wrapped, GraphSAGE(**SIZES)), (plain, wrap(GraphSAGE(**SIZES)))):
        model.save(tmp_path / "model.safetensors")
        loaded = Mowst.load(tmp_path / "model.safetensors", strong=strong)
        torch.testing.assert_close(loaded(x, edge_index).prob, prob)
        assert type(loaded.weak) is MLP


@pytest.mark.parametrize("wrapper", ["DataParallel", *mark_slow("compile", "both")])
def test_experts_of_this_package_may_be_wrapped(task, tmp_path, wrapper):
    x, edge_index = task.data.x, task.data.edge_index
    prob = make_model(GCN)(x, edge_index).prob
    model = make_model(GCN, WRAPPERS[wrapper])
    torch.testing.assert_close(model(x, edge_index).prob, prob)
    model.save(tmp_path / "model.safetensors")
    assert type(Mowst.load(tmp_path / "model.safetensors").strong) is GCN


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_checks_look_at_the_module_inside(task, wrapper):
    wrap = WRAPPERS[wrapper]
    assert not takes_edges(wrap(MLP(**SIZES))) and takes_edges(wrap(GraphSAGE(**SIZES)))
    assert not takes_features(wrap(MonotoneGate()))
    model = Mowst(MLP(**SIZES), wrap(GraphSAGE(**SIZES)), MonotoneGate())
    weight = torch.ones(task.data.num_edges)
    with pytest.raises(ValueError, match="GraphSAGE cannot use edge_weight"):
        model(task.data.x, task.data.edge_index, weight)
    model = Mowst(MLP(**SIZES), wrap(LINKX(**SIZES, num_nodes=30)), MonotoneGate())
    assert not model.inductive
    with pytest.raises(ValueError, match="LINKX has values for each node"):
        fit(model, task, config=TrainConfig(batches="random"))


def test_a_module_of_ones_own_with_a_part_called_module_is_no_wrapper():
    class Halved(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = MLP(**SIZES)

        def forward(self, x):
            return self.module(x) / 2

    halved = Halved()
    assert unwrap(halved) is halved and unwrap(WRAPPERS["both"](halved)) is halved
    names = set(halved.state_dict())
    model = torch.nn.ModuleDict({"weak": WRAPPERS["both"](halved)})
    assert set(list_plain_names(model).values()) == {f"weak.{name}" for name in names}


@pytest.mark.parametrize("route", ["mixture", *mark_slow("weak", "strong")])
def test_a_whole_model_of_pygs_gnn_compiles_without_graph_breaks(task, route):
    x, edge_index = task.data.x, task.data.edge_index
    model = make_model()
    model.route = route
    compiled = compile_eager(model, fullgraph=True)
    for out, expected in zip(compiled(x, edge_index), model(x, edge_index), strict=True):
        torch.testing.assert_close(out, expected)
    model.as_module()(x, edge_index)[0].log().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    compiled(x, edge_index).prob[0].log().sum().backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_model_of_pygs_gnn_is_exported(task):
    x, edge_index = task.data.x, task.data.edge_index
    model = make_model().eval()
    exported = torch.export.export(model.as_module(), (x, edge_index)).module()
    for inputs in ((x, edge_index), (x + 1, edge_index.roll(1, dims=1))):
        torch.testing.assert_close(exported(*inputs), model(*inputs).prob)
