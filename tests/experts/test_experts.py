import pytest
import torch
import torch_geometric.nn as pyg
from torch_geometric.explain import Explainer, GNNExplainer

from mowst.experts import GAT, GCN, GIN, MLP, GraphSAGE
from mowst.nn.build import build_expert
from mowst.nn.registry import EXPERTS
from mowst.sparse import Graph

F_IN, HIDDEN, CLASSES, N = 6, 8, 3, 12
PEERS = {GCN: pyg.GCN, GraphSAGE: pyg.GraphSAGE, GIN: pyg.GIN, GAT: pyg.GAT}
GRAPHS = ["directed", "undirected", "loops", "double edges", "isolated"]


def graph(kind, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = N - 3 if kind == "isolated" else N
    edges = torch.randint(size, (2, 40), generator=generator)
    if kind == "undirected":
        edges = torch.cat([edges, edges.flip(0)], dim=1)
    if kind != "loops":
        edges = edges[:, edges[0] != edges[1]]
    return (
        torch.cat([edges, edges[:, :9]], dim=1)
        if kind == "double edges"
        else torch.unique(edges, dim=1)
    )


def features(seed=0):
    return torch.randn(N, F_IN, generator=torch.Generator().manual_seed(seed))


def pair(cls, **kwargs):
    r"""Our model, and PyG's with the same parameters."""
    kwargs = {"hidden_channels": HIDDEN, "num_layers": 2, "out_channels": CLASSES, **kwargs}
    ours = cls(F_IN, **kwargs)
    theirs = PEERS[cls](F_IN, **kwargs, **({"heads": 8} if cls is GAT else {}))
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def assert_same(ours, theirs, *args, **kwargs):
    outs = [model(*args, **kwargs) for model in (ours, theirs)]
    torch.testing.assert_close(*outs)
    for out in outs:
        (out - torch.linspace(-1, 1, out.numel()).view_as(out)).square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cls", PEERS)
@pytest.mark.parametrize("kind", GRAPHS)
def test_outputs_and_gradients_are_those_of_pyg(cls, kind):
    assert_same(*pair(cls), features(), graph(kind))


@pytest.mark.parametrize("cls", PEERS)
@pytest.mark.parametrize(
    "kwargs",
    [
        {"num_layers": 1},
        {"num_layers": 3, "norm": "batch_norm"},
        {"jk": "cat", "act": "elu"},
        {"jk": "last", "act_first": True, "norm": "batch_norm"},
        {"hidden_channels": 40, "out_channels": None},
        {"act": None},
        {"act": "leaky_relu", "act_kwargs": {"negative_slope": 0.7}},
        {"num_layers": 3, "norm": "batch_norm", "norm_kwargs": {"eps": 1.0}},
    ],
    ids=str,
)
def test_options_are_those_of_pyg(cls, kwargs):
    ours, theirs = pair(cls, **kwargs)
    assert_same(ours, theirs, features(), graph("directed"))
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        (GCN, {"improved": True}),
        (GCN, {"add_self_loops": False}),
        (GCN, {"normalize": False}),
        (GCN, {"flow": "target_to_source"}),
        (GCN, {"bias": False}),
        (GCN, {"aggr": "mean"}),
        (GCN, {"aggr": "sum"}),
        (GIN, {"aggr": "max"}),
        (GraphSAGE, {"aggr": "max"}),
        (GraphSAGE, {"project": True}),
        (GraphSAGE, {"normalize": True, "root_weight": False}),
        (GIN, {"eps": 0.5}),
        (GIN, {"train_eps": True}),
        (GAT, {"v2": True}),
    ],
    ids=str,
)
def test_layer_options_are_those_of_pyg(cls, kwargs):
    assert_same(*pair(cls, **kwargs), features(), graph("loops"))


@pytest.mark.parametrize("kind", GRAPHS)
def test_weighted_gcn_is_that_of_pyg(kind):
    edges = graph(kind)
    assert_same(*pair(GCN), features(), edges, edge_weight=torch.rand(edges.size(1)) + 0.1)


def test_gradients_of_edge_weights_are_those_of_pyg():
    edges, grads = graph("loops"), []
    for model in pair(GCN):
        weight = torch.linspace(0.5, 1.5, edges.size(1)).requires_grad_()
        model(features(), edges, edge_weight=weight).square().sum().backward()
        grads.append(weight.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("cls", [GCN, GraphSAGE, GIN])
def test_sparse_features_are_dense_features(cls):
    x = features() * (features(1) > 0.5)
    _, theirs = pair(cls)
    ours = cls(F_IN, HIDDEN, 2, CLASSES, sparse_features=True)
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours, theirs, x, graph("directed"))


@pytest.mark.parametrize("cls", [GCN, GraphSAGE, GIN])
def test_gradients_of_features_are_those_of_pyg(cls):
    grads = []
    for model in pair(cls):
        x = features().requires_grad_()
        model(x, graph("directed")).square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("cls", [GCN, GraphSAGE, GIN])
def test_sparse_adjacency_is_edge_index(cls):
    model, x, edges = pair(cls)[0], features(), graph("directed")
    matrix = torch.zeros(N, N).index_put((edges[1], edges[0]), torch.ones(())).to_sparse_csr()
    torch.testing.assert_close(model(x, matrix), model(x, edges))


@pytest.mark.parametrize("cls", PEERS)
def test_a_seed_gives_the_initial_state_of_pyg(cls):
    kwargs = {"heads": 8} if cls is GAT else {}
    states = []
    for model in (cls, PEERS[cls]):
        torch.manual_seed(0)
        states.append(model(F_IN, HIDDEN, 2, CLASSES, **kwargs).state_dict())
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize("cls", [GCN, GraphSAGE, GIN])
def test_mixed_precision_is_close(cls):
    model, edges = pair(cls)[0], graph("directed")
    expected = model(features(), edges)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(features(), edges)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.1, atol=0.1)
    out.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("cls", PEERS)
def test_permutation_equivariance(cls):
    model, x, edges = pair(cls)[0], features(), graph("directed")
    order = torch.randperm(N)
    place = torch.empty_like(order)
    place[order] = torch.arange(N)
    torch.testing.assert_close(model(x[order], place[edges]), model(x, edges)[order])


@pytest.mark.parametrize("cls", [GCN, GraphSAGE, GIN])
def test_changed_inputs_are_seen(cls):
    (ours, theirs), x, edges = pair(cls), features(), graph("directed")
    ours(x, edges)
    changes = [
        lambda: x[3].add_(1),
        lambda: x.data.mul_(3),
        lambda: x.numpy().__setitem__(0, 7.0),
        lambda: edges[:, 0].copy_(torch.tensor([0, 5])),
        lambda: edges.numpy().__setitem__((0, 1), 3),
    ]
    for change in changes:
        change()
        torch.testing.assert_close(ours(x, edges), theirs(x, edges))


@pytest.mark.parametrize("cls", [GCN, GraphSAGE, GIN])
def test_explanations_are_those_of_pyg(cls):
    masks = []
    for model in pair(cls):
        assert type(model.convs[0])._orig_propagate is pyg.MessagePassing.propagate
        config = {"mode": "multiclass_classification", "task_level": "node", "return_type": "raw"}
        explainer = Explainer(
            model,
            GNNExplainer(epochs=3),
            explanation_type="model",
            node_mask_type="attributes",
            edge_mask_type="object",
            model_config=config,
        )
        torch.manual_seed(0)
        masks.append(explainer(features(), graph("directed"), index=1).edge_mask)
    assert masks[0].count_nonzero() > 0
    torch.testing.assert_close(*masks)


@pytest.mark.parametrize("cls", [GraphSAGE, GIN, GAT])
def test_edge_weights_without_use_are_refused(cls):
    edges = graph("directed")
    with pytest.raises(ValueError, match=f"{cls.__name__} cannot use edge_weight"):
        pair(cls)[0](features(), Graph(edges, torch.ones(edges.size(1)), N))
    with pytest.raises(ValueError, match=f"{cls.__name__} cannot use edge_weight"):
        pair(cls)[0](features(), edges, torch.ones(edges.size(1)))
    matrix = torch.zeros(N, N).index_put((edges[1], edges[0]), torch.tensor(2.0)).to_sparse_csr()
    with pytest.raises(ValueError, match="use .*edge.weight"):
        pair(cls)[0](features(), matrix)


@pytest.mark.parametrize("cls", [*PEERS, MLP])
def test_layer_norm_normalizes_each_node_by_itself(cls):
    model = cls(
        in_channels=F_IN,
        hidden_channels=HIDDEN,
        num_layers=2,
        out_channels=CLASSES,
        norm="layer_norm",
    )
    assert isinstance(model.norms[0], torch.nn.LayerNorm)
    x, far = features(), features()
    far[-1] *= 100
    no_edges = torch.empty(2, 0, dtype=torch.long)
    first = [model(x) if cls is MLP else model(x, no_edges) for x in (x, far)]
    torch.testing.assert_close(first[0][:-1], first[1][:-1])


@pytest.mark.parametrize("kwargs", [{"aggr": "max", "cached": True}, {"cached": True}], ids=str)
def test_a_cached_normalization_is_never_that_of_another_graph(kwargs):
    ours, theirs = pair(GCN, **kwargs)
    for kind in ("directed", "loops"):
        for conv in theirs.convs:
            conv._cached_edge_index = None
        torch.testing.assert_close(ours(features(), graph(kind)), theirs(features(), graph(kind)))


@pytest.mark.parametrize("cls", [*PEERS, MLP])
def test_dropout_is_random_in_training_only(cls):
    model = cls(
        in_channels=F_IN, hidden_channels=HIDDEN, num_layers=2, out_channels=CLASSES, dropout=0.5
    )
    args = (features(),) if cls is MLP else (features(), graph("directed"))
    assert not model(*args).equal(model(*args))
    model.eval()
    assert model(*args).equal(model(*args))


@pytest.mark.parametrize("cls", [GCN, GraphSAGE])
def test_lazy_model_takes_its_width_from_the_data(cls):
    model = cls(-1, HIDDEN, 2, CLASSES)
    out = model(features(), graph("directed"))
    torch.testing.assert_close(model(features(), graph("directed")), out)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("norm", [None, "batch_norm"])
def test_mlp_is_that_of_pyg(num_layers, norm):
    kwargs = {
        "hidden_channels": HIDDEN,
        "out_channels": CLASSES,
        "num_layers": num_layers,
        "norm": norm,
    }
    ours, theirs = MLP(in_channels=F_IN, **kwargs), pyg.MLP(in_channels=F_IN, **kwargs)
    theirs.load_state_dict(ours.state_dict())
    assert_same(ours, theirs, features())
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("name", EXPERTS.names())
def test_experts_by_name(name):
    model = build_expert(
        name, in_channels=F_IN, out_channels=CLASSES, hidden_channels=HIDDEN, num_nodes=N
    )
    args = (features(),) if name == "mlp" else (features(), graph("directed"))
    assert model(*args).shape == (N, CLASSES)
    assert (model.in_channels, model.out_channels, model.dropout.p) == (F_IN, CLASSES, 0.5)


def test_expert_by_import_path_gets_what_it_accepts():
    model = build_expert(
        "torch_geometric.nn.LINKX", in_channels=F_IN, out_channels=CLASSES, num_nodes=N
    )
    assert isinstance(model, pyg.LINKX) and model.num_nodes == N
    model = build_expert("torch_geometric.nn.GCN", in_channels=F_IN, out_channels=CLASSES)
    assert isinstance(model, pyg.GCN) and model.num_layers == 2


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("gnc", {}, "unknown expert 'gnc': choose one of mlp, gcn, sage, gin, gat"),
        ("torch.nn.Linear", {}, "'torch.nn.Linear' .* neither in_channels nor"),
        ("gat", {"sparse_features": True}, "GAT reads dense features only"),
        ("gcn", {"num_layers": 0}, "at least 1, got 0"),
        ("mlp", {"num_layers": 0}, "at least 1, got 0"),
        ("gat", {"hidden_channels": 12}, "multiple of the 8 attention heads, got 12: choose 16"),
    ],
)
def test_what_cannot_be_built_is_refused(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_expert(name, in_channels=F_IN, out_channels=CLASSES, **kwargs)
