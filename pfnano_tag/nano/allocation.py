"""Memory of a chunk that is freed and wanted again a moment later: kept by the process instead of given back.

The arrays of a chunk have a few megabytes each. By default the GNU C library fetches such arrays from the system and
returns them one by one, and each time the system clears every page: reading chunk after chunk then spends up to a
third of its time there. The peak of the memory stays what it is: what is kept for the next chunk was in use before.
"""

from __future__ import annotations

import ctypes
import platform

LARGEST = 32 << 20
"""Arrays up to this size are kept [bytes]; the library allows no more."""
KEPT = 512 << 20
"""Free memory that is kept at most [bytes]."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed arrays for the next ones; returns whether it does (other libraries: no)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_MMAP_THRESHOLD, LARGEST)) and bool(library.mallopt(_TRIM_THRESHOLD, KEPT))
