r"""Registered rows: experts with skips, norms and a head; and their logits of some nodes only."""

import pytest
import torch
import torch.nn.functional as F
import torch_geometric.nn as pyg

from mowst.nn.build import build_expert
from mowst.nn.call import call_expert
from mowst.nn.registry import EXPERTS
from mowst.sparse import Features, Graph

N, F_IN, HIDDEN, CLASSES = 14, 6, 8, 3
CONVS = {"tuned-gcn": pyg.GCNConv, "tuned-sage": pyg.SAGEConv, "tuned-gat": pyg.GATConv}
PLAIN = {"gcn-skip": "gcn", "gin-skip": "gin"}
NAMES = ["gcn", "sage", "gin", "gat", *PLAIN, *CONVS]


def graph(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, F_IN, generator=generator)
    return x, torch.randint(N - 2, (2, 40), generator=generator)


def expert(name, num_layers=3, dropout=0.0, **kwargs):
    torch.manual_seed(1)
    sizes = {"in_channels": F_IN, "hidden_channels": HIDDEN, "out_channels": CLASSES}
    return build_expert(name, **sizes, num_layers=num_layers, dropout=dropout, **kwargs)


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm", None])
@pytest.mark.parametrize("skip", [False, True])
def test_a_tuned_expert_is_its_formula(name, num_layers, norm, skip):
    model, (x, edges) = expert(name, num_layers=num_layers, norm=norm, skip=skip), graph()
    hidden = x
    for i, conv in enumerate(model.convs):
        layer = CONVS[name](conv.in_channels, HIDDEN)
        layer.load_state_dict(conv.state_dict())
        out = layer(hidden, edges) + (model.skips[i](hidden) if skip else 0)
        if norm == "layer_norm":
            out = F.layer_norm(out, [HIDDEN])
        elif norm == "batch_norm":
            out = F.batch_norm(out, None, None, training=True)
        hidden = out.relu()
    torch.testing.assert_close(model.train()(x, edges), model.lin(hidden))


@pytest.mark.parametrize("name", PLAIN)
def test_an_expert_with_skips_of_zero_is_the_expert_without(name):
    model, plain = expert(name), expert(PLAIN[name])
    for parameter in model.skips.parameters():
        torch.nn.init.zeros_(parameter)
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing.missing_keys
    torch.testing.assert_close(model(*graph()), plain(*graph()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm", None])
@pytest.mark.parametrize("sparse", [None, True])
def test_logits_of_some_nodes_are_rows_of_all_logits_and_so_are_gradients(name, norm, sparse):
    if sparse and "gat" in name:
        pytest.skip("GAT reads dense features")
    for num_layers in (1, 2, 3):
        model = expert(name, num_layers=num_layers, norm=norm, sparse_features=sparse).train()
        (x, edges), nodes = graph(), torch.tensor([3, 13, 0, 7])
        grads = []
        whole = Features(x), Graph(edges, num_nodes=N)
        for route in (
            model(x, edges)[nodes],
            call_expert(model, x, edges, nodes=nodes),
            call_expert(model, *whole, nodes=nodes),
        ):
            model.zero_grad()
            (route * torch.linspace(-1, 2, route.numel()).view_as(route)).sum().backward()
            grads.append([route.detach(), *(p.grad for p in model.parameters())])
        for other in grads[1:]:
            torch.testing.assert_close(grads[0], other, rtol=1e-4, atol=1e-5)


def test_the_sage_skip_joins_the_root_weight_and_both_get_its_gradient():
    model, (x, edges) = expert("sage", skip=True), graph()
    model(x, edges).square().sum().backward()
    for conv, skip in zip(model.convs, model.skips, strict=True):
        torch.testing.assert_close(conv.lin_r.weight.grad, skip.weight.grad)
        assert skip.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_reset_draws_every_parameter_again(name):
    model = expert(name, skip=True)
    before = {key: value.clone() for key, value in model.named_parameters() if value.dim() == 2}
    model.reset_parameters()
    for key, value in before.items():
        assert not torch.equal(value, dict(model.named_parameters())[key]), key


def test_arguments_of_pyg_that_know_no_skips_are_refused():
    with pytest.raises(ValueError, match="GCN with skip takes no batch_size"):
        expert("tuned-gcn", skip=True)(*graph(), batch_size=2)


@pytest.mark.parametrize("name", [*CONVS, *PLAIN])
def test_arguments_of_a_row_can_be_overridden(name):
    args = expert(name).constructor_args()
    assert args["skip"] == (name in PLAIN) and args["jk"] == ("last" if name in CONVS else None)
    assert expert(name, skip=not args["skip"], jk="cat").constructor_args()["jk"] == "cat"
    assert EXPERTS.find(name) is EXPERTS.find(PLAIN.get(name, name.removeprefix("tuned-")))
