r"""An expert whose parts do not all treat each node by itself runs for all nodes, and every other
one may run for some: both predict some nodes as they predict all.
"""

import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import aggr as aggregations
from torch_geometric.nn import conv, norm
from torch_geometric.nn.models.basic_gnn import BasicGNN

from mowst import GCN, MLP, GraphSAGE, GraphTask, Mowst, TrainConfig, fit
from mowst.nn.call import call_expert
from mowst.nn.conditional import split_layers
from mowst.sparse import Graph, partial
from mowst.sparse.layerwise import LayerCache

F_IN, HIDDEN, CLASSES = 5, 8, 3
SIZES = {"in_channels": F_IN, "hidden_channels": HIDDEN, "out_channels": CLASSES, "num_layers": 2}
DEGREES = torch.tensor([1, 5, 10, 4, 2])


class OwnGCNConv(conv.GCNConv):
    pass


# Layers of a model, and whether it can run layer by layer.
CONVS = {
    "EdgeConv": (lambda i, o: conv.EdgeConv(pyg.MLP([2 * i, o, o])), True),
    "GATConv": (lambda i, o: conv.GATConv(i, o), True),
    "GATv2Conv": (lambda i, o: conv.GATv2Conv(i, o, residual=True), True),
    "GCNConv": (lambda i, o: conv.GCNConv(i, o), True),
    "GCNConv, improved": (lambda i, o: conv.GCNConv(i, o, improved=True), True),
    "GCNConv, no loops": (lambda i, o: conv.GCNConv(i, o, add_self_loops=False), True),
    "GCNConv, plain": (lambda i, o: conv.GCNConv(i, o, normalize=False), True),
    "GINConv": (lambda i, o: conv.GINConv(pyg.MLP([i, o, o]), train_eps=True), True),
    "GraphConv": (lambda i, o: conv.GraphConv(i, o), True),
    "PNAConv": (lambda i, o: conv.PNAConv(i, o, ["mean", "std"], ["linear"], DEGREES), True),
    "SAGEConv": (lambda i, o: conv.SAGEConv(i, o, project=True), True),
    "TransformerConv": (lambda i, o: conv.TransformerConv(i, o), True),
    "GCNConv and GraphConv": (lambda i, o: pick(i)(i, o), False),
    "GCNConv, mean": (lambda i, o: conv.GCNConv(i, o, aggr="mean"), False),
    "GCNConv, one improved": (lambda i, o: conv.GCNConv(i, o, improved=i == F_IN), False),
    "a subclass of GCNConv": (lambda i, o: OwnGCNConv(i, o), False),
    "out-neighbours": (lambda i, o: conv.SAGEConv(i, o, flow="target_to_source"), False),
    "ARMAConv": (lambda i, o: conv.ARMAConv(i, o, num_layers=2), False),
    "ChebConv": (lambda i, o: conv.ChebConv(i, o, K=3), False),
    "EGConv": (lambda i, o: conv.EGConv(i, o, num_heads=1, aggregators=["symnorm"]), False),
    "GINConv, PairNorm inside": (lambda i, o: conv.GINConv(make_normed(i, o)), False),
    "HypergraphConv": (lambda i, o: conv.HypergraphConv(i, o), False),
    "MixHopConv": (lambda i, o: conv.MixHopConv(i, o, powers=[2]), False),
    "SGConv": (lambda i, o: conv.SGConv(i, o, K=2), False),
    "SSGConv": (lambda i, o: conv.SSGConv(i, o, alpha=0.1, K=2), False),
    "TAGConv": (lambda i, o: conv.TAGConv(i, o), False),
}
NORMS = {
    "none": (lambda: None, True),
    "BatchNorm": (lambda: norm.BatchNorm(HIDDEN), True),
    "BatchNorm1d": (lambda: torch.nn.BatchNorm1d(HIDDEN), True),
    "LayerNorm by node": (lambda: norm.LayerNorm(HIDDEN, mode="node"), True),
    "torch's LayerNorm": (lambda: torch.nn.LayerNorm(HIDDEN), True),
    "RMSNorm": (lambda: torch.nn.RMSNorm(HIDDEN), True),
    "batch statistics": (
        lambda: torch.nn.BatchNorm1d(HIDDEN, track_running_stats=False),
        False,
    ),
    "BatchNorm, batch statistics": (
        lambda: norm.BatchNorm(HIDDEN, track_running_stats=False),
        False,
    ),
    "DiffGroupNorm": (lambda: norm.DiffGroupNorm(HIDDEN, 2), False),
    "GraphNorm": (lambda: norm.GraphNorm(HIDDEN), False),
    "GraphSizeNorm": (lambda: norm.GraphSizeNorm(), False),
    "InstanceNorm": (lambda: norm.InstanceNorm(HIDDEN), False),
    "LayerNorm of the graph": (lambda: norm.LayerNorm(HIDDEN, mode="graph"), False),
    "MeanSubtractionNorm": (lambda: norm.MeanSubtractionNorm(), False),
    "PairNorm": (lambda: norm.PairNorm(), False),
    "a norm of another package": (lambda: Centre(), False),
}
ACTS = {
    "relu": (lambda: "relu", True),
    "gelu": (lambda: torch.nn.functional.gelu, True),
    "relu of torch": (lambda: torch.relu, True),
    "prelu": (lambda: "prelu", True),
    "softmax of channels": (lambda: torch.nn.Softmax(dim=1), True),
    "softmax of nodes": (lambda: torch.nn.Softmax(dim=0), False),
    "a function": (lambda: lambda x: x - x.mean(dim=0), False),
}
AGGREGATIONS = {
    **{name: (lambda name=name: name, True) for name in ("sum", "mean", "max", "min", "mul")},
    **{name: (lambda name=name: name, True) for name in ("var", "std", "softmax", "powermean")},
    "two": (lambda: ["mean", "max"], True),
    "learned softmax": (lambda: aggregations.SoftmaxAggregation(learn=True), True),
    "median": (lambda: "median", False),
    "lstm": (lambda: "lstm", False),
    "lcm": (lambda: aggregations.LCMAggregation(F_IN, F_IN), False),
    "equilibrium": (lambda: aggregations.EquilibriumAggregation(F_IN, F_IN, [4]), False),
    "patches": (lambda: aggregations.PatchTransformerAggregation(F_IN, F_IN, 2, 8), False),
}


class Centre(torch.nn.Module):
    def forward(self, x):
        return x - x.mean(dim=0)


class AnyGNN(BasicGNN):
    supports_edge_weight = supports_edge_attr = False

    def init_conv(self, in_channels, out_channels, make):
        return make(in_channels, out_channels)


def make_normed(in_channels, out_channels):
    return torch.nn.Sequential(torch.nn.Linear(in_channels, out_channels), norm.PairNorm())


def pick(channels):
    return conv.GCNConv if channels == F_IN else conv.GraphConv


def draw_graph(seed, num_nodes=12, by_target=False):
    torch.manual_seed(seed)
    edge_index = torch.randint(num_nodes, (2, 25))
    if by_target:  # and each node has an edge, without which PyG's median fails
        edge_index = torch.cat([edge_index, torch.arange(num_nodes).expand(2, -1)], dim=1)
        edge_index = edge_index[:, edge_index[1].argsort(stable=True)]
    return 3 * torch.randn(num_nodes, F_IN) + 1, edge_index, torch.randperm(num_nodes)[:2]


@torch.no_grad()
def check_some_are_as_all(expert, x, edge_index, nodes):
    whole = call_expert(expert, x, edge_index)[nodes]
    graph = Graph(edge_index, num_nodes=x.size(0))
    for cache in (None, LayerCache(), LayerCache(1, keep=False)):
        some = call_expert(expert, x, graph, nodes=nodes, cache=cache)
        torch.testing.assert_close(some, whole, atol=1e-4, rtol=1e-4)


@pytest.fixture(autouse=True)
def prune(monkeypatch):
    monkeypatch.setattr(partial, "TAKE", -1e6)


@pytest.mark.parametrize("name", CONVS)
def test_every_layer(name):
    make, splits = CONVS[name]

    @settings(max_examples=8, deadline=None)
    @given(
        st.sampled_from(list(NORMS)),
        st.sampled_from([None, "last", "cat", "max", "lstm"]),
        st.sampled_from(list(ACTS)),
        st.booleans(),
        st.integers(0, 99),
    )
    def check(norm_name, jk, act_name, act_first, seed):
        (make_norm, splits_norm), (make_act, splits_act) = NORMS[norm_name], ACTS[act_name]
        x, edge_index, nodes = draw_graph(seed)
        options = {"jk": jk, "act": make_act(), "act_first": act_first}
        expert = AnyGNN(**SIZES, make=make, norm=make_norm(), **options).eval()
        check_some_are_as_all(expert, x, edge_index, nodes)
        every = splits and splits_norm and splits_act and jk in (None, "last")
        assert (split_layers(expert, x, edge_index, None) is not None) == every

    check()


@pytest.mark.parametrize("part", ["norm", "act"])
@pytest.mark.parametrize("make", [GCN, GraphSAGE, pyg.GCN, pyg.PNA])
def test_every_norm_and_activation(make, part):
    more = {}
    if make is pyg.PNA:
        more = {"aggregators": ["mean", "std"], "scalers": ["linear"], "deg": DEGREES}
    for make_part, splits in {"norm": NORMS, "act": ACTS}[part].values():
        x, edge_index, nodes = draw_graph(0)
        expert = make(**SIZES, **{part: make_part()}, **more)
        check_some_are_as_all(expert.eval(), x, edge_index, nodes)
        assert (split_layers(expert.eval(), x, edge_index, None) is not None) == splits


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_every_aggregation(name):
    make, splits = AGGREGATIONS[name]
    for seed in range(4):
        x, edge_index, nodes = draw_graph(seed, by_target=True)
        expert = pyg.GraphSAGE(F_IN, HIDDEN, 1, CLASSES, aggr=make()).eval()
        assert (split_layers(expert, x, edge_index, None) is not None) == splits
        if name != "patches":  # draws at random
            check_some_are_as_all(expert, x, edge_index, nodes)


@pytest.mark.parametrize("make_norm", [norm.GraphNorm, norm.PairNorm, norm.InstanceNorm])
def test_a_perceptron_with_a_graph_norm_runs_for_all_nodes(make_norm, data):
    sizes = {**SIZES, "in_channels": 6}
    expert = MLP(**sizes, norm=make_norm(HIDDEN)).eval()
    nodes = torch.tensor([4, 2])
    whole = call_expert(expert, data.x)
    torch.testing.assert_close(call_expert(expert, data.x, nodes=nodes), whole[nodes])
    # Its validation loss is that of the model on the whole graph.
    model, task = Mowst(expert, GCN(**sizes)), GraphTask.from_data(data)
    result = fit(model, task, method="weak", config=TrainConfig(epochs=2))
    val = task.index("val")
    logits = call_expert(expert.eval(), data.x)[val]
    loss = torch.nn.functional.cross_entropy(logits, task.labels("val"))
    assert min(record["val_loss"] for record in result.history) == pytest.approx(loss.item())


def test_a_batch_norm_in_training_mode_runs_for_all_nodes():
    x, _, nodes = draw_graph(0)
    expert = MLP(**SIZES, norm="batch_norm").train()
    whole = call_expert(expert, x)
    torch.testing.assert_close(call_expert(expert, x, nodes=nodes), whole[nodes])


class OneHop(torch.nn.Module):
    num_hops = 1

    def __init__(self, norm=None, flow="source_to_target"):
        super().__init__()
        self.conv = conv.SAGEConv(F_IN, CLASSES, flow=flow)
        self.norm = norm or torch.nn.Identity()

    def forward(self, x, edge_index):
        return self.norm(self.conv(x, edge_index))


@pytest.mark.parametrize("options", [{"norm": norm.GraphNorm(3)}, {"flow": "target_to_source"}])
def test_a_module_with_num_hops_of_which_no_part_is_exact_runs_for_all_nodes(options):
    expert = OneHop(**options).eval()
    edge_index = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 8]])
    x, nodes = torch.randn(9, F_IN), torch.tensor([4])
    whole = call_expert(expert, x, edge_index)
    torch.testing.assert_close(call_expert(expert, x, edge_index, nodes=nodes), whole[nodes])
