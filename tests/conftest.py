import os
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported

import pytest
import torch
from threadpoolctl import threadpool_limits
from torch_geometric.data import Data

from mowst import GraphTask

# Tests are small: a second thread would only wait for the first, in BLAS and in child processes
# too.
torch.set_num_threads(1)
threadpool_limits(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# torch.manual_seed formats the stack for each kind of device that this machine does not have, which
# takes as long as an epoch of a small test.
for devices in (torch.cuda, torch.xpu, torch.mtia):
    if not devices.is_available():
        devices.manual_seed_all = lambda seed: None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    r"""Keeps the tests of a file in one process, where they share its fixtures."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


def random_graph(
    num_nodes: int = 30, num_features: int = 6, num_classes: int = 3, seed: int = 0
) -> Data:
    r"""A random graph whose features and neighbourhoods both tell something of the class."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(num_nodes) % num_classes
    x = torch.randn(num_nodes, num_features, generator=generator)
    x[torch.arange(num_nodes), y] += 1.5
    pairs = torch.randint(num_nodes, (2, 12 * num_nodes), generator=generator)
    same = y[pairs[0]] == y[pairs[1]]
    pairs = pairs[:, same | (torch.rand(pairs.size(1), generator=generator) < 0.2)]
    edge_index = torch.cat([pairs, pairs.flip(0)], dim=1).unique(dim=1)
    order = torch.randperm(num_nodes, generator=generator)
    masks = {}
    for name, part in zip(
        ("train", "val", "test"),
        order.tensor_split([num_nodes // 2, 3 * num_nodes // 4]),
        strict=True,
    ):
        masks[f"{name}_mask"] = torch.zeros(num_nodes, dtype=torch.bool).index_fill(0, part, True)
    return Data(x=x, y=y, edge_index=edge_index, **masks)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    r"""Nothing is downloaded, and caches lie beside the files of the test."""
    monkeypatch.setenv("MOWST_OFFLINE", "1")
    monkeypatch.delenv("MOWST_CACHE", raising=False)


@pytest.fixture
def data() -> Data:
    return random_graph()


@pytest.fixture
def task(data: Data) -> GraphTask:
    return GraphTask.from_data(data)


@pytest.fixture(scope="session")
def make_task() -> Callable[..., GraphTask]:
    return lambda **sizes: GraphTask.from_data(random_graph(**sizes))
