r"""Large blocks of memory: kept instead of returned to the kernel, and mapped in large pages.

glibc returns large blocks to the kernel when they are freed; training frees and allocates the same
large blocks in every epoch, and the kernel clears each page again. The command line program turns
this off at its start. A program that uses the library can call :func:`keep_freed_memory` itself
(importing the package does not), or set, before it starts,
:obj:`MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456`. In any
setting, the large results of this package's own operators ask for large pages
(:func:`advise_large_pages`). torch does the same for all of its tensors in a process that starts
with :obj:`THP_MEM_ALLOC_ENABLE=1`.
"""

import ctypes
import mmap
import sys

from torch import Tensor

# The names and numbers of malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = -1
TOP_PAD = 256 * 2**20
# Smaller blocks come from the heap, whose pages are mapped already.
MIN_LARGE = 8 * 2**20

_libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def keep_freed_memory() -> bool:
    r"""Tells glibc to serve every block from the heap, to grow it by 256 MiB at a time, and never
    to shrink it.

    Returns:
        bool: Whether it took effect. It does not without glibc.
    """
    mallopt = getattr(_libc, "mallopt", None)
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD))
    return mallopt is not None and all([bool(mallopt(name, value)) for name, value in settings])


def advise_large_pages(fresh: Tensor) -> Tensor:
    r"""Returns the same uninitialised CPU tensor and advises the kernel to map its memory in large
    pages. Mapping a large block in pages of 4 KiB takes longer than filling it.
    """
    size = fresh.numel() * fresh.element_size()
    if _libc is not None and fresh.device.type == "cpu" and size >= MIN_LARGE:
        start = -(-fresh.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (fresh.data_ptr() + size - start) // mmap.PAGESIZE * mmap.PAGESIZE
        # Advice only: where the kernel does not take it, nothing changes.
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)
    return fresh
