import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch_geometric.data import Data

from mowst import MLP, LearnedGate, Mowst, build_expert
from mowst.nn.evaluating import evaluating
from mowst.serve import Predictor


def modes(module):
    return [part.training for part in module.modules()]


def test_each_submodule_gets_its_own_mode_back():
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    module[0].eval()
    with pytest.raises(KeyError), evaluating(module):
        assert modes(module) == [False] * 3
        raise KeyError
    assert modes(module) == [True, False, True]


def test_it_lasts_until_the_last_one_leaves():
    module = torch.nn.Sequential(torch.nn.Dropout())
    entered, joined, left = (threading.Event() for _ in range(3))

    def other():
        with evaluating(module):
            entered.set()
            joined.wait()
        left.set()

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    with evaluating(module[0]):
        joined.set()
        left.wait()
        assert not module[0].training and module.training
    assert modes(module) == [True, True]
    thread.join()


@pytest.mark.parametrize("strong", ["gcn", "sage", "gat"])
def test_ten_threads_predict_with_one_model_in_training_mode(strong, make_task):
    data = make_task(num_nodes=200).data
    sizes = {
        "in_channels": 6,
        "hidden_channels": 16,
        "num_layers": 2,
        "out_channels": 3,
        "dropout": 0.8,
    }
    strong = build_expert(strong, **{**sizes, "dropout": 0.8})
    model = Mowst(MLP(**sizes), strong, LearnedGate(4, dropout=0.8)).train()
    predictor = Predictor(model, Data(x=data.x, edge_index=data.edge_index), threshold=0.5)
    acts = [
        lambda: model.predict(data.x, data.edge_index),
        lambda: model.predict(data.x, data.edge_index, threshold=0.5),
        lambda: predictor.predict(torch.arange(0, 200, 3)).labels,
    ]
    wanted = [act() for act in acts]
    barrier = threading.Barrier(10)

    def work(number):
        barrier.wait()
        return [acts[(number + k) % 3]().equal(wanted[(number + k) % 3]) for k in range(15)]

    with ThreadPoolExecutor(10) as threads:
        assert all(all(same) for same in threads.map(work, range(10)))
    assert all(modes(model))
