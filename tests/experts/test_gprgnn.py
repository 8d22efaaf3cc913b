import pytest
import torch
from torch_geometric.explain import Explainer, GNNExplainer

from mowst.experts import GPRGNN
from mowst.nn.build import build_expert
from mowst.nn.registry import rebuild, spec_of

N, F_IN, HIDDEN, CLASSES = 14, 6, 8, 3


def graph(kind="directed"):
    r"""Random edges with loops and repetitions; the last two nodes are isolated."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, F_IN, generator=generator, dtype=torch.float64)
    edges = torch.randint(N - 2, (2, 30), generator=generator)
    return x, torch.cat([edges, edges.flip(0)], dim=1) if kind == "undirected" else edges


def expert(num_layers=2, **kwargs):
    torch.manual_seed(1)
    return GPRGNN(F_IN, HIDDEN, num_layers, CLASSES, **kwargs).double()


def formula(model, x, edges, weight=None):
    r"""The dense sum; of repeated loops the last one's weight counts, as in PyG."""
    weight = torch.ones(edges.size(1), dtype=x.dtype) if weight is None else weight
    loop = edges[0] == edges[1]
    loops = torch.ones(N, dtype=x.dtype)
    for i in loop.nonzero().view(-1).tolist():
        loops = loops.index_put((edges[0, i],), weight[i])
    a_hat = torch.diag(loops).index_put(
        (edges[1, ~loop], edges[0, ~loop]), weight[~loop], accumulate=True
    )
    scale = a_hat.sum(dim=1).rsqrt()
    step, hidden, out = scale[:, None] * a_hat * scale, model.mlp(x), 0
    for gamma in model.gamma:
        out, hidden = out + gamma * hidden, step @ hidden
    return out


@pytest.mark.parametrize("kind", ["directed", "undirected"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_output_and_gradients_are_those_of_the_dense_formula(kind, weighted, steps):
    (x, edges), model = graph(kind), expert(K=steps)
    weight = torch.rand(edges.size(1), dtype=x.dtype) + 0.5 if weighted else None
    x.requires_grad_()
    inputs = [x, *model.parameters()]
    outs = [model(x, edges, weight), formula(model, x, edges, weight)]
    torch.testing.assert_close(*outs)
    grads = [torch.autograd.grad(out.square().sum(), inputs) for out in outs]
    torch.testing.assert_close(*grads)


def test_gradients_of_edge_weights_are_those_of_the_dense_formula():
    (x, edges), model = graph(), expert(K=3)
    weight = torch.linspace(0.5, 1.5, edges.size(1), dtype=x.dtype).requires_grad_()
    outs = [model(x, edges, weight), formula(model, x, edges, weight)]
    torch.testing.assert_close(*[torch.autograd.grad(out.square().sum(), weight) for out in outs])


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_steps_start_as_personalized_pagerank(alpha):
    gamma = GPRGNN(F_IN, HIDDEN, 2, CLASSES, K=5, alpha=alpha).gamma
    torch.testing.assert_close(gamma.sum(), torch.ones(()))
    hidden = start = torch.tensor(1.0)
    step = 0.7
    for _ in range(5):
        hidden = (1 - alpha) * step * hidden + alpha * start
    torch.testing.assert_close((gamma * step ** torch.arange(6)).sum(), hidden)


def test_no_step_is_the_perceptron():
    model, (x, edges) = expert(K=0), graph()
    torch.testing.assert_close(model(x, edges), model.mlp(x))
    assert model.gamma.tolist() == [1.0]


def test_permutation_equivariance():
    (x, edges), model = graph(), expert()
    order = torch.randperm(N)
    torch.testing.assert_close(model(x[order], order.argsort()[edges]), model(x, edges)[order])


def test_sparse_features_are_dense_features():
    x, edges = graph()
    x = x * (x > 0.5)
    torch.testing.assert_close(
        expert(sparse_features=True)(x, edges), expert(sparse_features=False)(x, edges)
    )


@pytest.mark.parametrize(("dropout", "dprate"), [(0.5, 0.0), (0.0, 0.5), (0.5, None)])
def test_dropout_is_random_in_training_only(dropout, dprate):
    model, inputs = expert(dropout=dropout, dprate=dprate), graph()
    assert not model(*inputs).equal(model(*inputs))
    assert model.eval()(*inputs).equal(expert()(*inputs))
    assert (model.mlp.dropout.p, model.dropout.p) == (
        dropout,
        dropout if dprate is None else dprate,
    )


def test_explainer_finds_the_edges():
    (x, edges), model = graph(), expert(K=2).float()
    explainer = Explainer(
        model,
        GNNExplainer(epochs=2),
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={
            "mode": "multiclass_classification",
            "task_level": "node",
            "return_type": "raw",
        },
    )
    mask = explainer(x.float(), edges, index=int(edges[1, 0])).edge_mask
    assert mask.shape == edges[0].shape and mask.count_nonzero() > 0


def test_reset_restores_the_start():
    model = expert().float()
    start = model.gamma.detach().clone()
    with torch.no_grad():
        model.gamma.zero_()
    model.reset_parameters()
    assert model.gamma.equal(start)


def test_spec_round_trip():
    model = expert(3, K=4, alpha=0.2, dropout=0.3, dprate=0.1, norm="layer_norm", skip=True)
    again = rebuild(spec_of(model)).double()
    again.load_state_dict(model.state_dict())
    assert again.eval()(*graph()).equal(model.eval()(*graph()))
    assert again.constructor_args() == model.constructor_args()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"K": -1}, "at least 0, got -1"), ({"alpha": 2.0}, r"\[0, 1\], got 2.0")],
)
def test_what_cannot_be_built_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_expert("gprgnn", in_channels=F_IN, out_channels=CLASSES, **kwargs)
