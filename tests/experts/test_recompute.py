import copy

import pytest
import torch

from mowst import GAT, GCN, GraphSAGE

SIZES = {"in_channels": 6, "hidden_channels": 8, "num_layers": 3, "out_channels": 3, "dropout": 0.5}


@pytest.mark.parametrize("kind", [GCN, GraphSAGE, GAT])
@pytest.mark.parametrize("norm", [None, "batch_norm", "layer_norm"])
def test_recomputed_layers_give_the_same_loss_gradients_and_statistics(data, kind, norm):
    torch.manual_seed(0)
    expert = kind(**SIZES, norm=norm)
    results = []
    for again in (False, True):
        each = copy.deepcopy(expert)
        each.checkpoint_activations = again
        torch.manual_seed(1)
        loss = torch.nn.functional.cross_entropy(each(data.x, data.edge_index), data.y)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in each.parameters()), *each.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_of_a_layer_only_what_goes_into_it_is_kept(data):
    kept = {}
    for again in (False, True):
        expert = GCN(**SIZES)
        expert.checkpoint_activations = again
        own = {tensor.data_ptr() for tensor in (data.x, data.edge_index, *expert.parameters())}
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            expert(data.x, data.edge_index)
        kept[again] = sum(size for at, size in sizes.items() if at not in own)
    assert kept[True] == 2 * 8 * data.num_nodes < kept[False]
