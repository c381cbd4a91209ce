"""Memory that a training pass frees stays with the process, for the next pass.

glibc gives it back to the system, which clears every page anew when the next pass asks for it.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM, _MMAP = -1, -3
"""mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""
_LARGEST = 2**25
"""The largest threshold that glibc takes for what it maps on its own, and comes to by itself."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory in this context, for the whole process; give it back at the end.

    Where the allocator is another one, or the environment sets it up, nothing changes.

    Source: mallopt(3), of which glibc makes twice the one threshold the other.
    """
    if not _is_ours():
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP, _LARGEST)
    libc.mallopt(_TRIM, -1)
    try:
        yield
    finally:
        libc.mallopt(_TRIM, 2 * _LARGEST)
        libc.malloc_trim(0)


def _is_ours() -> bool:
    told = [name for name in os.environ if name.startswith("MALLOC_")]
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return platform.libc_ver()[0] == "glibc" and not told and not tuned
