import pytest
import torch

from mowst.sparse import memory
from mowst.sparse.memory import advise_large_pages, keep_freed_memory


@pytest.mark.parametrize("shape", [(0, 4), (3, 5), (1024, 3000)])
def test_large_pages_hold_what_is_written(shape):
    fresh = torch.empty(shape)
    advised = advise_large_pages(fresh)
    assert advised is fresh
    values = torch.rand(shape)
    assert advised.copy_(values).equal(values)


def test_without_linux_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(memory, "_libc", None)
    assert not keep_freed_memory()
    assert advise_large_pages(torch.zeros(1024, 3000)).eq(0).all()
