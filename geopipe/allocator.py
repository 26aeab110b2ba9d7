"""Settings of the C library's allocator, so that memory is kept between two convolutions."""

import ctypes
import platform
from functools import cache

_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -3, -1, -8
_LARGEST = 1 << 30


@cache
def tune_malloc() -> bool:
    """Let glibc keep freed memory; whether it does (there is nothing to do elsewhere).

    By default glibc hands every large tensor back to the kernel, and each convolution's output
    is paged in anew: mapping took five times as long, most of it in the kernel.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # One arena: memory that one thread frees serves the next tile of another.
    settings = {_M_MMAP_THRESHOLD: _LARGEST, _M_TRIM_THRESHOLD: _LARGEST, _M_ARENA_MAX: 1}
    return all(libc.mallopt(k, v) == 1 for k, v in settings.items())


def trim_malloc() -> None:
    """Hand memory that is free back to the system, for what comes next."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
