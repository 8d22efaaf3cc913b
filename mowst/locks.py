r"""Locks between processes. The operating system releases them when a process ends."""

import errno
from typing import Any

from filelock import FileLock

REFUSALS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


class Lock(FileLock):
    r"""A :class:`filelock.FileLock` that explains why a file system refuses it.

    On file systems without locks, such as Lustre without the option :obj:`flock`, the lock is a
    file that exists while a process holds it. If that process is killed, it remains until a process
    on the same machine finds that its owner has ended.

    Raises:
        OSError: If the file system has locks, but refuses this one, as NFS does without its lock
            service. Names the file.
    """

    def acquire(self, *args: Any, **kwargs: Any) -> Any:
        r"""Acquires the lock, see :meth:`filelock.FileLock.acquire`."""
        try:
            return super().acquire(*args, **kwargs)
        except OSError as error:
            if error.errno not in REFUSALS:
                raise
            message = (
                f"{error.strerror}: the file system refuses locks, without which two processes "
                "could write there at once; start its lock service, or choose a folder elsewhere"
            )
            raise OSError(error.errno, message, self.lock_file) from error
