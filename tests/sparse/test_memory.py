import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mowst.sparse import memory
from mowst.sparse.memory import keep_freed_memory, make_empty

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="glibc and madvise are Linux's"
)

LARGE = (1024, 3000)  # just above the limit


@pytest.mark.parametrize("shape", [(), (0, 4), (3, 5), LARGE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_an_empty_tensor_is_like_any_other(shape, dtype):
    like = torch.zeros(1, dtype=dtype)
    fresh, values = make_empty(like, *shape), torch.ones(shape, dtype=dtype)
    assert fresh.dtype == dtype and fresh.is_contiguous() and not fresh._is_view()
    assert fresh.copy_(values).equal(values)


def test_without_linux_blocks_are_torchs(monkeypatch):
    monkeypatch.setattr(memory, "_libc", None)
    assert not keep_freed_memory()
    assert make_empty(torch.zeros(1), *LARGE).untyped_storage().resizable()


@linux
def test_a_block_serves_again_when_its_last_tensor_is_gone():
    memory._unused.clear()
    first = make_empty(torch.zeros(1), *LARGE)
    at, row, storage = first.data_ptr(), first[0], first.untyped_storage()
    for kept in ("tensor", "view", "storage"):
        assert make_empty(torch.zeros(1), *LARGE).data_ptr() != at, kept
        first = None
        row = row if kept == "tensor" else None
    del storage
    again = make_empty(torch.zeros(1), 1000, 3000)
    assert again.data_ptr() == at
    assert make_empty(torch.zeros(1), 100, 3000).data_ptr() != at  # another size, and it is taken


@linux
def test_few_blocks_are_kept():
    for _ in range(2):
        blocks = [make_empty(torch.zeros(1), *LARGE) for _ in range(20)]
        assert len({block.data_ptr() for block in blocks}) == 20
        del blocks
    assert len(memory._unused) == 16


@linux
def test_threads_never_share_a_block():
    def fill(number):
        for _ in range(10):
            block = make_empty(torch.zeros(1), *LARGE).fill_(number)
            time.sleep(0.0005)
            if not block.eq(number).all():
                return False
        return True

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(fill, range(4)))
