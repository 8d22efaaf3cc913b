r"""Layer by layer and chunk by chunk is the full forward, and nothing of the graph's length stays
behind.
"""

import pytest
import torch
import torch.nn.functional as F
import torch_geometric.nn as pyg

from mowst import MLP, Features, Graph, build_expert
from mowst.experts import conv
from mowst.nn import call
from mowst.nn.call import call_expert
from mowst.nn.layerwise import layerwise_logits
from mowst.sparse import layerwise

N, F_IN, CLASSES = 40, 6, 3
SIZES = {"in_channels": F_IN, "hidden_channels": 8, "out_channels": CLASSES, "num_layers": 3}
APART = {
    **{
        name: lambda name=name: build_expert(name, **SIZES)
        for name in ("gcn", "sage", "gin", "gcn-skip", "gin-skip")
    },
    "gcn, sparse features": lambda: build_expert("gcn", **SIZES, sparse_features=True),
    "tuned-gcn": lambda: build_expert("tuned-gcn", **SIZES, norm="batch_norm", skip=True),
    "tuned-sage": lambda: build_expert("tuned-sage", **SIZES, norm="layer_norm", skip=True),
    "PyG's GCN": lambda: pyg.GCN(**SIZES, norm="batch_norm", jk="last"),
    "PyG's GIN": lambda: pyg.GIN(**SIZES),
    "MLP": lambda: MLP(**SIZES),
}
WHOLE = {name: lambda name=name: build_expert(name, **SIZES) for name in ("gat", "h2gcn", "gprgnn")}


def graph(num_nodes=N):
    torch.manual_seed(0)
    return torch.randn(num_nodes, F_IN), torch.randint(num_nodes, (2, 4 * num_nodes))


@pytest.mark.parametrize(
    ("chunk_size", "folder"), [(1, False), (7, False), (7, True), (2 * N, True)], ids=str
)
@pytest.mark.parametrize("name", [*APART, *WHOLE])
def test_is_the_full_forward(name, chunk_size, folder, tmp_path):
    (x, edge_index), expert = graph(), {**APART, **WHOLE}[name]()
    expected = expert.eval()(x, edge_index) if name != "MLP" else expert.eval()(x)
    options = {"chunk_size": chunk_size, "folder": tmp_path if folder else None}
    found = layerwise_logits(expert.train(), x, edge_index, **options)
    torch.testing.assert_close(found, expected.detach())
    kept = Features(x), Graph(edge_index, num_nodes=N)
    torch.testing.assert_close(layerwise_logits(expert, *kept, **options), found)
    assert expert.training and not found.requires_grad
    nodes = torch.tensor([5, 3, 3, N - 1])
    torch.testing.assert_close(
        layerwise_logits(expert, x, edge_index, nodes=nodes, **options), found[nodes]
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gcn", "sage", "gin"])
def test_no_step_copies_the_rows_or_computes_more_than_its_chunk(name, monkeypatch):
    (x, edge_index), expert, seen = graph(), APART[name](), []
    original = layerwise.Step.reads_from
    monkeypatch.setattr(
        layerwise.Step, "reads_from", lambda step, x: seen.append((step, x)) or original(step, x)
    )
    layerwise_logits(expert, x, edge_index, chunk_size=16)
    assert len(seen) == 3 * 3, "three layers, three chunks each"
    for step, rows in seen:
        assert original(step, rows) is rows and step.nodes.numel() <= 16
        whole, part = (matrix.matrix.values() for matrix in (step.whole, step.operator))
        assert part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


def test_rows_of_a_layer_go_when_the_next_one_is_there(tmp_path, monkeypatch):
    (x, edge_index), expert, files = graph(), APART["sage"](), []
    original = layerwise.LayerCache._forget

    def forget(cache, i):
        original(cache, i)
        files.append(sorted(path.name for path in tmp_path.rglob("layer*.bin")))

    monkeypatch.setattr(layerwise.LayerCache, "_forget", forget)
    layerwise_logits(expert, x, edge_index, chunk_size=16, folder=tmp_path)
    assert files == [["layer1.bin", "layer2.bin"], ["layer2.bin"], []]


def test_weights_and_float64():
    x, edge_index = graph()
    weight, expert = torch.rand(4 * N).double(), APART["gcn"]().double()
    expected = expert.eval()(x.double(), edge_index, weight).detach()
    torch.testing.assert_close(
        layerwise_logits(expert, x.double(), edge_index, weight, chunk_size=9), expected
    )


def test_refusals(tmp_path):
    x, edge_index = graph()
    with pytest.raises(ValueError, match="at least 1"):
        layerwise_logits(APART["gcn"](), x, edge_index, chunk_size=0)
    with pytest.raises(FileNotFoundError, match="no folder"):
        layerwise_logits(APART["gcn"](), x, edge_index, folder=tmp_path / "none")


def test_a_narrowing_layer_maps_the_rows_of_all_nodes_once(monkeypatch):
    x, edge_index = graph()
    expert = build_expert("gcn", **{**SIZES, "hidden_channels": 64, "out_channels": 2})
    mapped, original = [], F.linear
    monkeypatch.setattr(
        F, "linear", lambda x, *args: mapped.append(x.size(0)) or original(x, *args)
    )
    with torch.inference_mode():
        layerwise_logits(expert, x, edge_index, chunk_size=8)
    assert mapped.count(N) == 1 and mapped.count(8) == 2 * N // 8


def test_the_first_hop_of_features_is_computed_once(monkeypatch):
    (x, edge_index), expert, products = graph(), APART["sage"]().eval(), []
    kept = Features(x), Graph(edge_index, num_nodes=N)
    expert(*kept)
    original = conv.propagate
    monkeypatch.setattr(
        conv, "propagate", lambda operator, x: products.append(x.size(1)) or original(operator, x)
    )
    layerwise_logits(expert, *kept)
    assert products == [SIZES["hidden_channels"], CLASSES]


@pytest.mark.parametrize("name", [*APART, *WHOLE])
def test_large_graphs_run_in_chunks_by_themselves(name, monkeypatch):
    (x, edge_index), expert = graph(), {**APART, **WHOLE}[name]().eval()
    args = () if name == "MLP" else (edge_index,)
    expected, nodes, sizes = call_expert(expert, x, *args), torch.tensor([5, 3]), []
    monkeypatch.setattr(call, "MAX_NODES", N - 1)
    monkeypatch.setattr(call, "CHUNK", 7)
    original = call.LayerCache
    monkeypatch.setattr(
        call, "LayerCache", lambda size, **kw: sizes.append(size) or original(size, **kw)
    )
    assert torch.equal(call_expert(expert, x, *args), expected), "with gradients, nothing changes"
    assert not sizes
    with torch.no_grad():
        torch.testing.assert_close(call_expert(expert, x, *args), expected.detach())
        torch.testing.assert_close(
            call_expert(expert, x, *args, nodes=nodes), expected[nodes].detach()
        )
        assert sizes == [7, 7]
        call_expert(expert.train(), x, *args)
        assert sizes == [7, 7], "in training mode, norms see all nodes"
