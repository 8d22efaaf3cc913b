import pytest
import torch

from mowst.experts import MLP
from mowst.nn.registry import rebuild, spec_of

N, F_IN, HIDDEN, CLASSES = 12, 6, 8, 3


def expert(num_layers, skip, dropout=0.0, norm="layer_norm"):
    torch.manual_seed(1)
    sizes = {"in_channels": F_IN, "hidden_channels": HIDDEN, "out_channels": CLASSES}
    return MLP(**sizes, num_layers=num_layers, dropout=dropout, norm=norm, skip=skip)


@pytest.mark.parametrize("num_layers", [1, 2, 3, 5])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_skips_add_hidden_samples(num_layers, dropout):
    model, x = expert(num_layers, True, dropout), torch.randn(N, F_IN)
    torch.manual_seed(0)
    out = model(x)
    torch.manual_seed(0)
    hidden = x
    for k in range(num_layers - 1):
        new = model.dropout(model.norms[k](model.lins[k](hidden)).relu())
        hidden = new if k == 0 else hidden + new
    expected = model.lins[-1](hidden)
    torch.testing.assert_close(out, expected)
    grads = [
        torch.autograd.grad(y.square().sum(), list(model.parameters())) for y in (out, expected)
    ]
    torch.testing.assert_close(*grads)
    assert model.eval()(x).equal(expert(num_layers, False).eval()(x)) == (num_layers < 3)


@pytest.mark.parametrize("norm", [None, "batch_norm", "layer_norm"])
def test_skips_have_no_parameters(norm):
    states = [expert(3, skip, norm=norm).state_dict() for skip in (False, True)]
    assert states[0].keys() == states[1].keys()


def test_spec_keeps_the_skips():
    model, x = expert(4, True), torch.randn(N, F_IN)
    again = rebuild(spec_of(model))
    again.load_state_dict(model.state_dict())
    assert again(x).equal(model(x)) and again.skip
