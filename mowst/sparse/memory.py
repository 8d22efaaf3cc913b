r"""Large blocks of memory: kept instead of returned to the kernel, and mapped in large pages.

glibc returns large blocks to the kernel when they are freed; training frees and allocates the same
large blocks in every epoch, and the kernel clears each page again. The command line program turns
this off at its start. A program that uses the library can call :func:`keep_freed_memory` itself
(importing the package does not), or set, before it starts,
:obj:`MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456`. In any
setting, the large results of this package's own operators are in blocks of large pages that are
used again (:func:`make_empty`). torch asks for large pages for all of its tensors in a process that
starts with :obj:`THP_MEM_ALLOC_ENABLE=1`.
"""

import ctypes
import mmap
import sys
from collections import deque
from contextlib import suppress
from math import prod
from weakref import finalize

import torch
from torch import Tensor

# The names and numbers of malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = -1
TOP_PAD = 256 * 2**20
# Smaller blocks come from the heap, whose pages are mapped already.
MIN_LARGE = 8 * 2**20
LARGE_PAGE = 2 * 2**20

_libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
# The last freed blocks. The kernel may take their pages at any time, see `_free_block`.
_unused: deque[mmap.mmap] = deque(maxlen=16)


def keep_freed_memory() -> bool:
    r"""Tells glibc to serve every block from the heap, to grow it by 256 MiB at a time, and never
    to shrink it.

    Returns:
        bool: Whether it took effect. It does not without glibc.
    """
    mallopt = getattr(_libc, "mallopt", None)
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD))
    return mallopt is not None and all([bool(mallopt(name, value)) for name, value in settings])


def takes_blocks(like: Tensor, *size: int) -> bool:
    r"""Returns whether :func:`make_empty` returns a block that is used again."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    if _libc is None or like.device.type != "cpu":
        return False
    return prod(size) * like.element_size() >= MIN_LARGE


def make_empty(like: Tensor, *size: int) -> Tensor:
    r"""Returns an uninitialised tensor of this size, and of the type and device of another.

    A large one on CPU is in a block of large pages. When the last tensor in the block is gone, the
    block serves the next tensor of about its size, whose pages need not be mapped and cleared
    again. Until then, the kernel may take the pages whenever it lacks memory.
    """
    if not takes_blocks(like, *size):
        return like.new_empty(size)
    block = _take_block(prod(size) * like.element_size())
    view = memoryview(block)  # the memory of the tensor keeps it alive
    finalize(view, _free_block, block).atexit = False
    return torch.frombuffer(view, dtype=like.dtype, count=prod(size)).resize_(size)  # no view


def _take_block(length: int) -> mmap.mmap:
    for block in reversed(list(_unused)):
        if length <= len(block) < 2 * length:
            with suppress(ValueError):  # another thread took it
                _unused.remove(block)
                return block
    pages = -(-length // LARGE_PAGE)
    block = mmap.mmap(-1, pages * LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without large pages
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def _free_block(block: mmap.mmap) -> None:
    with suppress(OSError):
        block.madvise(mmap.MADV_FREE)
    _unused.append(block)
