r"""Keeping freed memory in the process, instead of handing it to the kernel and asking for it again.

glibc returns large blocks to the kernel when they are freed; training frees and allocates the same large blocks in
every epoch, and the kernel clears each page anew. The command line program turns this off at its start. A program that
uses the library can call :func:`keep_freed_memory` itself (importing the package does not), or set, before it starts,
:obj:`MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456`.
"""

import ctypes
import sys

# The names and numbers of malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
NEVER = -1
TOP_PAD = 256 * 2**20


def keep_freed_memory() -> bool:
    r"""Tells glibc to serve every block from the heap, to grow it by 256 MiB at a time, and never to shrink it.

    Returns:
        bool: whether it took effect: :obj:`False` where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD))
    return mallopt is not None and all([bool(mallopt(name, value)) for name, value in settings])
