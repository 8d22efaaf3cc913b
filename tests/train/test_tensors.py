r"""Edge features and other fields of a graph reach the experts whose forward names them."""

import pytest
import torch
import torch_geometric.nn as pyg
from torch import nn
from torch_geometric.data import Data

from mowst import MLP, GraphTask, Mowst, TrainConfig, fit
from mowst.cli.predict import make_predictions
from mowst.data.transforms import transform
from mowst.nn.signature import list_tensors, make_graph
from mowst.serve import Predictor, choose_threshold, deferral_report
from mowst.sparse import Graph, Subgraph
from mowst.train.evaluate import score_model

NODES, EDGES = 160, 640
SIZES = {"in_channels": 4, "hidden_channels": 8, "num_layers": 2, "out_channels": 2}
SETTINGS = {"epochs": 12, "patience": None, "rounds": 1, "lr": 0.1, "gate_folds": 2}
WAYS = [{}, {"batches": "random", "num_parts": 2}, {"inductive": True}]


class GINE(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 8)
        mlp = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        self.conv = pyg.GINEConv(mlp, edge_dim=2)

    def forward(self, x, edge_index, edge_attr):
        return self.conv(self.lin(x), edge_index, edge_attr)


class NNConvOnGATv2(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = pyg.GATv2Conv(4, 8, edge_dim=2)
        self.value = pyg.NNConv(8, 2, nn.Linear(2, 16))

    def forward(self, x, edge_index, edge_attr):
        return self.value(self.conv(x, edge_index, edge_attr).relu(), edge_index, edge_attr)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = pyg.TransformerConv(4, 2, edge_dim=2)

    def forward(self, x, edge_index, edge_attr):
        return self.conv(x, edge_index, edge_attr)


class ReadsPos(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(2, 2)

    def forward(self, x, pos=None):
        return self.lin(pos)


class ReadsPosAndEdges(ReadsPos):
    def forward(self, x, edge_index, pos):
        return self.lin(pos)


class ReadsLabels(GINE):
    def forward(self, x, edge_index, y):
        raise AssertionError


def make_sequential():
    layers = [(pyg.TransformerConv(4, 2, edge_dim=2), "x, edge_index, edge_attr -> x")]
    return pyg.Sequential("x, edge_index, edge_attr", layers)


def make_gcn():
    return pyg.GCN(4, 8, 2, 2)


def make_pyg_gat():
    return pyg.GAT(4, 8, 1, 2, v2=True, edge_dim=2)


def make_data():
    r"""Features are noise. Edge features are the class of the target, and so is pos."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (NODES,), generator=generator)
    edge_index = torch.randint(NODES, (2, EDGES - NODES), generator=generator)
    around = torch.stack([torch.arange(NODES).roll(1), torch.arange(NODES)])
    edge_index = torch.cat([edge_index, around], dim=1)
    part = torch.randint(4, (NODES,), generator=generator)
    one_hot = nn.functional.one_hot(y, 2).float()
    return Data(
        x=torch.randn(NODES, 4, generator=generator),
        y=y,
        edge_index=edge_index,
        edge_attr=one_hot[edge_index[1]],
        pos=one_hot,
        train_mask=part < 2,
        val_mask=part == 2,
        test_mask=part == 3,
    )


@pytest.fixture
def data():
    return make_data()


def make_model(strong, weak=None):
    torch.manual_seed(0)
    return Mowst(weak() if weak else MLP(**SIZES), strong(), "monotone")


def train(data, strong=GINE, weak=None, method="strong", inductive=False, **settings):
    model = make_model(strong, weak)
    task = GraphTask.from_data(data, inductive=inductive)
    config = TrainConfig(**SETTINGS | settings)
    return model, task, fit(model, task, method, config)


@pytest.mark.parametrize("expert", [GINE, NNConvOnGATv2, Transformer, make_sequential])
@pytest.mark.parametrize("settings", WAYS, ids=str)
def test_edge_features_reach_the_expert(data, expert, settings):
    assert train(data, expert, epochs=25, **settings)[2].test > 0.9


def test_sampled_neighbors_bring_their_edge_features(data):
    settings = {"batches": "neighbor", "batch_size": 40}
    assert train(data, epochs=20, **settings)[2].test > 0.9


def test_without_edge_features_the_score_is_chance(data):
    data.edge_attr = torch.zeros(EDGES, 2)
    assert train(data)[2].test < 0.7


def test_edge_features_reach_a_model_of_pyg(data):
    model = make_model(make_pyg_gat).eval()
    expected = model.strong(data.x, data.edge_index, edge_attr=data.edge_attr)
    nodes = torch.arange(3)
    found = model.outputs(data.x, make_graph(model, data), nodes=nodes).strong
    torch.testing.assert_close(found, expected[nodes])
    assert not torch.allclose(model.strong(data.x, data.edge_index), expected)
    train(data, make_pyg_gat, epochs=1)


def test_a_mixture_with_edge_features_is_scored_served_and_saved(data, tmp_path):
    model, task, result = train(data, method="mowst", weak=GINE)
    assert result.test > 0.9
    assert score_model(model, task)["test"] == result.test
    deferral_report(model, task, shares=[0.5])
    x, edges, given = data.x, data.edge_index, {"edge_attr": data.edge_attr}
    assert model.predict(data).equal(model.predict(x, edges, **given))
    assert model.predict(data, threshold=0.7).equal(model.predict(x, edges, threshold=0.7, **given))
    names = {"weak": "one", "strong": "other"}
    table = make_predictions(model, data, torch.arange(NODES), None, names)
    assert table["label"].tolist() == model.predict(data).tolist()
    model.save(tmp_path / "m.safetensors")
    loaded = Mowst.load(tmp_path / "m.safetensors", weak=GINE(), strong=GINE())
    assert loaded.predict(data).equal(model.predict(data))


def test_choose_threshold_passes_edge_features(data):
    data.train_mask[:20] = False
    model, task, _ = train(data, method="mowst", epochs=2)
    unused = ~(data.train_mask | data.val_mask | data.test_mask)
    choose_threshold(model, task, nodes=unused.nonzero().view(-1))


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("threshold", [None, 0.6])
def test_a_predictor_passes_tensors_and_takes_new_rows(data, cache, threshold):
    model = make_model(GINE, ReadsPosAndEdges).eval()
    predictor = Predictor(model, data, cache=cache, threshold=threshold)
    ids = torch.arange(0, NODES, 3)
    expected = model.predict(data, threshold=threshold)
    assert predictor.predict(ids).labels.equal(expected[ids])
    with pytest.raises(ValueError, match="tensors of each node: pos; give them"):
        predictor.add_nodes(torch.randn(1, 4))
    with pytest.raises(ValueError, match="tensors of each edge: edge_attr; give them"):
        predictor.add_edges(torch.tensor([[0], [1]]))
    with pytest.raises(ValueError, match=r"edge_attr of the new edges must be of shape \[1, 2\]"):
        predictor.add_edges(torch.tensor([[0], [1]]), edge_attr=torch.ones(2, 2))
    new = predictor.add_nodes(torch.randn(1, 4), pos=torch.ones(1, 2))
    predictor.add_edges(torch.tensor([[0], [NODES]]), edge_attr=torch.tensor([[0.0, 9.0]]))
    again = model.predict(predictor.data, threshold=threshold)
    assert predictor.predict([*ids.tolist(), int(new)]).labels.equal(again[[*ids.tolist(), NODES]])
    assert predictor.data.edge_attr.shape == (EDGES + 1, 2)


@pytest.mark.parametrize("expert", [ReadsPos, ReadsPosAndEdges])
@pytest.mark.parametrize("settings", WAYS, ids=str)
def test_a_tensor_of_nodes_reaches_either_expert(data, expert, settings):
    assert train(data, expert, **settings)[2].test > 0.9
    options = {"method": "mowst", "epochs": 6, "gate_fit": "train"} | settings
    result = train(data, make_gcn, expert, **options)[2]
    assert result.scores["weak"]["test"] > 0.9


def test_each_argument_goes_to_the_experts_that_name_it(data):
    model = make_model(GINE, ReadsPos).eval()
    out = model(data.x, data.edge_index, pos=data.pos, edge_attr=data.edge_attr)
    torch.testing.assert_close(out.weak, model.weak(data.x, pos=data.pos))
    expected = model.strong(data.x, data.edge_index, data.edge_attr)
    torch.testing.assert_close(out.strong, expected)
    assert model(data.x, make_graph(model, data)).prob.equal(out.prob)
    outer = Mowst(MLP(**SIZES), model, "monotone").eval()
    torch.testing.assert_close(outer(data.x, make_graph(outer, data)).strong.exp(), out.prob)


def test_a_compiled_expert_gets_its_edge_features(data):
    model = make_model(GINE).eval()
    expected = model.predict_proba(data)
    model.strong = torch.compile(model.strong, backend="eager")
    torch.testing.assert_close(model.predict_proba(data), expected)


def test_a_missing_tensor_is_an_error_at_the_start(data):
    del data.edge_attr
    with pytest.raises(ValueError, match="GINE requires edge_attr, which was not given") as error:
        train(data)
    assert "by the strong expert" in error.value.__notes__[0]
    with pytest.raises(ValueError, match="GAT requires edge_attr"):
        train(data, make_pyg_gat)
    with pytest.raises(ValueError, match="GINE requires edge_attr"):
        Predictor(make_model(GINE), data).predict([0])


def test_labels_are_never_passed(data):
    with pytest.raises(ValueError, match="ReadsLabels requires y, .*labels y are never passed"):
        train(data, ReadsLabels)


def test_edge_features_of_another_length_are_an_error(data):
    data.edge_attr = data.edge_attr[1:]
    with pytest.raises(ValueError, match=rf"edge_attr must have {EDGES} rows, .*got \[639, 2\]"):
        train(data)
    train(data, make_gcn, epochs=1)  # which does not read them


@pytest.mark.parametrize("kind", [pyg.GAT, pyg.GCN, pyg.GraphSAGE])
def test_pyg_models_without_edge_features_get_none(data, kind):
    expert = kind(4, 8, 2, 2)
    assert list_tensors(expert) == {}
    train(data, lambda: expert, epochs=1)
    with pytest.raises(ValueError, match="cannot use edge_attr and would ignore it"):
        make_model(lambda: expert)(data.x, data.edge_index, edge_attr=data.edge_attr)


def test_a_subgraph_keeps_the_rows_of_its_nodes_and_edges():
    edge_index = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    rows = torch.arange(4)
    tensors = {"edge_type": rows, "pos": 10 * rows, "shape": torch.zeros(7), "word": "a"}
    part = Subgraph(Graph(edge_index, None, 4, tensors), torch.tensor([1, 2, 3]))
    assert part.edge_index.tolist() == [[0, 1], [1, 2]]
    assert part.tensors["edge_type"].tolist() == [1, 2]
    assert part.tensors["pos"].tolist() == [10, 20, 30]
    assert part.tensors["shape"].shape == (7,)
    assert part.tensors["word"] == "a"


def test_transforms_keep_edge_features_or_refuse(data):
    both = transform(data.clone(), ["undirected"])
    assert both.edge_attr.shape == (both.num_edges, 2)
    with pytest.raises(ValueError, match="'self-loops' has no edge_attr for the loops"):
        transform(data.clone(), ["self-loops"])
    data.edge_type = torch.zeros(EDGES, dtype=torch.long)
    with pytest.raises(ValueError, match="'undirected' averages edge_type, which is not floating"):
        transform(data, ["undirected"])
