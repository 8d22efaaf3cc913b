import pytest
import torch
from torch_geometric.nn import GAT, GCN, GIN, GraphSAGE
from torch_geometric.utils import remove_self_loops

from mowst.graph import formats
from mowst.graph.formats import transposed_csr
from mowst.nn.contract import call_expert

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 2, "out_channels": 3}


@pytest.fixture(autouse=True)
def small_graphs_count_as_large(monkeypatch):
    monkeypatch.setattr(formats, "MIN_EDGES", 0)


@pytest.fixture
def data(data):
    data.edge_index = remove_self_loops(data.edge_index)[0]
    return data


def logits_and_gradients(expert, call):
    expert.zero_grad()
    logits = call()
    logits.square().sum().backward()
    return [logits.detach(), *(p.grad.clone() for p in expert.parameters())]


@pytest.mark.parametrize(
    ("kind", "weighted"), [(GCN, False), (GCN, True), (GraphSAGE, False), (GIN, False)], ids=lambda v: str(v)
)
def test_pyg_models_run_on_a_matrix_with_the_result_of_their_messages(data, kind, weighted):
    expert, seen = kind(**SIZES), []
    weight = torch.rand(data.num_edges) if weighted else None
    extra = {"edge_weight": weight} if weighted else {}
    direct = logits_and_gradients(expert, lambda: expert(data.x, data.edge_index, **extra))
    expert.register_forward_pre_hook(lambda _, args: seen.append(args[1].layout))
    chosen = logits_and_gradients(expert, lambda: call_expert(expert, data.x, data.edge_index, weight))
    assert seen == [torch.sparse_csr]
    torch.testing.assert_close(chosen, direct, rtol=1e-4, atol=1e-5)


def test_directed_edges_keep_their_direction():
    expert, x = GCN(**SIZES), torch.randn(4, 6)
    edge_index = torch.tensor([[0, 1, 2], [3, 3, 1]])
    torch.testing.assert_close(call_expert(expert, x, edge_index), expert(x, edge_index))


def test_what_a_matrix_cannot_hold_stays_as_edges(data):
    twice = torch.cat([data.edge_index, data.edge_index[:, :1]], dim=1)
    assert transposed_csr(twice, None, 30) is None
    loop = torch.cat([data.edge_index, torch.tensor([[3], [3]])], dim=1)
    assert transposed_csr(loop, None, 30) is None
    assert transposed_csr(data.edge_index, torch.ones(data.num_edges, requires_grad=True), 30) is None
    for options in ({"improved": True}, {"flow": "target_to_source"}):
        expert = GCN(**SIZES, **options)
        torch.testing.assert_close(call_expert(expert, data.x, data.edge_index), expert(data.x, data.edge_index))
    seen, attention = [], GAT(**SIZES, heads=2)
    attention.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    call_expert(attention, data.x, data.edge_index)
    assert seen[0] is data.edge_index


@pytest.mark.parametrize("kind", [GCN, GraphSAGE, GIN])
def test_double_and_mixed_precision_run_on_edges(data, kind):
    expert, x = kind(**SIZES).double(), data.x.double()
    torch.testing.assert_close(call_expert(expert, x, data.edge_index), expert(x, data.edge_index))
    with torch.autocast("cpu", torch.bfloat16):
        expert.float()
        torch.testing.assert_close(
            call_expert(expert, data.x, data.edge_index), expert(data.x, data.edge_index).float()
        )


def test_the_matrix_is_made_once(data):
    assert transposed_csr(data.edge_index, None, 30) is transposed_csr(data.edge_index, None, 30)
    assert transposed_csr(data.edge_index.clone(), None, 30) is not transposed_csr(data.edge_index, None, 30)
