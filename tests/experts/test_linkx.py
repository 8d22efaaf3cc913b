import pytest
import torch
import torch_geometric.nn as pyg
from torch_geometric.explain import Explainer, GNNExplainer

from mowst.experts import LINKX
from mowst.nn.build import build_expert
from mowst.nn.registry import rebuild, spec_of

N, F_IN, HIDDEN, CLASSES = 14, 6, 8, 3
SIZES = {"num_nodes": N, "in_channels": F_IN, "hidden_channels": HIDDEN, "out_channels": CLASSES}


def graph():
    r"""Random directed edges with loops and repetitions; the last two nodes are isolated."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(N, F_IN, generator=generator), torch.randint(
        N - 2, (2, 30), generator=generator
    )


def pair(num_layers=2, **kwargs):
    r"""Our model and PyG's from one seed, in training as batch normalization needs."""
    models = []
    for cls in (LINKX, pyg.LINKX):
        torch.manual_seed(1)
        models.append(cls(**SIZES, num_layers=num_layers, **kwargs))
    return models


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "kwargs",
    [{"num_layers": 1}, {"num_layers": 3}, {"num_edge_layers": 2, "num_node_layers": 2}],
    ids=str,
)
def test_state_output_and_gradients_are_those_of_pyg(weighted, kwargs):
    (x, edges), models = graph(), pair(**kwargs)
    weight = torch.rand(edges.size(1)) + 0.5 if weighted else None
    states = [dict(model.state_dict()) for model in models]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    outs = [model(x, edges, weight) for model in models]
    torch.testing.assert_close(*outs)
    grads = [
        torch.autograd.grad(out.square().sum(), list(model.parameters()), allow_unused=True)
        for out, model in zip(outs, models, strict=True)
    ]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)
    for model in models:
        model.eval()
    torch.testing.assert_close(*[model(x, edges, weight) for model in models])
    assert repr(models[0]) == repr(models[1])


def test_gradients_of_edge_weights_are_those_of_pyg():
    x, edges = graph()
    weight = torch.linspace(0.5, 1.5, edges.size(1)).requires_grad_()
    grads = [
        torch.autograd.grad(model(x, edges, weight).square().sum(), weight) for model in pair()
    ]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


def test_explanations_are_those_of_pyg():
    masks, (x, edges) = [], graph()
    for model in pair():
        explainer = Explainer(
            model,
            GNNExplainer(epochs=3),
            explanation_type="model",
            node_mask_type="attributes",
            edge_mask_type="object",
            model_config={
                "mode": "multiclass_classification",
                "task_level": "node",
                "return_type": "raw",
            },
        )
        torch.manual_seed(0)
        masks.append(explainer(x, edges, index=int(edges[1, 0])).edge_mask)
    assert masks[0].count_nonzero() > 0
    torch.testing.assert_close(*masks)


def test_lazy_model_takes_its_width_from_the_data():
    x, edges = graph()
    model = LINKX(**SIZES | {"in_channels": -1}, num_layers=2).eval()
    torch.testing.assert_close(model(x, edges), model(x, edges))
    assert model.node_mlp.lins[0].weight.shape == (HIDDEN, F_IN)


def test_sparse_features_are_dense_features():
    x, edges = graph()
    x = x * (x > 0.5)
    models = []
    for sparse in (True, False):
        torch.manual_seed(1)
        models.append(LINKX(**SIZES, num_layers=2, sparse_features=sparse))
    torch.testing.assert_close(*[model(x, edges) for model in models])


def test_spec_round_trip():
    model, inputs = (
        LINKX(**SIZES, num_layers=3, num_edge_layers=2, num_node_layers=2, dropout=0.4),
        graph(),
    )
    again = rebuild(spec_of(model))
    again.load_state_dict(model.state_dict())
    assert again.eval()(*inputs).equal(model.eval()(*inputs))
    assert again.constructor_args() == model.constructor_args() and again.dropout.p == 0.4


def test_other_nodes_are_refused():
    (x, edges), (model, _) = graph(), pair()
    with pytest.raises(
        ValueError, match="weights for 14 nodes, got features of 13: build it with num_nodes=13"
    ):
        model(x[:-1], edges)
    assert not model.inductive


def test_number_of_nodes_goes_to_those_who_take_it():
    sizes = {"in_channels": F_IN, "out_channels": CLASSES}
    assert build_expert("linkx", **sizes, num_nodes=N).num_nodes == N
    assert "num_nodes" not in build_expert("gcn", **sizes, num_nodes=N).constructor_args()
    with pytest.raises(ValueError, match="'linkx' has weights for each node: give num_nodes"):
        build_expert("linkx", **sizes)
    with pytest.raises(ValueError, match="num_edge_layers must be at least 1, got 0"):
        build_expert("linkx", **sizes, num_nodes=N, num_edge_layers=0)
