import copy

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import GAT as PyGGAT
from torch_geometric.nn import GCN as PyGGCN
from torch_geometric.nn import GIN as PyGGIN
from torch_geometric.nn import MLP as PyGMLP
from torch_geometric.nn import PNA, GraphSAGE

from mowst import (
    GCN,
    MLP,
    Features,
    Graph,
    LearnedGate,
    MonotoneGate,
    Mowst,
    PowerGate,
    StepGate,
    mowst_loss,
)
from mowst.nn import mixture_prob
from mowst.nn.signature import takes_edges

SIZES = {"in_channels": 6, "hidden_channels": 16, "num_layers": 2, "out_channels": 3}


class Fixed(torch.nn.Module):
    r"""A gate with one confidence for all nodes."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, logits):
        return logits.new_full(logits.shape[:1], self.value)


@pytest.fixture
def model():
    return Mowst(MLP(**SIZES), GCN(**SIZES), LearnedGate(8)).eval()


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(
    "strong",
    [
        PyGGCN(**SIZES),
        GraphSAGE(**SIZES),
        PyGGIN(**SIZES),
        PyGGAT(**SIZES, heads=4),
        PNA(
            **SIZES, aggregators=["mean", "max"], scalers=["identity"], deg=torch.tensor([0, 5, 5])
        ),
    ],
    ids=lambda gnn: type(gnn).__name__,
)
def test_takes_any_gnn_of_pyg(strong, data):
    model = Mowst(MLP(**SIZES), strong, LearnedGate(8)).eval()
    out = model(data.x, data.edge_index)
    assert out.prob.shape == out.weak.shape == out.strong.shape == (30, 3)
    torch.testing.assert_close(out.strong, strong(data.x, data.edge_index))
    torch.testing.assert_close(out.prob.sum(dim=-1), torch.ones(30))
    assert torch.equal(model.predict(data.x, data.edge_index), out.prob.argmax(dim=-1))


@pytest.mark.parametrize(
    ("weak", "edges"),
    [
        (MLP(**SIZES), False),
        (PyGMLP(in_channels=6, hidden_channels=16, out_channels=3, num_layers=2), False),
        (torch.nn.Sequential(torch.nn.Linear(6, 3)), False),
        (GCN(**SIZES), True),
    ],
    ids=lambda part: type(part).__name__,
)
def test_takes_any_weak_expert(weak, edges, data):
    assert takes_edges(weak) == edges
    out = Mowst(weak, GCN(**SIZES), PowerGate()).eval()(data.x, data.edge_index)
    assert out.weak.shape == (30, 3)


def test_mixture_is_its_formula(model, data):
    out = model(data.x, data.edge_index)
    c = out.confidence.unsqueeze(-1)
    torch.testing.assert_close(
        out.prob, c * out.weak.softmax(dim=-1) + (1 - c) * out.strong.softmax(dim=-1)
    )
    model.mix = "logit"
    mixed = model(data.x, data.edge_index).prob
    torch.testing.assert_close(mixed, (c * out.weak + (1 - c) * out.strong).softmax(dim=-1))


@pytest.mark.parametrize("mix", ["prob", "logit"])
@pytest.mark.parametrize(("route", "share"), [("weak", 1.0), ("strong", 0.0)])
def test_a_route_is_the_mixture_at_its_limit(model, data, mix, route, share):
    model.mix = mix
    limit = Mowst(model.weak, model.strong, Fixed(share), mix=mix)
    model.route = route
    out, expected = model(data.x, data.edge_index), limit(data.x, data.edge_index)
    assert torch.equal(out.prob, expected.prob) and (out.confidence == share).all()
    torch.testing.assert_close(out.prob, getattr(out, route).softmax(dim=-1))


def test_dispersion_of_a_sure_node_is_one_in_training_and_prediction_alike():
    logits = torch.zeros(2, 40)
    logits[0, 3] = 50.0
    model = Mowst(_Constant(logits), _Constant(torch.zeros(2, 40)), PowerGate())
    for mode in (True, False):
        out = model.train(mode)(torch.zeros(2, 1), torch.empty(2, 0, dtype=torch.long))
        torch.testing.assert_close(out.confidence, torch.tensor([1.0, 0.0]))


class _Constant(torch.nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return self.logits


@pytest.mark.parametrize("mix", ["prob", "logit"])
@pytest.mark.parametrize("num_classes", [2, 3, 15, 16, 40])
def test_predict_is_the_argmax_of_the_formula_with_ties_and_extreme_logits(mix, num_classes):
    weak, strong = torch.randn(2, 60, num_classes, dtype=torch.float64)
    weak[:10] = strong[:10] = 1.0  # all classes tie
    weak[10:20, 1] = weak[10:20, 0] = strong[10:20, 1] = strong[10:20, 0] = 9.0  # two tie
    weak[20:30] *= 1e6
    strong[30:40] *= 1e6
    model = Mowst(_Constant(weak.float()), _Constant(strong.float()), PowerGate(), mix=mix)
    inputs = torch.zeros(60, 1), torch.empty(2, 0, dtype=torch.long)
    out = model.outputs(*inputs)
    prob = mixture_prob(out.weak, out.strong, PowerGate()(out.weak), mix)
    torch.testing.assert_close(out.prob, prob)
    assert torch.equal(model.predict_proba(*inputs), out.prob) and out.prob.is_contiguous()
    found = model.predict(*inputs)
    assert torch.equal(found, out.prob.argmax(dim=-1)) and (found[:20] == 0).all()
    assert torch.equal(found, prob.argmax(dim=-1))


def test_plain_and_sparse_features_predict_the_same_classes():
    x = torch.randn(80, 300) * (torch.rand(80, 300) < 0.05)
    edge_index = torch.randint(80, (2, 300))
    sizes = {**SIZES, "in_channels": 300}
    model = Mowst(MLP(**sizes), GCN(**sizes)).eval()
    read = []
    hook = model.weak.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    for features in (x, x + 1):  # mostly zero, and dense
        plain = model.predict_proba(features, edge_index)
        objects = model.predict_proba(Features(features), Graph(edge_index, num_nodes=80))
        torch.testing.assert_close(plain, objects)
    assert read[0].sparse() is not None and read[2].shape == x.shape
    assert isinstance(read[2], torch.Tensor)
    hook.remove()


def test_threshold_routes_hard_and_spares_the_strong_expert(model, data):
    out = model(data.x, data.edge_index)
    middle = float(out.confidence.detach().median())
    routed = torch.where(
        out.confidence >= middle, out.weak.argmax(dim=-1), out.strong.argmax(dim=-1)
    )
    assert torch.equal(model.predict(data.x, data.edge_index, threshold=middle), routed)
    calls = count_calls(model.strong)
    assert torch.equal(
        model.predict(data.x, data.edge_index, threshold=0.0), out.weak.argmax(dim=-1)
    )
    model.route = "weak"
    model.predict(data.x, data.edge_index)
    assert not calls
    model.route = "strong"
    assert torch.equal(model.predict(data.x, data.edge_index), out.strong.argmax(dim=-1))
    assert torch.equal(
        model.predict(data.x, data.edge_index, threshold=middle), routed
    )  # whatever the route


def test_sampled_routing_predicts_by_one_expert_each_with_the_share_of_the_confidence(model, data):
    out = model(data.x, data.edge_index)
    experts = torch.stack([out.weak.argmax(dim=-1), out.strong.argmax(dim=-1)])
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack(
        [
            model.predict(data.x, data.edge_index, sample=True, generator=generator)
            for _ in range(400)
        ]
    )
    assert ((draws == experts[0]) | (draws == experts[1])).all()
    differ = experts[0] != experts[1]
    share = (draws == experts[0])[:, differ].float().mean(dim=0)
    assert differ.any() and (share - out.confidence[differ]).abs().max() < 5 * 0.5 / 400**0.5
    with pytest.raises(ValueError, match="give one of threshold, budget and sample"):
        model.predict(data.x, data.edge_index, threshold=0.5, sample=True)


def test_predict_is_in_evaluation_mode_and_restores_the_modes(data):
    model = Mowst(MLP(**SIZES, dropout=0.9), GCN(**SIZES, dropout=0.9), LearnedGate(8)).train()
    model.weak.eval()
    before = copy.deepcopy(model.state_dict())
    answers = [model.predict(data.x, data.edge_index) for _ in range(3)]
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    assert model.training and model.strong.training and not model.weak.training
    assert all(
        torch.equal(before[k], v)
        for k, v in model.state_dict().items()
        if isinstance(v, torch.Tensor)
    )


@pytest.mark.parametrize("detach", [True, False])
def test_detach_dispersion_cuts_the_gradient_through_the_confidence(data, detach):
    model = Mowst(MLP(**SIZES), GCN(**SIZES), PowerGate(), detach_dispersion=detach)
    assert model(data.x, data.edge_index).confidence.requires_grad is not detach


def test_predicts_on_another_graph(model):
    x, edge_index = torch.randn(7, 6), torch.tensor([[0, 1, 2], [1, 2, 0]])
    assert model.predict(x, edge_index).shape == (7,)
    assert model.predict(x[:0], edge_index[:, :0]).shape == (0,)


def test_permutation_equivariance(model, data):
    order = torch.randperm(30)
    position = order.argsort()
    permuted = model(data.x[order], position[data.edge_index])
    for ours, expected in zip(permuted, model(data.x, data.edge_index), strict=True):
        torch.testing.assert_close(ours, expected[order])


def test_as_module_returns_one_tensor_and_explains(data):
    model = Mowst(MLP(**SIZES), PyGGCN(**SIZES), PowerGate()).eval()
    out = model(data.x, data.edge_index)
    for field in out._fields:
        assert torch.equal(model.as_module(field)(data.x, data.edge_index), getattr(out, field))
    explainer = Explainer(
        model.as_module(),
        algorithm=GNNExplainer(epochs=2),
        explanation_type="model",
        edge_mask_type="object",
        model_config={
            "mode": "multiclass_classification",
            "task_level": "node",
            "return_type": "probs",
        },
    )
    assert explainer(data.x, data.edge_index, index=3).edge_mask.shape == (data.num_edges,)
    with pytest.raises(ValueError, match="unknown output 'logits'"):
        model.as_module("logits")


def test_reset_parameters_draws_new_ones_and_resets_the_route(model):
    model.route = "strong"
    before = copy.deepcopy(model.state_dict())
    model.reset_parameters()
    assert model.route == "mixture"
    for part in ("weak", "strong", "gate"):
        weights = {
            k: v
            for k, v in model.state_dict().items()
            if k.startswith(part) and k.endswith("weight") and v.dim() > 1
        }
        assert weights and all(not torch.equal(before[k], v) for k, v in weights.items())


def test_repr_is_one_line():
    model = Mowst(torch.nn.Sequential(torch.nn.Linear(6, 3)), PyGGCN(**SIZES), PowerGate())
    expected = (
        "Mowst(weak=Sequential(...), strong=GCN(6, 3, num_layers=2), "
        "gate=PowerGate(alpha=1.0, dispersion='variance'), mix='prob')"
    )
    assert repr(model) == expected


def test_gcn_cannot_tell_two_nodes_apart_that_mowst_gcn_can(data):
    # Two nodes joined to each other: their GCN aggregations coincide, their features do not.
    x, edge_index = torch.randn(2, 6), torch.tensor([[0, 1], [1, 0]])
    model = Mowst(MLP(**SIZES), GCN(**SIZES), PowerGate()).eval()
    out = model(x, edge_index)
    torch.testing.assert_close(out.strong[0], out.strong[1])
    assert (out.prob[0] - out.prob[1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"strong": torch.nn.Linear(6, 1)}, "the experts disagree"),
        (
            {"strong": GCN(**{**SIZES, "out_channels": 4})},
            r"weak logits \[30, 3\], strong logits \[30, 4\]",
        ),
        (
            {"strong": torch.nn.Flatten(0)},
            r"Flatten must return logits of shape \[N, C\] with N = 30",
        ),
        ({"gate": Fixed(1.5)}, r"Fixed must return confidences in \[0, 1\]: 30 of 30.*1.5"),
        ({"gate": torch.nn.Identity()}, r"shape \[N\] = \[30\], got \[30, 3\]"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_parts_that_break_the_contract_are_named(data, parts, message):
    model = Mowst(**({"weak": MLP(**SIZES), "strong": GCN(**SIZES), "gate": PowerGate()} | parts))
    with pytest.raises(ValueError, match=message):
        model(data.x, data.edge_index)


def test_a_confidence_of_nan_is_named(data):
    model = Mowst(MLP(**SIZES), GCN(**SIZES), Fixed(float("nan")))
    with pytest.raises(FloatingPointError, match="30 of 30 confidences of Fixed became NaN"):
        model(data.x, data.edge_index)


def test_edge_weights_reach_the_expert_or_are_refused(data):
    weight = torch.rand(data.num_edges)
    weighted = Mowst(MLP(**SIZES), PyGGCN(**SIZES), StepGate()).eval()
    out = weighted(data.x, data.edge_index, weight)
    torch.testing.assert_close(
        out.strong, weighted.strong(data.x, data.edge_index, edge_weight=weight)
    )
    with pytest.raises(ValueError, match="GraphSAGE cannot use edge_weight"):
        Mowst(MLP(**SIZES), GraphSAGE(**SIZES), StepGate())(data.x, data.edge_index, weight)


def test_the_gate_is_monotone_by_default_and_may_be_a_name(data):
    for gate in ((), ("monotone",)):
        model = Mowst(MLP(**SIZES), GCN(**SIZES), *gate)
        assert isinstance(model.gate, MonotoneGate)
        assert model(data.x, data.edge_index).prob.shape == (30, 3)
    assert isinstance(Mowst(MLP(**SIZES), GCN(**SIZES), "learned").gate, LearnedGate)
    with pytest.raises(ValueError, match="'logits' needs sizes .*num_classes.*build_gate"):
        Mowst(MLP(**SIZES), GCN(**SIZES), "logits")
    with pytest.raises(ValueError, match="unknown gate 'no': choose one of power, step"):
        Mowst(MLP(**SIZES), GCN(**SIZES), "no")


def test_the_output_has_the_loss_of_mowst(model, data):
    out, weight = model(data.x, data.edge_index), torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(out.loss(data.y), mowst_loss(out, data.y))
    wanted = mowst_loss(out, data.y, data.train_mask, weight)
    assert torch.equal(out.loss(data.y, data.train_mask, class_weight=weight), wanted)


@pytest.mark.parametrize("route", ["mixture", "weak", "strong"])
def test_predict_proba_follows_the_route_in_evaluation_mode(data, route):
    model = Mowst(MLP(**SIZES, dropout=0.9), GCN(**SIZES, dropout=0.9))
    model.route = route
    prob = model.predict_proba(data.x, data.edge_index)
    assert model.training and not prob.requires_grad
    assert torch.equal(prob, model.eval()(data.x, data.edge_index).prob)
    assert torch.equal(prob.argmax(dim=-1), model.predict(data.x, data.edge_index))


@pytest.mark.parametrize("choice", [{}, {"threshold": 0.5}, {"budget": 0.3}])
def test_predict_takes_a_graph(data, choice):
    model = Mowst(MLP(**SIZES), GCN(**SIZES)).eval()
    data.edge_weight = torch.rand(data.num_edges)
    plain = (data.x, data.edge_index, data.edge_weight)
    assert torch.equal(model.predict(data, **choice), model.predict(*plain, **choice))
    assert torch.equal(model.predict_proba(data), model(*plain).prob)
    assert not torch.equal(model.predict_proba(data), model(*plain[:2]).prob)
    with pytest.raises(ValueError, match="a graph, or its x, edge_index and edge_weight"):
        model.predict(data, data.edge_index)
    with pytest.raises(ValueError, match="no features x: Data"):
        model.predict(Data(edge_index=data.edge_index))
    with pytest.raises(ValueError, match="GCN reads the graph: give edge_index"):
        model.predict(data.x)


def test_unknown_mix_and_route_list_the_known(model):
    with pytest.raises(ValueError, match=r"'probs'.*\['auto', 'prob', 'logit'\]"):
        Mowst(model.weak, model.strong, model.gate, mix="probs")
    with pytest.raises(ValueError, match="'gnn'.*mixture"):
        model.route = "gnn"


def test_graph_and_features_go_wherever_plain_tensors_go(model, data):
    plain, kept = (
        (data.x, data.edge_index),
        (Features(data.x), Graph(data.edge_index, num_nodes=30)),
    )
    for ours, expected in zip(model(*kept), model(*plain), strict=True):
        torch.testing.assert_close(ours, expected)
    nodes = torch.tensor([3, 7])
    for ours, expected in zip(model.outputs(*kept, nodes=nodes), model(*plain), strict=True):
        torch.testing.assert_close(ours, expected[nodes])
    for choice in ({}, {"threshold": 0.5}, {"budget": 0.3}):
        assert torch.equal(model.predict(*kept, **choice), model.predict(*plain, **choice))


def test_foreign_experts_get_plain_tensors(data):
    class Foreign(torch.nn.Linear):
        def forward(self, x, edge_index, edge_weight):
            assert all(type(tensor) is torch.Tensor for tensor in (x, edge_index, edge_weight))
            return super().forward(x)

    graph = Graph(data.edge_index, torch.rand(data.num_edges), 30)
    Mowst(torch.nn.Linear(6, 3), Foreign(6, 3), PowerGate())(Features(data.x), graph)
    with pytest.raises(ValueError, match="GraphSAGE cannot use edge_weight"):
        Mowst(torch.nn.Linear(6, 3), GraphSAGE(**SIZES), PowerGate())(data.x, graph)


class Scaled(GCN):
    def forward(self, x, edge_index):
        return super().forward(x / x.abs().max(), edge_index)


def test_a_forward_of_ones_own_in_a_subclass_gets_plain_tensors(data):
    expert, nodes = Scaled(**SIZES).eval(), torch.tensor([3, 7])
    model = Mowst(MLP(**SIZES), expert, PowerGate()).eval()
    out = model.outputs(Features(data.x), Graph(data.edge_index, num_nodes=30), nodes=nodes)
    torch.testing.assert_close(out.strong, expert(data.x, data.edge_index)[nodes])
